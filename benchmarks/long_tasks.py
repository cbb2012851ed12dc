# SPDX-License-Identifier: Apache-2.0
"""How surely a bundle notices a new base task after it has done another one for long.

python benchmarks/long_tasks.py tigr_core/bundles/half_cheetah_velocity.tigr
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tigr_core import analysis, evaluation, run_report
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector

STEPS = (50, 100, 200, 400, 800)
REPEATS, SEED = 2, 1


def main() -> None:
    """Print for each time between changes how often the right component is found within 20 steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    bundle = load_bundle(parser.parse_args().bundle)
    config, labels = run_report.config_of(bundle), np.array(bundle.info.component_to_task)
    tasks = evaluation.split_tasks(config)[1] * REPEATS
    table = Table("steps of a task", "changes", "right within 20 steps", "never right before the next change")
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        for every in STEPS:
            change, steps = {"every_steps": every}, 2 * every + 100
            episodes = evaluation.evaluate(
                collector, bundle.model, tasks, seed=SEED, task_change=change, episode_steps=steps
            )
            taken = analysis.recovery_steps(episodes, labels)
            shares = f"{(taken <= 20).mean():.0%}", f"{np.isnan(taken).mean():.0%}"
            table.add_row(str(every), str(len(taken)), *shares)
    Console().print(table)


if __name__ == "__main__":
    main()
