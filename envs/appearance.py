# SPDX-License-Identifier: Apache-2.0
"""What a robot looks like, for those who draw it: capsules, the links that carry them, and from where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

WORLD = "world"  # the link that all others hang on
Motion = Literal["fixed", "slide", "turn", "float"]


@dataclass(frozen=True)
class Capsules:
    """The bodies of a robot in one posture. A sphere is a capsule whose ends are the same place."""

    names: tuple[str, ...]  # [G]
    ends: np.ndarray  # [G, 2, 3], middles of the two half spheres in the world, m
    radius: np.ndarray  # [G], m

    @classmethod
    def none(cls) -> Capsules:
        """Return what nothing looks like."""
        return cls((), np.zeros((0, 2, 3)), np.zeros(0))

    @property
    def centre(self) -> np.ndarray:
        """Middle of the first body, [3]."""
        return self.ends[0].mean(axis=0)


@dataclass(frozen=True)
class Link:
    """A rigid part of a robot and the joint that joins it to its parent.

    The link's frame is the joint's: with the joint at zero it is at `place`, turned by `rotation`, in the parent's.
    """

    name: str
    parent: str  # another link, or WORLD
    motion: Motion  # what the joint lets it do: along or about `axis`, or anything
    joint: str  # name in joint states; empty if fixed
    axis: np.ndarray  # [3], of unit length
    place: np.ndarray  # [3], m
    rotation: np.ndarray  # [3, 3]
    limits: tuple[float, float] | None  # of the joint, m or rad
    shape: Capsules  # in the link's frame


@dataclass(frozen=True)
class View:
    """A picture of the world from far away, along one of its axes; for flat pictures also from another side."""

    across: int  # axis of the world to the right in the picture
    up: int
    low: float  # the picture's lower and upper edge, m
    high: float
    follows: bool  # whether the robot stays in the middle, or the origin
    turned: float = 0.0  # rad, of the camera about the vertical
    raised: float = 0.0  # rad, of the camera above the horizontal

    @property
    def axes(self) -> np.ndarray:
        """Directions to the right and up in a flat picture, in the world, [2, 3]."""
        right, up = np.eye(3)[[self.across, self.up]]
        ahead = np.cross(up, right)
        if self.turned:
            right, ahead = (
                np.cos(self.turned) * right + np.sin(self.turned) * ahead,
                np.cos(self.turned) * ahead - np.sin(self.turned) * right,
            )
        return np.stack([right, np.cos(self.raised) * up + np.sin(self.raised) * ahead])
