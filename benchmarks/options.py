# SPDX-License-Identifier: Apache-2.0
"""Compare each option of the reference with the default on the point robot, at equal environment steps.

    python benchmarks/options.py --csv benchmarks/results/options.csv

Each is trained for some seconds with each seed; encoders are compared with the GRU that reads the same `window`. The
table tells medians, and how much better an option's runs are than the default's with the same seeds.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterator
from pathlib import Path

from compare import Row, run, write_rows
from rich.console import Console
from rich.table import Table

SHORT = "training.epochs=5 training.evaluate_every=5 training.exploration_episodes=3 training.checkpoint_every=5"
SHORT += " inference.batch_size=128 inference.sequence_length=20 inference.rebalance_every=10"
SHORT += " inference.first_epoch_steps=150 inference.steps_per_epoch=30 sac.steps_per_epoch=250 sac.batch_size=64"
WINDOW = "model.context=window model.context_length=10"
OPTIONS = {  # the default first in each group; name -> settings
    "": {
        "default": "",
        "task_distribution worst": "training.hard_task_share=1 training.hard_tasks=worst",
        "task_distribution best": "training.hard_task_share=1 training.hard_tasks=best",
        "sampling_mode linear": "training.replay_sampling=linear",
        "augmented_every 1": "sac.imagined_share=0.5",
        "early stopping, 20 steps": "inference.early_stopping_steps=20",
        "PCGrad true_task": "inference.pcgrad=true_task sac.pcgrad=true_task",
        "PCGrad most_likely_task": "inference.pcgrad=most_likely_task sac.pcgrad=most_likely_task",
        "PCGrad random_prob_task": "inference.pcgrad=random_task sac.pcgrad=random_task",
    },
    WINDOW: {
        "gru, window": "",
        "mlp, multiplication": "model.encoder=mlp",
        "mlp, network": "model.encoder=mlp model.timestep_combination=network",
        "mlp, whole window": "model.encoder=mlp model.timestep_combination=none",
        "conv, multiplication": "model.encoder=conv",
        "conv, network": "model.encoder=conv model.timestep_combination=network",
        "transformer, multiplication": "model.encoder=transformer",
        "transformer, network": "model.encoder=transformer model.timestep_combination=network",
    },
}


def measured(seeds: int) -> Iterator[list[Row]]:
    """Train each option with each seed; yield the runs of an option."""
    for common, options in OPTIONS.items():
        default, *_ = options
        for name, settings in options.items():
            runs = [run("point_robot", SHORT.split(), f"{common} {settings}", seed) for seed in range(seeds)]
            yield [{**r, "option": name, "default": default, "variant": f"{common} {settings}".strip()} for r in runs]


def table_of(rows: list[Row]) -> Table:
    """Return a line for each option; what is better has a plus."""
    table = Table("option", "test return", "better than its default by", "component accuracy", "wall s")
    returns: dict[str, list[float]] = {}
    for row in rows:
        returns.setdefault(str(row["option"]), []).append(float(row["test_return"]))
    for name, found in returns.items():
        own = [row for row in rows if row["option"] == name]
        default = str(own[0]["default"])
        gains = [one - other for one, other in zip(found, returns[default], strict=True)]
        said = "" if name == default else ", ".join(f"{gain:+.1f}" for gain in gains)
        accuracy, wall = (statistics.median(float(row[key]) for row in own) for key in ("accuracy", "wall_s"))
        table.add_row(name, f"{statistics.median(found):.1f}", said, f"{accuracy:.2f}", f"{wall:.0f}")
    return table


def main() -> None:
    """Measure, or read what was measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="where to keep a row a run")
    parser.add_argument("--read", type=Path, help="print the table of such a file instead")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if arguments.read is not None:
        with arguments.read.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for runs in [] if rows else measured(arguments.seeds):
        rows += runs
        if arguments.csv is not None:
            write_rows(arguments.csv, rows)
    Console().print(table_of(rows))


if __name__ == "__main__":
    main()
