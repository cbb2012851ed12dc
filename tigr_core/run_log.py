# SPDX-License-Identifier: Apache-2.0
"""What a run writes while it trains: progress.csv and TensorBoard scalars, a row an epoch, the same names."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from tigr_core.errors import UserError
from tigr_core.files import write_atomically

PROGRESS_FILE = "progress.csv"
TENSORBOARD_FOLDER = "tensorboard"


class OtherNames(Protocol):
    """The same numbers as another program calls them."""

    columns: Sequence[str]  # of progress.csv, after ours; none of them is a TensorBoard tag

    def cells(self, row: dict[str, float]) -> dict[str, float]:
        """Return what is in those columns beside a row of ours."""

    def scalars(self, row: dict[str, float]) -> dict[str, tuple[float, int]]:
        """Return TensorBoard tags, each with value and step, for a row with those cells."""


class RunLog:
    """Appends a row an epoch. Column 0 is `epoch`; the others are TensorBoard tags too.

    A row is on the disk (fsync) when `append` returns. `RunLog(folder, columns)` starts anew and replaces an
    older progress.csv; `RunLog.resume` continues one. `also` adds the names of another program.
    """

    def __init__(self, folder: Path, columns: Sequence[str], also: OtherNames | None = None) -> None:
        self._open(folder, columns, also, rows=[], purge_step=None)

    @classmethod
    def resume(cls, folder: Path, columns: Sequence[str], epochs_done: int, also: OtherNames | None = None) -> RunLog:
        """Continue after epoch `epochs_done`: drop the rows of later ones, unknown to the checkpoint.

        Raises UserError for a damaged file or one with other columns.
        """
        file = folder / PROGRESS_FILE
        header, rows = _read_rows(file)
        wanted = [*columns, *(also.columns if also else ())]
        if header != wanted:
            difference = ", ".join(sorted(set(header) ^ set(wanted))) or "their order"
            raise UserError(
                f"{file} has other columns than this run writes (different: {difference})",
                expected="the columns of the run that is resumed",
                fix="resume with the version and configuration that started the run, or start a new run",
            )
        log = cls.__new__(cls)
        kept = [row for row in rows if float(row[0]) <= epochs_done]
        # A purge goes by step, whatever counts it: steps of another program's tags are no epochs.
        log._open(folder, columns, also, rows=kept, purge_step=None if also else epochs_done + 1)
        return log

    def _open(
        self,
        folder: Path,
        columns: Sequence[str],
        also: OtherNames | None,
        rows: list[list[str]],
        purge_step: int | None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._tags, self._also = columns[1:], also
        self._columns = [*columns, *(also.columns if also else ())]
        text = "".join(_line(row) for row in [self._columns, *rows])
        write_atomically(folder / PROGRESS_FILE, lambda file: file.write(text.encode()))
        self._stream = (folder / PROGRESS_FILE).open("a")
        self._writer = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=purge_step)

    def append(self, row: dict[str, float]) -> None:
        """Write one epoch. Columns not in `row`, or nan, stay empty; an unknown key is a KeyError."""
        if self._also is not None:
            row = row | self._also.cells(row)
        unknown = row.keys() - set(self._columns)
        if unknown:
            raise KeyError(f"found {sorted(unknown)}, expected columns of progress.csv: {self._columns}")
        present = {name: value for name, value in row.items() if not math.isnan(value)}
        try:
            self._stream.write(_line([_text(present[n]) if n in present else "" for n in self._columns]))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self._stream.name}: {error}",
                expected="a writable disk",
                fix="free some space, then go on with --resume",
            ) from None
        scalars = {name: (present[name], int(row["epoch"])) for name in self._tags if name in present}
        if self._also is not None:
            scalars |= self._also.scalars(present)
        for name, (value, step) in scalars.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def embedding(self, latent: np.ndarray, labels: list[str], step: int) -> None:
        """Add the latent space, `latent` [N, L] with one label a row, to TensorBoard's projector."""
        self._writer.add_embedding(latent, metadata=labels, global_step=step, tag="latent")

    def mixture(self, weights: dict[str, np.ndarray], step: int) -> None:
        """Add a histogram for each base task: over components k, from k - 1/2 to k + 1/2, their mean weights [K]."""
        for name, share in weights.items():
            place = np.arange(len(share))
            self._writer.add_histogram_raw(
                f"mixture/{name}",
                min=-0.5,
                max=len(share) - 0.5,
                num=float(share.sum()),
                sum=float(share @ place),
                sum_squares=float(share @ place**2),
                bucket_limits=(place + 0.5).tolist(),
                bucket_counts=share.tolist(),
                global_step=step,
            )

    def close(self) -> None:
        """Close the files; the log cannot be used afterwards."""
        self._stream.close()
        self._writer.close()


def read_progress(path: Path) -> dict[str, list[float]]:
    """Read progress.csv into columns, nan for an empty cell. Raises UserError when missing or damaged."""
    header, rows = _read_rows(path)
    return {name: [float(row[i]) if row[i] else math.nan for row in rows] for i, name in enumerate(header)}


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and rows as text, checked. An unterminated last line is still being written: dropped."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(f"cannot read {path}: {error}") from error
    header, *rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines())) or [[]]
    if not header or header[0] != "epoch":
        raise _damaged(f"{path} line 1 starts with {header[:1]}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise _damaged(f"{path} line {number} has {len(row)} cells, the header {len(header)}")
        for name, cell in zip(header, row, strict=True):
            if not _is_number(cell) and (cell or name == "epoch"):
                raise _damaged(f"{path} line {number}, column {name}: found {cell!r}")
    return header, rows


def _damaged(found: str) -> UserError:
    return UserError(
        found,
        expected="a header that starts with `epoch`, then rows of numbers or empty cells",
        fix="delete the damaged lines, or name another run folder",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(value: float) -> str:
    """Shortest text that reads back to the same number; whole numbers without a decimal point."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


def _line(cells: Sequence[str]) -> str:
    return ",".join(cells) + "\n"
