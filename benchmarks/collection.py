# SPDX-License-Identifier: Apache-2.0
"""Env steps a second by number of Ray workers, and what many of them would need of the learner and the network.

    python benchmarks/collection.py                                          # prints the tables
    python benchmarks/collection.py --docs docs/ray.md --json output/collection.json

The first table is measured: an epoch's episodes collected in this process (0 workers) and by workers; then together
with as many SAC steps as take as long in this process, one after the other and at once (`training.asynchronous`). The
second is computed from the first and from sizes: workers that each do what one did here, an epoch's tasks each, and a
learner that keeps the configuration's ratio of learning steps to env steps. It says what would be needed, not what was
tried.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from ceilings import seconds_per_call
from throughput import Bench, shown

from tigr_core.collector import Collector, Request
from tigr_core.config import Config, load_config
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.run import make_collector
from tigr_core.sac_learner import TransitionView

MANY = (10, 100, 1000)
BEGIN, END = "<!-- written by benchmarks/collection.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    """What a number of workers reached; 0: this process."""

    workers: int
    start_s: float
    env_steps_per_s: float
    in_turn_s: float  # collecting, then learning
    at_once_s: float


@dataclass(frozen=True)
class Sizes:
    """What one learner does and what has to travel."""

    weights_bytes: int
    bytes_per_env_step: float
    sac_steps_per_s: float
    inference_steps_per_s: float
    stored_per_s: float  # env steps that one core puts into the replay buffer


class Measurement:
    """Collecting by any collector, beside one learner."""

    def __init__(self, config: Config, budget_s: float, ray_address: str | None) -> None:
        self.config, self.budget_s, self.ray_address = config, budget_s, ray_address
        self.bench = Bench(config, budget_s)
        self.view: TransitionView = self.bench.view(80)
        count = config.training.tasks_per_epoch
        tasks = (self.bench.train_tasks * count)[:count]
        self.request = Request(tasks, list(range(count)), noise_seed=0)
        self.env_steps = count * config.env.episode_steps
        self.learning_steps = 0  # set by the first row

    def learn(self) -> None:
        for _ in range(self.learning_steps):
            self.bench.sac.step(self.view.sample(self.config.sac.batch_size, self.bench.generator))

    def row(self, workers: int) -> Row:
        began = time.perf_counter()
        with closing(make_collector(self.config.env, workers, self.ray_address if workers else None)) as collector:
            start_s = time.perf_counter() - began
            collecting_s = self._seconds(lambda: self.collect(collector))
            if not self.learning_steps:
                self.learning_steps = max(1, round(collecting_s * self.bench.sac_steps(self.config.sac.batch_size)))
            in_turn_s = self._seconds(lambda: (self.collect(collector), self.learn()))
            at_once_s = self._seconds(lambda: self.collect_while_learning(collector))
        return Row(workers, start_s, self.env_steps / collecting_s, in_turn_s, at_once_s)

    def collect(self, collector: Collector) -> Episodes:
        self._change_weights()
        return collector.collect(self.bench.model, self.request)

    def collect_while_learning(self, collector: Collector) -> Episodes:
        self._change_weights()
        wait = collector.begin(self.bench.model, self.request)
        self.learn()
        return wait()

    def _change_weights(self) -> None:
        """Make a new version: else workers would not have to fetch it."""
        with torch.no_grad():
            next(self.bench.model.actor.parameters()).mul_(1.0 + 1e-7)

    def _seconds(self, call: object) -> float:
        return seconds_per_call(call, budget_s=self.budget_s, warm_up=1)  # type: ignore[arg-type]

    def sizes(self) -> Sizes:
        episodes, steps = self.bench.collect(), self.config.env.episode_steps
        replay = ReplayBuffer(4 * self.env_steps, steps, relabelled=self.config.training.relabel_share > 0.0)
        parts = [episodes.select(slice(start, start + 20)) for start in range(0, len(episodes), 20)]  # type: ignore[arg-type]
        storing_s = self._seconds(lambda: replay.add(Episodes.concatenate(parts), self.bench.rng))
        return Sizes(
            weights_bytes=sum(value.nbytes for value in self.bench.model.state_dict().values()),
            bytes_per_env_step=len(pickle.dumps(episodes, protocol=5)) / episodes.num_steps,
            sac_steps_per_s=self.bench.sac_steps(self.config.sac.batch_size),
            inference_steps_per_s=self.bench.inference_steps(),
            stored_per_s=self.env_steps / storing_s,
        )


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])


def measured(rows: list[Row], learning_steps: int) -> str:
    """Return the table of what was measured."""
    alone = next((row.env_steps_per_s for row in rows if row.workers == 0), None)
    header = ["workers", "start, s", "env steps/s", "of this process's", f"collect, then {learning_steps} SAC steps, s"]
    return table(
        [*header, "both at once, s"],
        [
            [
                str(row.workers) if row.workers else "0: this process",
                shown(row.start_s) if row.workers else "",
                f"{row.env_steps_per_s:,.0f}",
                f"{row.env_steps_per_s / alone:.0%}" if alone else "",
                shown(row.in_turn_s),
                shown(row.at_once_s),
            ]
            for row in rows
        ],
    )


def needed(config: Config, sizes: Sizes, worker_rate: float) -> str:
    """Return the table of what many workers would need, computed."""
    training, epoch_steps = config.training, config.training.tasks_per_epoch * config.env.episode_steps
    epoch_s = epoch_steps / worker_rate
    header = [
        "workers",
        "env steps/s",
        "weights to them, MB/s",
        "episodes from them, MB/s",
        "storing, cores",
        "SAC steps/s (of this learner's)",
        "inference steps/s (of this learner's)",
        "replay full after, s",
    ]
    lines = []
    for count in MANY:
        rate = count * worker_rate
        sac = rate * config.sac.steps_per_epoch / epoch_steps
        inference = rate * config.inference.steps_per_epoch / epoch_steps
        lines.append(
            [
                f"{count:,}",
                f"{rate:,.0f}",
                shown(count * sizes.weights_bytes / epoch_s / 1e6),
                shown(rate * sizes.bytes_per_env_step / 1e6),
                shown(rate / sizes.stored_per_s),
                f"{sac:,.0f} ({shown(sac / sizes.sac_steps_per_s)} times)",
                f"{inference:,.0f} ({shown(inference / sizes.inference_steps_per_s)} times)",
                f"{shown(training.replay_capacity / rate)}",
            ]
        )
    return table(header, lines)


def text(config: Config, rows: list[Row], sizes: Sizes | None, learning_steps: int) -> str:
    """Return both tables with the sizes between them."""
    parts = [
        f"`{config.name}`, {os.cpu_count()} cores, learner on {torch.get_num_threads()} threads:",
        measured(rows, learning_steps),
    ]
    one = next((row.env_steps_per_s for row in rows if row.workers == 1), None)
    if sizes is not None and one is not None:
        parts += [
            f"A version of the weights is {sizes.weights_bytes:,} bytes, an env step {sizes.bytes_per_env_step:.0f} "
            f"bytes. This learner does {shown(sizes.sac_steps_per_s)} SAC steps/s and "
            f"{shown(sizes.inference_steps_per_s)} inference steps/s, and one core stores {sizes.stored_per_s:,.0f} "
            "env steps/s. Computed from that:",
            needed(config, sizes, one),
        ]
    return "\n\n".join(parts)


def write_into(page: Path, written: str) -> None:
    """Replace what an earlier measurement wrote into a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{written}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="half_cheetah_eight")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--ray-address", help="of a cluster to measure instead of this machine")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number")
    parser.add_argument("--docs", type=Path, help="also write the tables into this page")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    measurement = Measurement(config, arguments.seconds, arguments.ray_address)
    rows = []
    for workers in arguments.workers:
        rows.append(measurement.row(workers))
        print(rows[-1], flush=True)
    sizes = measurement.sizes() if 1 in arguments.workers else None
    written = text(config, rows, sizes, measurement.learning_steps)
    print(f"\n{written}")
    if arguments.docs is not None:
        write_into(arguments.docs, written)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        document = {"rows": [asdict(row) for row in rows], "sizes": None if sizes is None else asdict(sizes)}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
