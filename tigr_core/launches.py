# SPDX-License-Identifier: Apache-2.0
"""Steps of learning as they are launched: one by one, or on a GPU the kernels of one or many in one launch.

A step is some hundred kernels of microseconds each, which a GPU ends sooner than Python asks for the next. There they
are captured once (CUDA graphs), anew in each epoch, whose replay data may lie elsewhere, and launched as one.

Of SAC, many steps are one launch: drawing transitions, both losses with their gradients, the optimisers and the target
critics. Whatever changes with the number of steps is set before a launch (`SACLearner.schedule`), and holds for all of
its steps. Of inference, one step is one launch: what the processor draws for it, from the lengths of episodes, is sent
before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from tigr_core.metric_means import Metrics
from tigr_core.sac_learner import SACLearner, TransitionBatch

# Records the kernels of a function without running them; returns its result, which they will fill, and what runs them.
Capture = Callable[[Callable[[], Any]], tuple[Any, Callable[[], None]]]

STEPS_PER_LAUNCH = 16  # or the next multiple of `sac.actor_every`
STEPS_BEFORE_CAPTURE = 4  # that create what is created once: states of the optimisers, handles of libraries


class SACLaunches:
    """Takes SAC steps on what `draw` gives."""

    def __init__(self, learner: SACLearner, draw: Callable[[], TransitionBatch], capture: Capture | None) -> None:
        self.learner, self.draw, self.capture = learner, draw, capture
        every = learner.config.actor_every
        self.steps_per_launch = every * -(-STEPS_PER_LAUNCH // every)
        self._single = 0
        self._captured: tuple[Metrics, Callable[[], None]] | None = None

    def take(self, most: int) -> tuple[int, Metrics]:
        """Take one step, or up to `most` in one launch; return how many, and the means of their metrics."""
        warm, aligned = self._single >= STEPS_BEFORE_CAPTURE, self.learner.actor_learns
        if self.capture is None or most < self.steps_per_launch or not warm or not aligned:
            self._single += 1
            return 1, self.learner.step(self.draw())
        self.learner.schedule()
        if self._captured is None:
            self._captured = self.capture(self._launched_steps)  # the learner counts these steps, which run below
        else:
            self.learner.steps += self.steps_per_launch
        metrics, launch = self._captured
        launch()
        return self.steps_per_launch, metrics

    def _launched_steps(self) -> Metrics:
        steps = [self.learner.update(self.draw()) for _ in range(self.steps_per_launch)]
        return {
            name: torch.stack([cast(Tensor, step[name]) for step in steps if name in step]).mean() for name in steps[0]
        }


class Launched:
    """A function of tensors whose sizes stay the same, called as one launch.

    What it gives is overwritten by the next call. Numbers of Python's that it reads have to stay the same as well.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]], capture: Capture) -> None:
        self._function, self._capture = function, capture
        self._single = 0
        self._given: tuple[Tensor, ...] = ()
        self._captured: tuple[dict[str, Tensor], Callable[[], None]] | None = None

    def __call__(self, *given: Tensor) -> dict[str, Tensor]:
        if self._single < STEPS_BEFORE_CAPTURE:
            self._single += 1
            return self._function(*given)
        if self._captured is None:
            self._given = tuple(value.clone() for value in given)
            self._captured = self._capture(lambda: self._function(*self._given))
        for own, new in zip(self._given, given, strict=True):
            own.copy_(new, non_blocking=True)
        metrics, launch = self._captured
        launch()
        return metrics


def cuda_capture(generator: torch.Generator) -> Capture:
    """Return what captures CUDA graphs of functions that draw from a generator on the GPU."""

    def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others collect meanwhile
            result = function()
        return result, graph.replay

    return capture
