# SPDX-License-Identifier: Apache-2.0
"""What a robot looks like, for those who draw it: capsules, and from where they are best seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Capsules:
    """The bodies of a robot in one posture. A sphere is a capsule whose ends are the same place."""

    names: tuple[str, ...]  # [G]
    ends: np.ndarray  # [G, 2, 3], middles of the two half spheres in the world, m
    radius: np.ndarray  # [G], m

    @property
    def centre(self) -> np.ndarray:
        """Middle of the first body, [3]."""
        return self.ends[0].mean(axis=0)


@dataclass(frozen=True)
class View:
    """A picture of the world along one of its axes."""

    across: int  # axis of the world to the right in the picture
    up: int
    low: float  # the picture's lower and upper edge, m
    high: float
    follows: bool  # whether the robot stays in the middle, or the origin
