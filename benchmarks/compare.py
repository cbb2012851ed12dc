# SPDX-License-Identifier: Apache-2.0
"""Compare variants of a configuration at equal environment steps over several seeds.

    python benchmarks/compare.py point_robot --seeds 3 --variant model.context=stream --variant model.context=window

Prints the median of the last evaluation per variant; ``--csv`` keeps one row a run, each as soon as it is there. A
variant is one or several ``key=value`` joined by spaces; what all variants share is given with ``--set``.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tigr_core.config import load_config
from tigr_core.errors import UserError
from tigr_core.progress import Progress
from tigr_core.run import RunOptions, open_run
from tigr_core.run_log import PROGRESS_FILE, read_progress
from tigr_core.stop import never

COLUMNS = ("env_steps", "sac_steps", "train_return", "test_return", "wall_s")


Row = dict[str, str | float]


def run(config: str, shared: Sequence[str], variant: str, seed: int) -> Row:
    """Train one variant with one seed; return the last row of its progress with the last component accuracy."""
    with tempfile.TemporaryDirectory() as output:
        options = RunOptions(config, (*shared, *variant.split()), seed, output=Path(output), device="cpu")
        with open_run(options, progress=Progress(io.StringIO()), stop=never) as opened:
            opened.trainer.run()
        last = {name: values[-1] for name, values in read_progress(opened.folder / PROGRESS_FILE).items()}
    accuracy = [value for name, value in last.items() if name.startswith("component_accuracy/")][-1]
    return {"variant": variant, "seed": seed, **{name: last[name] for name in COLUMNS}, "accuracy": accuracy}


def table_of(rows: Sequence[Row]) -> Table:
    """Return medians and seeds of each variant."""
    table = Table("variant", "test return", "seeds", "component accuracy", "wall s")
    for variant in dict.fromkeys(row["variant"] for row in rows):
        runs = [row for row in rows if row["variant"] == variant]
        returns, accuracy, wall = ([float(r[key]) for r in runs] for key in ("test_return", "accuracy", "wall_s"))
        medians = [f"{statistics.median(values):.2f}" for values in (returns, accuracy, wall)]
        table.add_row(str(variant), medians[0], ", ".join(f"{value:.1f}" for value in returns), *medians[1:])
    return table


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with the same keys as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Run every variant with every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of all variants")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    try:  # before hours of runs
        for variant in arguments.variant:
            load_config(arguments.config, [*arguments.set, *variant.split()])
    except UserError as error:
        sys.exit(str(error))
    rows: list[Row] = []
    for seed, variant in itertools.product(range(arguments.seeds), arguments.variant):
        rows.append(run(arguments.config, arguments.set, variant, seed))
        if arguments.csv is not None:
            write_rows(arguments.csv, rows)
    Console().print(table_of(rows))


if __name__ == "__main__":
    main()
