# SPDX-License-Identifier: Apache-2.0
"""One kind of task, as data: which quantity of the robot is compared with which target, and how that is rewarded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Form = Literal["scaled", "direction", "dynamics", "world"]
Reward = Literal["relative", "relative_square", "absolute", "absolute_sum", "within", "along"]
GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


@dataclass(frozen=True)
class BaseTask:
    """One kind of task. `form` says how the target follows from the parameter:

    ===========  ==================================================================================
    scaled       parameter * axis
    direction    (cos parameter, sin parameter) * axis
    dynamics     axis; the parameter changes the robot instead: one entry for each of `Robot.dynamics`
    world        axis; the parameter says instead where things lie around the robot: see `Robot.arranged`
    ===========  ==================================================================================

    `reward` is the tracking reward, with the robot's `quantity` as value and |.| the Euclidean norm:

    ===============  ==================================================================
    relative         -|value - target| / |target|
    relative_square  -|value - target|^2 / |target|^2
    absolute         -|value - target|
    absolute_sum     -(sum of the absolute entries of value - target)
    within           1 - |value - target| where that distance is at most `reach`, else 0
    along            value . target
    ===============  ==================================================================

    Added to it are -control_cost * sum(action^2), `alive` in every step, and -impact_cost * the robot's quantity
    ``impact``.

    Raises:
        ValueError: unknown form or reward, bad range, or an axis that does not fit the parameter.
    """

    name: str
    quantity: str
    unit: str  # of the quantity
    low: float  # range of every entry of the parameter
    high: float
    reward: Reward
    axis: tuple[float, ...] = (1.0,)
    parameter_dim: int = 1
    control_cost: float = 0.05
    form: Form = "scaled"
    in_disc: bool = False  # the two entries of the parameter lie in the disc of radius `high` instead
    reach: float = 0.0
    alive: float = 0.0
    impact_cost: float = 0.0
    held_out: bool = False  # among the test tasks alone

    def __post_init__(self) -> None:
        for kind, found, known in (("reward", self.reward, get_args(Reward)), ("form", self.form, get_args(Form))):
            if found not in known:
                raise ValueError(f"found {kind} {found!r} of {self.name!r}, expected one of {known}")
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"found range [{self.low}, {self.high}] of {self.name!r}, expected finite low <= high")
        if self.form == "scaled" and self.parameter_dim not in (1, len(self.axis)):
            raise ValueError(
                f"found {self.parameter_dim} parameters and {len(self.axis)} axis entries of {self.name!r}, "
                "expected one parameter or as many as axis entries"
            )
        if self.form == "direction" and (self.parameter_dim, len(self.axis)) != (1, 2):
            raise ValueError(
                f"found {self.parameter_dim} parameters and {len(self.axis)} axis entries of the direction "
                f"{self.name!r}, expected one parameter and two axis entries"
            )
        if self.in_disc and self.parameter_dim != 2:
            raise ValueError(f"found {self.parameter_dim} parameters of {self.name!r} in a disc, expected two")

    @property
    def parameter_unit(self) -> str:
        return {"scaled": self.unit, "direction": "rad", "dynamics": "", "world": "m"}[self.form]

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value of each entry of the parameter, [P] each."""
        return np.full(self.parameter_dim, self.low), np.full(self.parameter_dim, self.high)

    @property
    def range_text(self) -> str:
        """The range of the parameter in words."""
        return f"[{self.low:g}, {self.high:g}] {self.parameter_unit}"

    @property
    def is_relative(self) -> bool:
        """Whether the reward divides by the length of the target."""
        return self.reward in ("relative", "relative_square")

    def problem(self, parameter: Sequence[float]) -> str:
        """Return what is wrong with a parameter of finite numbers; nothing of one that lies out of range."""
        if self.is_relative and self.form == "scaled" and not any(parameter):
            return f"found parameter 0 for base task {self.name!r}, expected another: its reward divides by it"
        return ""

    def target(self, parameter: Sequence[float]) -> np.ndarray:
        """Return the target [V] that a parameter [P] stands for."""
        axis = np.array(self.axis)
        if self.form in ("dynamics", "world"):
            return axis
        if self.form == "direction":
            return np.array([math.cos(parameter[0]), math.sin(parameter[0])]) * axis
        return np.array(parameter) * axis

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a parameter [P] uniformly."""
        if self.in_disc:
            angle, radius = rng.uniform(0.0, 2.0 * math.pi), self.high * math.sqrt(rng.uniform())
            return radius * np.array([math.cos(angle), math.sin(angle)])
        return rng.uniform(self.low, self.high, self.parameter_dim)

    def spread(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` shuffled parameters [count, P], evenly over the range along each axis, or over the disc."""
        if self.in_disc:
            place = np.arange(count) + 0.5
            radius, angle = self.high * np.sqrt(place / count), place * GOLDEN_ANGLE
            return rng.permutation(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
        # Both ends of a whole turn are the same direction.
        whole_turn = self.form == "direction" and math.isclose(self.high - self.low, 2.0 * math.pi)
        grid = np.linspace(self.low, self.high, count, endpoint=not whole_turn)
        return np.stack([rng.permutation(grid) for _ in range(self.parameter_dim)], axis=1)

    def describe(self, parameter: Sequence[float]) -> str:
        """Return a task in words, such as ``jump 2.0 m/s``; numbers about body or world are left out."""
        if self.form in ("dynamics", "world"):
            return self.name.replace("_", " ")
        numbers = ", ".join(f"{entry:.1f}" for entry in parameter)
        return " ".join([self.name.replace("_", " "), numbers, self.parameter_unit]).strip()
