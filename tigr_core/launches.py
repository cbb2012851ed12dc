# SPDX-License-Identifier: Apache-2.0
"""SAC steps as they are launched: one by one, or on a GPU many in one launch.

A step is some hundred kernels of microseconds each, which a GPU ends sooner than Python asks for the next. There the
kernels of many steps are captured once for each view of the replay data (CUDA graphs) and launched as one: drawing
transitions, both losses with their gradients, the optimisers and the target critics. Whatever changes with the number
of steps is set before a launch (`SACLearner.schedule`), and holds for all of its steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tigr_core.metric_means import Metrics
from tigr_core.sac_learner import SACLearner, TransitionBatch

# Records the kernels of a function without running them; returns its result, which they will fill, and what runs them.
Capture = Callable[[Callable[[], Metrics]], tuple[Metrics, Callable[[], None]]]

STEPS_PER_LAUNCH = 16  # or the next multiple of `sac.actor_every`
STEPS_BEFORE_CAPTURE = 4  # that create what is created once: states of the optimisers, handles of libraries


class Launches:
    """Takes SAC steps on what `draw` gives."""

    def __init__(self, learner: SACLearner, draw: Callable[[], TransitionBatch], capture: Capture | None) -> None:
        self.learner, self.draw, self.capture = learner, draw, capture
        every = learner.config.actor_every
        self.steps_per_launch = every * -(-STEPS_PER_LAUNCH // every)
        self._single = 0
        self._captured: tuple[Metrics, Callable[[], None]] | None = None

    def take(self, most: int) -> tuple[int, Metrics]:
        """Take one step, or up to `most` in one launch; return how many, and the means of their metrics."""
        aligned = self.learner.steps % self.learner.config.actor_every == 0
        if self.capture is None or most < self.steps_per_launch or self._single < STEPS_BEFORE_CAPTURE or not aligned:
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
            name: torch.stack([torch.as_tensor(step[name]) for step in steps if name in step]).mean()
            for name in steps[0]
        }


def cuda_capture(generator: torch.Generator) -> Capture:
    """Return what captures CUDA graphs of functions that draw from a generator on the GPU."""

    def capture(function: Callable[[], Metrics]) -> tuple[Metrics, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others collect meanwhile
            result = function()
        return result, graph.replay

    return capture
