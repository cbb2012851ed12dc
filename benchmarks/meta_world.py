# SPDX-License-Identifier: Apache-2.0
"""What Meta-World's environments cost, and success and return of its scripted policies. Needs the extra ``metaworld``.

    python benchmarks/meta_world.py [--env tigr/MetaWorldML45-v0] [--episodes 5]

One thread. Seconds are of processor time, so that other work on the machine hardly changes them.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

import envs
from tigr_core.evaluation import success_column


def resident_mb() -> float:
    """Return the memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print one line for each base task, and what they cost together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="tigr/MetaWorldML10-v0")
    parser.add_argument("--episodes", type=int, default=3, help="of each base task")
    arguments = parser.parse_args()
    column = success_column(arguments.env)
    table = Table(Column("base task", no_wrap=True), "success", "return", "reset, ms", "new, ms", "steps/s", "MB")
    costs = []
    with ExitStack() as opened:  # all stay open, so that no memory is used twice
        for name in envs.task_set(arguments.env).names:
            env = envs.make_vector(arguments.env, arguments.episodes, base_tasks=[name])
            opened.callback(env.close)
            before, start = resident_mb(), time.process_time()
            env.reset(seed=0)
            made, each = time.process_time(), (resident_mb() - before) / arguments.episodes
            env.reset(seed=0)
            begun = time.process_time()
            success, returns = np.zeros(arguments.episodes, dtype=bool), np.zeros(arguments.episodes)
            for _ in range(env.episode_steps):
                returns += env.step(env.scripted_actions())[1]
                success |= env.quantities[:, column] > 0
            steps = arguments.episodes * env.episode_steps / (time.process_time() - begun)
            reset, new = (1e3 * s / arguments.episodes for s in (begun - made, made - start - (begun - made)))
            costs.append((reset, new, steps, each))
            told = (f"{success.mean():.0%}", f"{returns.mean():.0f}", *(f"{cost:.0f}" for cost in costs[-1]))
            table.add_row(name, *told)
    table.add_section()
    table.add_row("median", "", "", *(f"{cost:.0f}" for cost in np.median(costs, axis=0)))
    Console().print(table)


if __name__ == "__main__":
    main()
