# SPDX-License-Identifier: Apache-2.0
"""Meta-World's tasks as data: what each varies, and which make up ML1, ML10 and ML45.

Yu et al., arXiv 1910.10897; ranges and splits are those of the package ``metaworld`` 3, whose task ``reach-v3`` is
``reach`` here. The parameter of a task is Meta-World's random vector: three numbers say where the object lies, three
more, if there are, where the goal is, or another object; in m, as MuJoCo's world has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.base_task import BaseTask, Form

Place = tuple[float, float, float]

# Lowest and highest place of the first object; those of the goal or second object; how far the two must at least be
# apart on the table, m: nearer to each other, Meta-World draws again.
_RANGES: dict[str, tuple[tuple[Place, ...], tuple[Place, ...], float]] = {
    "assembly": (((0, 0.6, 0.02), (-0.1, 0.75, 0.1)), ((0, 0.6, 0.02), (0.1, 0.85, 0.1)), 0.1),
    "basketball": (((-0.1, 0.6, 0.0299), (-0.1, 0.85, 0)), ((0.1, 0.7, 0.0301), (0.1, 0.9 + 1e-7, 0)), 0.15),
    "bin-picking": (((-0.21, 0.65, 0.02), (0.1199, 0.699, -0.001)), ((-0.03, 0.75, 0.02), (0.1201, 0.701, 0.001)), 0),
    "box-close": (((-0.05, 0.5, 0.02), (-0.1, 0.7, 0.133)), ((0.05, 0.55, 0.02), (0.1, 0.8, 0.133)), 0.25),
    "button-press-topdown": (((-0.1, 0.8, 0.115),), ((0.1, 0.9, 0.115),), 0),
    "button-press-topdown-wall": (((-0.1, 0.8, 0.115),), ((0.1, 0.9, 0.115),), 0),
    "button-press": (((-0.1, 0.85, 0.115),), ((0.1, 0.9, 0.115),), 0),
    "button-press-wall": (((-0.05, 0.85, 0.1149),), ((0.05, 0.9, 0.1151),), 0),
    "coffee-button": (((-0.1, 0.8, -0.001),), ((0.1, 0.9, 0.001),), 0),
    "coffee-pull": (((-0.05, 0.7, -0.001), (-0.1, 0.55, -0.001)), ((0.05, 0.75, 0.001), (0.1, 0.65, 0.001)), 0.15),
    "coffee-push": (((-0.1, 0.55, -0.001), (-0.05, 0.7, -0.001)), ((0.1, 0.65, 0.001), (0.05, 0.75, 0.001)), 0.15),
    "dial-turn": (((-0.1, 0.7, 0),), ((0.1, 0.8, 0),), 0),
    "disassemble": (((0, 0.6, 0.025), (-0.1, 0.6, 0.1699)), ((0.1, 0.75, 0.02501), (0.1, 0.75, 0.1701)), 0.1),
    "door-close": (((0, 0.85, 0.15),), ((0.1, 0.95, 0.15),), 0),
    "door-lock": (((-0.1, 0.8, 0.15),), ((0.1, 0.85, 0.15),), 0),
    "door-open": (((0, 0.85, 0.15),), ((0.1, 0.95, 0.15),), 0),
    "door-unlock": (((-0.1, 0.8, 0.15),), ((0.1, 0.85, 0.15),), 0),
    "hand-insert": (((-0.1, 0.6, 0.05), (-0.04, 0.8, -0.0201)), ((0.1, 0.7, 0.05), (0.04, 0.88, -0.0199)), 0.15),
    "drawer-close": (((-0.1, 0.9, 0),), ((0.1, 0.9, 0),), 0),
    "drawer-open": (((-0.1, 0.9, 0),), ((0.1, 0.9, 0),), 0),
    "faucet-open": (((-0.05, 0.8, 0),), ((0.05, 0.85, 0),), 0),
    "faucet-close": (((-0.1, 0.8, 0),), ((0.1, 0.85, 0),), 0),
    "hammer": (((-0.1, 0.4, 0),), ((0.1, 0.5, 0),), 0),
    "handle-press-side": (((-0.35, 0.65, -0.001),), ((-0.25, 0.75, 0.001),), 0),
    "handle-press": (((-0.1, 0.8, -0.001),), ((0.1, 0.9, 0.001),), 0),
    "handle-pull-side": (((-0.35, 0.65, 0),), ((-0.25, 0.75, 0),), 0),
    "handle-pull": (((-0.1, 0.8, -0.001),), ((0.1, 0.9, 0.001),), 0),
    "lever-pull": (((-0.1, 0.7, 0),), ((0.1, 0.8, 0),), 0),
    "pick-place-wall": (((-0.05, 0.6, 0.015), (-0.05, 0.85, 0.05)), ((0.05, 0.65, 0.015), (0.05, 0.9, 0.3)), 0.15),
    "pick-out-of-hole": (((0, 0.75, 0.02), (-0.1, 0.5, 0.15)), ((0, 0.75, 0.02), (0.1, 0.6, 0.3)), 0.15),
    "pick-place": (((-0.1, 0.6, 0.02), (-0.1, 0.8, 0.05)), ((0.1, 0.7, 0.02), (0.1, 0.9, 0.3)), 0.15),
    "plate-slide": (((0, 0.6, 0), (-0.1, 0.85, 0)), ((0, 0.6, 0), (0.1, 0.9, 0)), 0),
    "plate-slide-side": (((0, 0.6, 0), (-0.3, 0.54, 0)), ((0, 0.6, 0), (-0.25, 0.66, 0)), 0),
    "plate-slide-back": (((0, 0.85, 0), (-0.1, 0.6, 0.015)), ((0, 0.85, 0), (0.1, 0.6, 0.015)), 0),
    "plate-slide-back-side": (((-0.25, 0.6, 0), (-0.05, 0.6, 0.015)), ((-0.25, 0.6, 0), (0.15, 0.6, 0.015)), 0),
    "peg-insert-side": (((0, 0.5, 0.02), (-0.35, 0.4, -0.001)), ((0.2, 0.7, 0.02), (-0.25, 0.7, 0.001)), 0.1),
    "peg-unplug-side": (((-0.25, 0.6, -0.001),), ((-0.15, 0.8, 0.001),), 0),
    "soccer": (((-0.1, 0.6, 0.03), (-0.1, 0.8, 0)), ((0.1, 0.7, 0.03), (0.1, 0.9, 0)), 0.15),
    "stick-push": (((-0.08, 0.58, 0), (0.399, 0.55, 0.1319)), ((-0.03, 0.62, 0.001), (0.401, 0.6, 0.1321)), 0.1),
    "stick-pull": (((-0.1, 0.55, 0), (0.35, 0.45, 0.0199)), ((0, 0.65, 0.001), (0.45, 0.55, 0.0201)), 0.1),
    "push": (((-0.1, 0.6, 0.02), (-0.1, 0.8, 0.01)), ((0.1, 0.7, 0.02), (0.1, 0.9, 0.02)), 0.15),
    "push-wall": (((-0.05, 0.6, 0.015), (-0.05, 0.85, 0.01)), ((0.05, 0.65, 0.015), (0.05, 0.9, 0.02)), 0.15),
    "push-back": (((-0.1, 0.8, 0.02), (-0.1, 0.6, 0.0199)), ((0.1, 0.85, 0.02), (0.1, 0.7, 0.0201)), 0.15),
    "reach": (((-0.1, 0.6, 0.02), (-0.1, 0.8, 0.05)), ((0.1, 0.7, 0.02), (0.1, 0.9, 0.3)), 0.15),
    "reach-wall": (((-0.05, 0.6, 0.015), (-0.05, 0.85, 0.05)), ((0.05, 0.65, 0.015), (0.05, 0.9, 0.3)), 0.15),
    "shelf-place": (((-0.1, 0.5, 0.019), (-0.1, 0.8, 0.299)), ((0.1, 0.6, 0.021), (0.1, 0.9, 0.301)), 0.1),
    "sweep-into": (((-0.1, 0.6, 0.02), (-0.001, 0.8399, 0.0199)), ((0.1, 0.7, 0.02), (0.001, 0.8401, 0.0201)), 0.15),
    "sweep": (((-0.1, 0.6, 0.02),), ((0.1, 0.7, 0.02),), 0),
    "window-open": (((-0.1, 0.7, 0.16),), ((0.1, 0.9, 0.16),), 0),
    "window-close": (((0, 0.75, 0.2),), ((0, 0.9, 0.2),), 0),
}
_ML10 = "reach push pick-place door-open drawer-close button-press-topdown peg-insert-side window-open sweep basketball"
_ML10_HELD_OUT = "drawer-open door-close shelf-place sweep-into lever-pull"
_ML45_HELD_OUT = "bin-picking box-close hand-insert door-lock door-unlock"


@dataclass(frozen=True)
class ArrangedTask(BaseTask):
    """A base task of Meta-World. Its reward is the package's own, and the parameter says where things lie.

    Each entry of the parameter has a range of its own, [`lows`, `highs`].
    """

    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    apart: float = 0.0  # [m], on the table, between the places that the parameter begins and ends with
    form: Form = "world"
    control_cost: float = 0.0

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.lows), np.array(self.highs)

    @property
    def range_text(self) -> str:
        entries = (f"[{low:g}, {high:g}]" for low, high in zip(self.lows, self.highs, strict=True))
        return f"{' x '.join(entries)} {self.parameter_unit}"

    def problem(self, parameter: Sequence[float]) -> str:
        """Return what is wrong with a parameter: Meta-World would draw another one for ever."""
        found = float(np.linalg.norm(np.subtract(parameter[:2], parameter[-3:-1])))
        if found < self.apart:
            return f"found two places of {self.name!r} {found:.3g} m apart, expected at least {self.apart:g} m"
        return ""

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a parameter [P] as Meta-World does: again until its two places are apart."""
        while self.problem((parameter := rng.uniform(self.lows, self.highs)).tolist()):
            pass
        return parameter

    def spread(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` parameters [count, P], drawn as Meta-World does it, independently."""
        return np.stack([self.sample(rng) for _ in range(count)]) if count else np.zeros((0, self.parameter_dim))


def _task(name: str, held_out: bool = False) -> ArrangedTask:
    low, high, apart = _RANGES[name]
    lows, highs = (tuple(float(entry) for place in places for entry in place) for places in (low, high))
    return ArrangedTask(
        name,
        quantity="reward",
        unit="",
        low=min(lows),
        high=max(highs),
        reward="along",
        parameter_dim=len(lows),
        held_out=held_out,
        lows=lows,
        highs=highs,
        apart=apart,
    )


def _split(known: Sequence[str], held_out: Sequence[str]) -> tuple[ArrangedTask, ...]:
    return (*(_task(name) for name in known), *(_task(name, held_out=True) for name in held_out))


ML1 = tuple(_task(name) for name in _RANGES)  # of which one is to be chosen
ML10 = _split(_ML10.split(), _ML10_HELD_OUT.split())
ML45 = _split([name for name in _RANGES if name not in _ML45_HELD_OUT.split()], _ML45_HELD_OUT.split())
