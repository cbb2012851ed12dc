# SPDX-License-Identifier: Apache-2.0
"""Training progress in the terminal: one line an epoch; on a terminal also live bars below the lines."""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections import deque
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from tigr_core.bundle import Bundle
from tigr_core.rollout import Episodes

REFRESH_S = 0.1
EPOCHS_FOR_ESTIMATE = 10
TABLE_WIDTH = 140  # where there is no terminal to ask


class Progress:
    """Line-based progress, for log files and pipes: no control characters. Use as a context manager.

    The line of an epoch shows throughput within its phase: env steps per second of collection and SAC steps
    per second of policy learning (columns `time/collect_s` and `time/sac_s` of progress.csv). Where the next epoch's
    episodes are collected at the same time (column `collect_staleness`), env steps are told per second of the epoch.
    """

    HEADER = "    epoch   steps  collect    train     test  accuracy   env/s  SAC/s  time left"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total_epochs = 0
        self._previous: dict[str, float] = {}
        self._ends: deque[float] = deque(maxlen=EPOCHS_FOR_ESTIMATE + 1)

    def start(self, total_epochs: int, first_epoch: int) -> None:
        """Begin with epoch `first_epoch` of `total_epochs`; epoch 0 is what is done before the first."""
        self._total_epochs = total_epochs
        self._ends.append(time.monotonic())
        self._write(self.HEADER)

    def phase(self, name: str, step: int, total: int) -> None:
        """Tell that `step` of `total` steps of phase `name` of this epoch are done. Cheap: call often."""

    def epoch(self, row: dict[str, float]) -> None:
        """Show the row of progress.csv of a finished epoch."""
        self._ends.append(time.monotonic())
        done = int(row["epoch"])
        cells = (
            f"{done}/{self._total_epochs}".rjust(9),
            _count(row.get("env_steps", math.nan)).rjust(6),
            _decimal(row.get("collect_return", math.nan), 1).rjust(7),
            _decimal(row.get("train_return", math.nan), 1).rjust(7),
            _decimal(row.get("test_return", math.nan), 1).rjust(7),
            _decimal(_component_accuracy(row), 2).rjust(8),
            self._rate(row, "env_steps", self._collecting_s(row)).rjust(6),
            self._rate(row, "sac_steps", row.get("time/sac_s", math.nan)).rjust(5),
            duration(self._left_s(done)).rjust(9),
        )
        self._write("  ".join(cells))
        self._previous = dict(row)

    def evaluation(self, bundle: Bundle, test: Episodes) -> None:
        """Take an evaluation: the model as it is now, and an episode of each test task. Nothing of it is shown here."""

    def message(self, text: str) -> None:
        """Show a line of text."""
        self._write(text)

    def table(self, table: Table) -> None:
        """Show a table."""
        text = io.StringIO()
        Console(file=text, width=TABLE_WIDTH).print(table)
        self._write("\n".join(line.rstrip() for line in text.getvalue().splitlines()))

    def close(self) -> None:
        """End the display; lines already written stay."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _collecting_s(self, row: dict[str, float]) -> float:
        if "collect_staleness" in row:
            return row["wall_s"] - self._previous.get("wall_s", math.nan)
        return row.get("time/collect_s", math.nan)

    def _rate(self, row: dict[str, float], counter: str, seconds: float) -> str:
        done = row.get(counter, math.nan) - self._previous.get(counter, math.nan)
        return _count(done / seconds) if seconds > 0 else _count(math.nan)

    def _left_s(self, done: int) -> float:
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1) * (self._total_epochs - done)


class LiveProgress(Progress):
    """Lines as in `Progress`, and below them a bar for the run and one for the phase that is running."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = Console(file=stream, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description:>12}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[note]}", markup=True),
            console=self._console,
            transient=True,
        )
        self._run_bar = self._bars.add_task("run", note="")
        self._phase_bar = self._bars.add_task("", note="", total=None)
        self._phase_name = ""
        self._next_refresh = 0.0

    def start(self, total_epochs: int, first_epoch: int) -> None:
        super().start(total_epochs, first_epoch)
        self._bars.update(self._run_bar, total=total_epochs, completed=max(first_epoch - 1, 0))
        self._bars.start()

    def phase(self, name: str, step: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next_refresh and name == self._phase_name:
            return
        self._next_refresh, self._phase_name = now + REFRESH_S, name
        note = f"{_count(step)} of {_count(total)}"
        self._bars.update(self._phase_bar, description=name, total=total, completed=step, note=note)

    def epoch(self, row: dict[str, float]) -> None:
        super().epoch(row)
        note = f"{duration(self._left_s(int(row['epoch'])))} left"
        self._bars.update(self._run_bar, completed=row["epoch"], note=note)

    def table(self, table: Table) -> None:
        self._console.print(table)

    def close(self) -> None:
        self._bars.stop()

    def _write(self, text: str) -> None:
        style = "bold" if text == self.HEADER else None
        self._console.print(text, style=style, markup=False)


def make_progress(stream: TextIO | None = None) -> Progress:
    """Return a live display if `stream` (default: standard output) is a terminal, else a line-based one."""
    stream = sys.stdout if stream is None else stream
    return LiveProgress(stream) if stream.isatty() and os.environ.get("TERM") != "dumb" else Progress(stream)


def _component_accuracy(row: dict[str, float]) -> float:
    """Accuracy at step 50, or at the last step there is: short episodes end before 50."""
    found = {
        int(name.rsplit("/", 1)[1]): value for name, value in row.items() if name.startswith("component_accuracy/")
    }
    return found.get(50, found[max(found)] if found else math.nan)


def _count(value: float) -> str:
    if math.isnan(value):
        return "-"
    for limit, divisor, unit in ((1e4, 1.0, ""), (1e7, 1e3, "k"), (1e10, 1e6, "M")):
        if abs(value) < limit:
            return f"{value / divisor:.0f}{unit}"
    return f"{value:.1e}"


def _decimal(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time in s as a person would say it."""
    if math.isnan(seconds):
        return "-"
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"
