# SPDX-License-Identifier: Apache-2.0
"""How fast the parts of an epoch run at the paper's sizes, beside what the machine can do. Run: ``make bench``.

Prints a table and writes it as JSON. Each row: achieved, ceiling, ratio. Ceilings are measured in the same run: float32
matmul at the policy's size (256 x 300 x 300) for SAC, the physics alone in one thread times the threads for collection.
Operations are counted from the network sizes, three times the forward ones where gradients of the weights are formed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import envs
from tigr_core import evaluation
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import Config, load_config, override_config
from tigr_core.controller import Controller
from tigr_core.inference_learner import InferenceLearner
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.sac_learner import SACLearner, TransitionView


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    achieved: float
    unit: str
    ceiling: float | None = None
    note: str = ""


def seconds_per_call(call: Callable[[], object], *, budget_s: float = 5.0, warm_up: int = 2) -> float:
    """Return the median duration of a call over about `budget_s`."""
    for _ in range(warm_up):
        call()
    durations: list[float] = []
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(durations) < 3:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def matmul_flops(dtype: torch.dtype, size: int = 300, batch: int = 256) -> float:
    """Return multiply-add operations a second (counted as two) of a product at the policy's size."""
    a, b = torch.randn(batch, size).to(dtype), torch.randn(size, size).to(dtype)
    out = torch.empty(batch, size, dtype=dtype)
    return 2.0 * batch * size * size / seconds_per_call(lambda: torch.mm(a, b, out=out), budget_s=1.0)


def raw_env_steps(config: Config) -> float:
    """Return control steps a second of the physics alone, one thread, 80 robots."""
    robot, rng = envs.ENVIRONMENTS[config.env.id].make_robot(1), np.random.default_rng(0)
    state = np.stack([robot.initial_state(rng) for _ in range(80)])
    ctrl = rng.uniform(-1.0, 1.0, (80, robot.spec.action_dim))
    return 80.0 / seconds_per_call(lambda: robot.step(state, ctrl), budget_s=2.0)


def sac_flops(config: Config, obs_dim: int, action_dim: int) -> float:
    """Return the operations of one SAC step: target, critic step, actor step every `actor_every`."""

    def forward(inputs: int, outputs: int) -> float:
        sizes = (inputs, *config.model.policy_hidden, outputs)
        return 2.0 * config.sac.batch_size * sum(i * o for i, o in itertools.pairwise(sizes))

    state = obs_dim + config.model.latent_dim
    actor, critics = forward(state, 2 * action_dim), 2.0 * forward(state + action_dim, 1)
    return (actor + critics) + 3.0 * critics + (3.0 * actor + 2.0 * critics) / config.sac.actor_every


class Bench:
    """The parts of an epoch of one configuration, filled with collected data."""

    def __init__(self, config: Config) -> None:
        self.config = config
        robot = envs.make_vector(config.env.id).spec_robot
        self.obs_dim, self.action_dim = robot.obs_dim, robot.action_dim
        self.model = TaskInferenceModel(config.model, self.obs_dim, self.action_dim)
        self.rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        tasks = evaluation.tasks_of(config.env)
        self.train_tasks, _ = evaluation.split_tasks(config)
        self.collector = LocalCollector(config.env, num_threads=torch.get_num_threads())
        self.inference = InferenceLearner(self.model, config.inference, tasks, rng=self.rng, generator=generator)
        self.sac = SACLearner(self.model, config.sac, generator=generator)
        self.replay = ReplayBuffer(config.training.replay_capacity, config.env.episode_steps)
        self.generator = generator
        self.replay.add(self.collect(), self.rng)

    def collect(self) -> Episodes:
        request = Request(self.train_tasks, list(range(len(self.train_tasks))), noise_seed=0)
        return self.collector.collect(self.model, request)

    def collection(self) -> float:
        steps = len(self.train_tasks) * self.config.env.episode_steps
        return steps / seconds_per_call(self.collect, warm_up=1)

    def inference_step(self) -> float:
        return seconds_per_call(lambda: self.inference.step(self.replay), warm_up=1)

    def relabelling(self) -> float:
        episodes = torch.arange(len(self.train_tasks))
        seconds = seconds_per_call(lambda: TransitionView(self.model, self.replay, episodes), warm_up=1)
        return len(episodes) * self.config.env.episode_steps / seconds

    def sac_step(self) -> float:
        view = TransitionView(self.model, self.replay, torch.arange(len(self.train_tasks)))
        batch = self.config.sac.batch_size
        return seconds_per_call(lambda: self.sac.step(view.sample(batch, self.generator)))

    def control_tick(self) -> list[float]:
        """Return durations of observation in -> action out at batch 1, in seconds."""
        controller = Controller(self.model, 1)
        obs, reward, durations = np.zeros((1, self.obs_dim)), np.zeros(1), []
        action = controller.act(obs)
        for _ in range(1000):
            start = time.perf_counter()
            controller.observe(action, reward, obs)
            action = controller.act(obs)
            durations.append(time.perf_counter() - start)
        return durations


def measure(config: Config) -> list[Row]:
    """Measure every row for the paper's sizes."""
    threads = torch.get_num_threads()
    matmul = matmul_flops(torch.float32)
    rows = [
        Row("matmul float32, 256 x 300 x 300", matmul / 1e9, "GFLOP/s"),
        Row("matmul bfloat16, 256 x 300 x 300", matmul_flops(torch.bfloat16) / 1e9, "GFLOP/s"),
    ]
    raw = raw_env_steps(config) * threads
    rows.append(Row("physics alone", raw, "env steps/s", note=f"one thread times {threads}"))
    for context in ("stream", "window"):
        bench = Bench(override_config(config, [f"model.context={context}"]))
        rows.append(Row(f"collection, {context}", bench.collection(), "env steps/s", raw))
        rows.append(Row(f"inference, {context}", 1.0 / bench.inference_step(), "steps/s"))
        rows.append(Row(f"relabelling, {context}", bench.relabelling(), "transitions/s"))
        for batch in (256, 1024) if context == "stream" else ():
            bench.config = override_config(bench.config, [f"sac.batch_size={batch}"])
            ceiling = matmul / sac_flops(bench.config, bench.obs_dim, bench.action_dim)
            rows.append(Row(f"SAC, batch {batch}", 1.0 / bench.sac_step(), "steps/s", ceiling))
        torch.set_num_threads(1)
        tick = np.array(bench.control_tick()) * 1e6
        torch.set_num_threads(threads)
        spread = f"p99 {np.percentile(tick, 99):.0f}, max {tick.max():.0f}, one thread"
        rows.append(Row(f"control tick, {context}", float(np.median(tick)), "us", note=spread))
    return rows


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="half_cheetah_eight")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    rows = measure(load_config(arguments.config))
    table = Table("part", "achieved", "unit", "ceiling", "ratio", "note", title=f"{arguments.config} on {machine}")
    for row in rows:
        ceiling, ratio = (f"{row.ceiling:,.1f}", f"{row.achieved / row.ceiling:.0%}") if row.ceiling else ("", "")
        table.add_row(row.name, f"{row.achieved:,.1f}", row.unit, ceiling, ratio, row.note)
    Console().print(table)
    if arguments.json is not None:
        document = {"machine": machine, "config": arguments.config, "rows": [asdict(row) for row in rows]}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
