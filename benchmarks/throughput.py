# SPDX-License-Identifier: Apache-2.0
"""How fast an epoch and its parts run at the paper's sizes, beside what the machine can do. Run: ``make bench``.

Prints a table and writes it as JSON. Ceilings are measured in the same run: a matrix product at the policy's size
(256 x 300 x 300) in float32 for the exact mode and in bfloat16 for the fast one, and physics alone in one thread times
the threads. Operations are counted from the network sizes, three times the forward ones where gradients are formed.
The baseline is `reference_cost.py`, timed on few repetitions. An epoch is as many environment, inference and SAC steps
as the configuration says, with the encoding of the view that SAC reads, at a replay buffer that fills the view.
"""

from __future__ import annotations

import argparse
import io
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
from reference_cost import ReferenceCost
from rich.console import Console
from rich.table import Table

import envs
from tigr_core import evaluation
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import Config, load_config, override_config
from tigr_core.controller import Controller
from tigr_core.learners import Learners
from tigr_core.model import TaskInferenceModel
from tigr_core.progress import Progress
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.sac_learner import TransitionView
from tigr_core.stop import never

REAL_EPOCH_S = 90.0  # longer ones are added up from their parts


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    achieved: float
    unit: str
    ceiling: float | None = None
    note: str = ""


def shown(value: float) -> str:
    """Return a number as the table shows it."""
    return f"{value:,.1f}" if abs(value) >= 10.0 else f"{value:.2g}"


def seconds_per_call(call: Callable[[], object], *, budget_s: float, warm_up: int = 2) -> float:
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
    """Return control steps a second of the physics alone, one thread, 80 robots along episodes of random actions."""
    robot, rng = envs.ENVIRONMENTS[config.env.id].make_robot(1), np.random.default_rng(0)
    start = np.stack([robot.initial_state(rng) for _ in range(80)])
    ctrl = rng.uniform(-1.0, 1.0, (config.env.episode_steps, 80, robot.spec.action_dim))

    def episode() -> None:
        state = start
        for controls in ctrl:
            state = robot.step(state, controls)

    return 80.0 * config.env.episode_steps / seconds_per_call(episode, budget_s=2.0, warm_up=1)


def sac_flops(config: Config, obs_dim: int, action_dim: int) -> float:
    """Return the operations of one SAC step: target, critic step, actor step every `actor_every`."""

    def forward(inputs: int, outputs: int) -> float:
        sizes = (inputs, *config.model.policy_hidden, outputs)
        return 2.0 * config.sac.batch_size * sum(i * o for i, o in itertools.pairwise(sizes))

    state = obs_dim + config.model.latent_dim
    actor, critics = forward(state, 2 * action_dim), 2.0 * forward(state + action_dim, 1)
    return (actor + critics) + 3.0 * critics + (3.0 * actor + 2.0 * critics) / config.sac.actor_every


