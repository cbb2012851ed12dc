# SPDX-License-Identifier: Apache-2.0
"""Between a training in a thread of its own and the node: what operators want of it, and how far it is."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.task import Future

from tigr_core.bundle import Bundle
from tigr_core.progress import EPOCHS_FOR_ESTIMATE, Progress, duration
from tigr_core.rollout import Episodes
from tigr_core.stop import Stop


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    success: bool
    message: str


class Requests:
    """What operators want, told from any thread. The training asks by calling this between any two steps.

    Whatever is wanted, `Trainer.run` returns with the work saved; then `serve` says whether to call it again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = self._paused = False
        self._saves: list[Future[Answer]] = []
        self._last: Answer | None = None
        self.waiting = False  # paused, and nothing runs

    def __call__(self) -> Stop:
        if self._stopped:
            return Stop.AT_ONCE
        return Stop.AT_STEP if self._paused or self._saves else Stop.NO

    def stop(self) -> None:
        """Save and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Save and wait, or go on."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def save(self) -> Future[Answer]:
        """Save and go on; the future gets the `Answer`, and is to be awaited in a callback of the executor."""
        future: Future[Answer] = Future()
        with self._changed:
            self._saves.append(future)
            if self._last is not None:
                self._answer(self._last)
            self._changed.notify_all()
        return future

    def serve(self, saved: Answer) -> bool:
        """Say that all work is saved, wait while paused; return whether to go on."""
        with self._changed:
            try:
                while True:
                    self._answer(saved)
                    if self._stopped or not self._paused:
                        return not self._stopped
                    self.waiting = True
                    self._changed.wait()
            finally:
                self.waiting = False

    def close(self, last: Answer) -> None:
        """The training has ended: answer whoever waits and whoever comes."""
        with self._changed:
            self._last = last
            self._answer(last)

    def _answer(self, answer: Answer) -> None:
        for future in self._saves:
            future.set_result(answer)
        self._saves.clear()


class TrainingProgress(Progress):
    """Writes the lines of `Progress` to a log, passes on what is published, and knows where the training is.

    The time left is told from training time (column `wall_s`), in which pauses do not count.
    """

    def __init__(
        self,
        log: Callable[[str], object],
        on_epoch: Callable[[dict[str, float]], None],
        on_evaluation: Callable[[Bundle, Episodes], None],
    ) -> None:
        super().__init__(sys.stdout)
        self._log, self._on_epoch, self._on_evaluation = log, on_epoch, on_evaluation
        self._walls: deque[tuple[int, float]] = deque(maxlen=EPOCHS_FOR_ESTIMATE + 1)
        self._epochs_done = -1  # epoch 0 is what is done before the first
        self._place = ("starting", 0, 0)
        self.last_row: dict[str, float] = {}

    @property
    def share_done(self) -> float:
        """Finished epochs over all epochs."""
        return max(self._epochs_done, 0) / self._total_epochs if self._total_epochs else 0.0

    @property
    def time_left_s(self) -> float:
        """By the mean of the last epochs; nan before two of them."""
        return self._left_s(max(self._epochs_done, 0))

    def __str__(self) -> str:
        if not self._total_epochs:
            return "starting"
        left = "" if math.isnan(self.time_left_s) else f", {duration(self.time_left_s)} left"
        phase, step, steps = self._place
        return f"epoch {self._epochs_done + 1} of {self._total_epochs}, {phase} {step} of {steps}{left}"

    def start(self, total_epochs: int, first_epoch: int) -> None:
        self._epochs_done = first_epoch - 1
        if not self._total_epochs:  # after a pause the heading is not repeated
            super().start(total_epochs, first_epoch)

    def phase(self, name: str, step: int, total: int) -> None:
        self._place = (name, step, total)

    def epoch(self, row: dict[str, float]) -> None:
        self._epochs_done = int(row["epoch"])
        self._walls.append((self._epochs_done, row["wall_s"]))
        self.last_row |= row  # what is measured in some epochs only stays
        super().epoch(row)
        self._on_epoch(row)

    def evaluation(self, bundle: Bundle, test: Episodes) -> None:
        self._on_evaluation(bundle, test)

    def _left_s(self, done: int) -> float:
        if len(self._walls) < 2:
            return math.nan
        (first, begin), (last, end) = self._walls[0], self._walls[-1]
        return (end - begin) / (last - first) * (self._total_epochs - done)

    def _write(self, text: str) -> None:
        self._log(text)
