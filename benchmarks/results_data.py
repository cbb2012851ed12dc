# SPDX-License-Identifier: Apache-2.0
"""Measured runs as they are stored: a folder of small CSV files for each, ``results/<task set>/<name>/``.

| file               | rows                                                                                    |
|--------------------|-----------------------------------------------------------------------------------------|
| run.csv            | facts: which environment and bundle, what it cost, on which machine                     |
| settings.csv       | the configuration, ``section.key`` and value                                            |
| base_tasks.csv     | the base tasks in label order                                                           |
| tests.csv          | an unseen test task each                                                                |
| generalisation.csv | a parameter at or beyond an end of its range each, mean over several starts             |
| curve.csv          | an evaluated epoch each, and the last one; only where the run's folder was at hand      |
| accuracy.csv       | a base task each, and all: share of episodes recognised after n steps                   |
| confusion.csv      | a true base task each: shares of the inferred ones                                      |
| changes.csv        | a change of task each: steps until it is recognised, and until it is followed           |

The last three are there where they mean something: PEARL has no component for a base task, and who is told the first
task of an episode is not told the next. A quantity that does not exist, such as steps to something that did not
happen, is an empty cell.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tigr_core.errors import UserError
from tigr_core.files import write_atomically

ALL = "all"  # the row of accuracy.csv over all base tasks
FACTS = (
    *("env_id", "config", "seed", "method", "told", "version", "bundle_sha256", "train_return"),
    *("env_steps", "teacher_env_steps", "sac_steps", "inference_steps", "wall_s", "machine"),
    *("episode_steps", "control_dt", "change_steps", "confusion_step"),
)
COLUMNS = {
    "run": ("key", "value"),
    "settings": ("key", "value"),
    "base_tasks": ("name", "unit", "low", "high", "reward"),
    "tests": ("base_task", "parameter", "return", "error"),
    "generalisation": ("base_task", "end", "beyond", "parameter", "return", "error"),
    "curve": ("epoch", "env_steps", "sac_steps", "inference_steps", "wall_s", "test_return"),
    "accuracy": ("base_task",),
    "confusion": ("base_task",),
    "changes": ("kind", "base_task", "recognised", "followed"),
}
ALWAYS = ("run", "settings", "base_tasks", "tests", "generalisation")


class Table:
    """A CSV file by columns."""

    def __init__(self, path: Path, columns: dict[str, list[str]]) -> None:
        self.path, self.columns = path, columns

    @classmethod
    def read(cls, path: Path, wanted: Sequence[str]) -> Table:
        """Read a file with at least the columns `wanted`; what is wrong with it is said in a `UserError`."""
        try:
            header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) or [[]]
        except (OSError, UnicodeDecodeError) as error:
            raise _unfit(path, str(error)) from None
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise _unfit(path, f"line {number} has {len(row)} cells, the header {len(header)}")
        table = cls(path, {name: [row[i] for row in rows] for i, name in enumerate(header)})
        for name in wanted:
            table.text(name)
        return table

    def text(self, name: str) -> list[str]:
        """Return a column; `UserError` without it."""
        if name not in self.columns:
            raise _unfit(self.path, f"no column {name}")
        return self.columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """Return a column as numbers, nan for an empty cell."""
        try:
            return np.array([float(cell) if cell else math.nan for cell in self.text(name)])
        except ValueError as error:
            raise _unfit(self.path, f"column {name}: {error}") from None


@dataclass(frozen=True)
class Run:
    """A measured run. Which files it has may differ from run to run, see the top of this file."""

    name: str
    tables: Mapping[str, Table]

    def __getitem__(self, table: str) -> Table:
        return self.tables[table]

    def __contains__(self, table: str) -> bool:
        return table in self.tables

    @property
    def facts(self) -> dict[str, str]:
        """What run.csv says, by key."""
        return pairs(self["run"])

    @property
    def group(self) -> str:
        """The name without its seed: what runs have in common that differ in nothing else."""
        return re.sub(r"_seed\d+$", "", self.name)

    @property
    def base_tasks(self) -> list[str]:
        """Names in label order."""
        return self["base_tasks"].text("name")

    @property
    def test_return(self) -> float:
        """Mean return over the test tasks."""
        return float(self["tests"].numbers("return").mean())

    def per_base_task(self, column: str) -> dict[str, float]:
        """Return the mean of a column of tests.csv for each base task, nan where there is no test task."""
        name, value = np.array(self["tests"].text("base_task")), self["tests"].numbers(column)
        return {n: float(value[name == n].mean()) if (name == n).any() else math.nan for n in self.base_tasks}


def pairs(table: Table) -> dict[str, str]:
    """Return a table of keys and values as a dictionary."""
    return dict(zip(table.text("key"), table.text("value"), strict=True))


def read_runs(folder: Path) -> dict[str, list[Run]]:
    """Return the runs of every task set, both by name; raises `UserError` without any, or for one that is damaged."""
    runs: dict[str, list[Run]] = {}
    for file in sorted(folder.glob("*/*/run.csv")):
        runs.setdefault(file.parent.parent.name, []).append(_read_run(file.parent))
    if not runs:
        raise UserError(
            f"no measured run in {folder}",
            expected="folders <task set>/<name>/ with a run.csv",
            fix="measure a bundle first: python benchmarks/results.py measure BUNDLE --name NAME",
        )
    for task_set, members in runs.items():
        if others := [run.name for run in members if run.base_tasks != members[0].base_tasks]:
            raise UserError(
                f"{folder / task_set}: {members[0].name} and {', '.join(others)} have other base tasks",
                expected="the same base tasks in all runs of a task set",
                fix="move them into folders of their own",
            )
    return runs


def _read_run(folder: Path) -> Run:
    tables = {
        name: Table.read(folder / f"{name}.csv", columns)
        for name, columns in COLUMNS.items()
        if name in ALWAYS or (folder / f"{name}.csv").exists()
    }
    run = Run(folder.name, tables)
    if missing := [key for key in FACTS if key not in run.facts]:
        raise _unfit(folder / "run.csv", f"no row {', '.join(missing)}")
    return run


def write_run(folder: Path, tables: Mapping[str, Mapping[str, Iterable[object]]]) -> None:
    """Write tables, given by columns, each to its file; CSV files of an older measurement go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.csv"):
        old.unlink()
    for name, columns in tables.items():
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(cell) for cell in row] for row in zip(*columns.values(), strict=True))
        _write(folder / f"{name}.csv", buffer.getvalue())


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return ``section.key`` and value, as they are stored, of a nested configuration."""
    cells: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            cells |= flat(value, f"{prefix}{key}.")
        else:
            cells[prefix + key] = "" if value is None else _cell(value)
    return cells


def _cell(value: object) -> str:
    """Whole numbers in full, others to six digits, nan as an empty cell."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.0f}" if value == int(value) else f"{value:.6g}"
    return str(value)


def _unfit(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: {reason}",
        expected="a file written by `python benchmarks/results.py measure`",
        fix="measure the run again, or remove its folder",
    )
