# SPDX-License-Identifier: Apache-2.0
"""The terminal display: plain lines without a terminal, with one also bars that do not stay."""

from __future__ import annotations

import io
import time

import pytest

from tigr_core.progress import make_progress

ROWS = [
    {"epoch": 1, "env_steps": 16_000, "sac_steps": 2_000, "time/collect_s": 2.0, "time/sac_s": 16.0,
     "collect_return": -190.0, "train_return": -183.25, "test_return": -178.4,
     "component_accuracy/10": 0.5, "component_accuracy/50": 0.83},
    {"epoch": 2, "env_steps": 32_000, "sac_steps": 4_000, "time/collect_s": 1.0, "time/sac_s": 10.0,
     "train_return": -171.0, "test_return": float("nan")},
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO) -> list[str]:
    with make_progress(stream) as progress:
        progress.start(total_epochs=20, first_epoch=1)
        for row in ROWS:
            for step in range(100):
                progress.phase("SAC", step, 100)
            progress.epoch(row)
        progress.message("saved [best] bundle")
    return stream.getvalue().splitlines()


def test_without_a_terminal_there_is_one_plain_line_an_epoch() -> None:
    lines = run(io.StringIO())
    assert len(lines) == 4  # header, two epochs, the message
    assert all(line.isprintable() and len(line) <= 80 for line in lines)
    # throughput needs the counters of the epoch before: unknown in the first epoch shown
    assert lines[1].split()[:8] == ["1/20", "16k", "-190.0", "-183.2", "-178.4", "0.83", "-", "-"]
    assert lines[2].split()[:8] == ["2/20", "32k", "-", "-171.0", "-", "-", "16k", "200"]
    assert lines[3] == "saved [best] bundle"


def test_the_columns_stand_under_their_headings() -> None:
    header, *rows, _ = run(io.StringIO())
    assert [len(row) for row in rows] == [len(header)] * 2


def test_short_episodes_show_the_accuracy_of_their_last_step() -> None:
    stream = io.StringIO()
    progress = make_progress(stream)
    progress.start(total_epochs=2, first_epoch=1)
    progress.epoch({"epoch": 1, "component_accuracy/10": 0.25, "component_accuracy/20": 0.75})
    assert "0.75" in stream.getvalue()


def test_env_steps_collected_while_learning_are_told_per_second_of_the_epoch() -> None:
    stream = io.StringIO()
    progress = make_progress(stream)
    progress.start(total_epochs=2, first_epoch=1)
    for epoch in (1, 2):
        row = {"epoch": epoch, "env_steps": 8_000 * epoch, "wall_s": 4.0 * epoch, "time/collect_s": 0.01}
        progress.epoch({**row, "collect_staleness": epoch - 1})
    assert stream.getvalue().splitlines()[2].split()[6] == "2000"


def test_a_terminal_gets_the_same_lines_and_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    text = "\n".join(run(Terminal()))
    assert "-183.2" in text and "saved [best] bundle" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # cursor shown after it was hidden


def test_a_throttled_phase_call_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with make_progress(Terminal()) as progress:
        progress.start(total_epochs=1, first_epoch=1)
        start = time.perf_counter()
        for step in range(10_000):
            progress.phase("SAC", step, 10_000)
        assert time.perf_counter() - start < 10_000 * 20e-6