def inference_flops(config: Config, model: TaskInferenceModel) -> float:
    """Return the operations of one inference step on streams: GRU, head and decoder, forward and backward."""
    inference = config.inference
    sequences = max(1, inference.batch_size // inference.targets_per_sequence)

    def products(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.dim() == 2)

    forward = sequences * inference.sequence_length * products(model.encoder.gru)
    forward += inference.batch_size * products(model.encoder.head)
    forward += inference.batch_size * inference.decoded_per_target * products(model.decoder)
    return 3.0 * 2.0 * forward


class Bench:
    """The parts of an epoch of one configuration in one mode, filled with collected data."""

    def __init__(self, config: Config, budget_s: float, replay: ReplayBuffer | None = None) -> None:
        self.config, self.budget_s = config, budget_s
        robot = envs.make_vector(config.env.id).spec_robot
        self.obs_dim, self.action_dim = robot.obs_dim, robot.action_dim
        self.model = TaskInferenceModel(config.model, self.obs_dim, self.action_dim)
        self.rng, self.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.train_tasks, _ = evaluation.split_tasks(config)
        self.collector = LocalCollector(config.env, num_threads=torch.get_num_threads())
        self.replay = replay or self._filled_replay()
        self.learners = Learners(
            self.model,
            config,
            evaluation.tasks_of(config.env),
            self.replay,
            robot,
            rng=self.rng,
            generator=self.generator,
            progress=Progress(io.StringIO()),
            stop=never,
            fast=config.training.fast,
        )
        self.inference, self.sac = self.learners.inference, self.learners.sac

    def _filled_replay(self) -> ReplayBuffer:
        config = self.config
        replay = ReplayBuffer(config.training.replay_capacity, config.env.episode_steps)
        episodes = self.collect()
        while replay.num_episodes < self.view_episodes:
            replay.add(episodes, self.rng)
        return replay

    @property
    def view_episodes(self) -> int:
        """Episodes that the view of an epoch encodes."""
        sac, steps = self.config.sac, self.config.env.episode_steps
        return -(-sac.steps_per_epoch * sac.batch_size // (steps * sac.draws_per_transition))

    def _seconds(self, call: Callable[[], object], warm_up: int = 1) -> float:
        return seconds_per_call(call, budget_s=self.budget_s, warm_up=warm_up)

    def collect(self) -> Episodes:
        count = self.config.training.tasks_per_epoch
        tasks = (self.train_tasks * count)[:count]
        return self.collector.collect(self.model, Request(tasks, list(range(count)), noise_seed=0))

    def collection(self) -> float:
        """Return environment steps a second."""
        steps = self.config.training.tasks_per_epoch * self.config.env.episode_steps
        return steps / self._seconds(self.collect)

    def inference_steps(self) -> float:
        """Return inference steps a second."""
        return 1.0 / self._seconds(lambda: self.inference.step(self.replay))

    def view(self, episodes: int) -> TransitionView:
        encode = self.inference.encode_episodes
        return TransitionView(self.model, self.replay, torch.arange(episodes), encode=encode)

    def encoding(self) -> float:
        """Return transitions encoded a second."""
        episodes = 80
        return episodes * self.config.env.episode_steps / self._seconds(lambda: self.view(episodes))

    def sac_steps(self, batch: int) -> float:
        """Return SAC steps a second."""
        view = self.view(80)
        return 1.0 / self._seconds(lambda: self.sac.step(view.sample(batch, self.generator)), warm_up=3)

    def control_tick(self, count: int) -> np.ndarray:
        """Return durations of observation in -> action out of one robot on one thread, in seconds."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        controller = Controller(self.model, 1)
        obs, reward, durations = np.zeros((1, self.obs_dim)), np.zeros(1), []
        action = controller.act(obs)
        for _ in range(count):
            start = time.perf_counter()
            controller.observe(action, reward, obs)
            action = controller.act(obs)
            durations.append(time.perf_counter() - start)
        torch.set_num_threads(threads)
        return np.array(durations)

    def epoch(self) -> dict[str, float]:
        """Run an epoch; return the seconds of its parts."""
        marks = [time.perf_counter()]
        for part in (self.collect, lambda: self.learners.infer(2), lambda: self.learners.control(2)):
            part()
            marks.append(time.perf_counter())
        beside = self.config.sac.beside_inference
        names = ("collection", f"inference, and {beside:.0%} of SAC beside it" if beside else "inference", "SAC")
        return {name: end - start for name, (start, end) in zip(names, itertools.pairwise(marks), strict=True)}


def epoch_seconds(config: Config, rates: dict[str, float]) -> dict[str, float]:
    """Return the seconds of an epoch's parts from steps a second (transitions for the encoding)."""
    sac, training = config.sac, config.training
    amounts = {
        "collection": training.tasks_per_epoch * config.env.episode_steps,
        "inference": config.inference.steps_per_epoch,
        "encoding": sac.steps_per_epoch * sac.batch_size / sac.draws_per_transition,
        "SAC": sac.steps_per_epoch,
    }
    return {name: amounts[name] / rate for name, rate in rates.items()}


@dataclass
class Measurement:
    """Collects rows, telling each as it is there."""

    console: Console
    rows: list[Row]

    def add(self, name: str, achieved: float, unit: str, ceiling: float | None = None, note: str = "") -> float:
        self.rows.append(Row(name, achieved, unit, ceiling, note))
        self.console.print(f"{name}: {shown(achieved)} {unit} {note}", highlight=False)
        return achieved

    def add_epoch(self, name: str, parts: dict[str, float], baseline_s: float | None, how: str) -> float:
        """Add a row of an epoch from the seconds of its parts."""
        total = sum(parts.values())
        split = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in parts.items())
        gain = "" if baseline_s is None else f"{baseline_s / total:.0f} times faster than the baseline; "
        return self.add(name, total, "s", note=f"{gain}{how}: {split}")


def measure(config: Config, budget_s: float, console: Console) -> list[Row]:
    """Measure every row; the shorter the budget for each, the less they can be relied on."""
    found, threads = Measurement(console, []), torch.get_num_threads()
    products = {}
    for mode, dtype in (("exact", torch.float32), ("fast", torch.bfloat16)):
        products[mode] = found.add(f"matmul {dtype}, 256 x 300 x 300", matmul_flops(dtype) / 1e9, "GFLOP/s")
    raw = found.add("physics alone", raw_env_steps(config) * threads, "env steps/s", note=f"one thread times {threads}")
    exact = Bench(config, budget_s)
    baseline_s = measure_baseline(found, exact, repeats=max(1, int(budget_s)))
    for mode in ("exact", "fast"):
        settings = override_config(config, [f"training.fast={str(mode == 'fast').lower()}"])
        bench = exact if mode == "exact" else Bench(settings, budget_s, exact.replay)
        measure_mode(found, bench, mode, 1e9 * products[mode], raw, baseline_s)
    measure_window(found, override_config(config, ["model.context=window"]), exact, raw)
    return found.rows


def measure_baseline(found: Measurement, bench: Bench, repeats: int) -> float:
    """Add the rows of the reference's arithmetic; return the seconds of its epoch."""
    reference = ReferenceCost(bench.config, bench.replay, bench.obs_dim, bench.action_dim)
    rates = {
        "collection": 1.0 / reference.env_step_s(100 * repeats),
        "inference": 1.0 / reference.inference_step_s(1),
        "SAC": 1.0 / reference.sac_step_s(2 * repeats),
    }
    for name, rate in rates.items():
        found.add(f"baseline: {name}", rate, "steps/s", note="the reference's arithmetic, few repetitions")
    return found.add_epoch("baseline: epoch", epoch_seconds(bench.config, rates), None, "from its parts")


def measure_mode(
    found: Measurement, bench: Bench, mode: str, product_flops: float, raw: float, baseline_s: float
) -> None:
    """Add the rows of the exact or the fast mode."""
    config, rates = bench.config, {}
    rates["collection"] = found.add(f"{mode}: collection", bench.collection(), "env steps/s", raw)
    ceiling = product_flops / inference_flops(config, bench.model)
    rates["inference"] = found.add(f"{mode}: inference", bench.inference_steps(), "steps/s", ceiling)
    rates["encoding"] = found.add(f"{mode}: encoding of the view", bench.encoding(), "transitions/s")
    for batch in (256, 1024):
        sized = override_config(config, [f"sac.batch_size={batch}"])
        ceiling = product_flops / sac_flops(sized, bench.obs_dim, bench.action_dim)
        rate = found.add(f"{mode}: SAC, batch {batch}", bench.sac_steps(batch), "steps/s", ceiling)
        if batch == config.sac.batch_size:
            rates["SAC"] = rate
    rates.setdefault("SAC", bench.sac_steps(config.sac.batch_size))
    if mode == "exact":
        add_tick(found, "control tick, stream", bench)
    parts = epoch_seconds(config, rates)
    if sum(parts.values()) < REAL_EPOCH_S:
        found.add_epoch(f"{mode}: epoch", bench.epoch(), baseline_s, "run")
    else:
        found.add_epoch(f"{mode}: epoch", parts, baseline_s, "from its parts")


def measure_window(found: Measurement, config: Config, exact: Bench, raw: float) -> None:
    """Add the rows of the paper's way to read the context."""
    bench = Bench(config, exact.budget_s, exact.replay)
    found.add("window: collection", bench.collection(), "env steps/s", raw)
    found.add("window: inference", bench.inference_steps(), "steps/s")
    found.add("window: encoding of the view", bench.encoding(), "transitions/s")
    add_tick(found, "control tick, window", bench)


def add_tick(found: Measurement, name: str, bench: Bench) -> None:
    """Add the row of the control tick of one robot."""
    tick = 1e6 * bench.control_tick(int(300 * bench.budget_s))
    found.add(name, float(np.median(tick)), "us", note=f"p99 {np.percentile(tick, 99):.0f}, max {tick.max():.0f}")


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="half_cheetah_eight")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs")
    arguments = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    console = Console()
    rows = measure(load_config(arguments.config), 0.5 if arguments.quick else 5.0, console)
    table = Table("part", "achieved", "unit", "ceiling", "ratio", "note", title=f"{arguments.config} on {machine}")
    for row in rows:
        ceiling, ratio = (shown(row.ceiling), f"{row.achieved / row.ceiling:.0%}") if row.ceiling else ("", "")
        table.add_row(row.name, shown(row.achieved), row.unit, ceiling, ratio, row.note)
    console.print(table)
    if arguments.json is not None:
        document = {"machine": machine, "config": arguments.config, "rows": [asdict(row) for row in rows]}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
