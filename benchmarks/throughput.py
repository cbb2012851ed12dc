# SPDX-License-Identifier: Apache-2.0
"""How fast an epoch and its parts run at the paper's sizes, beside what the machine can do. Run: ``make bench``.

Prints a table and writes it as JSON. Rows and their ceilings are measured in turns, for a shared machine changes its
speed by the minute; medians are told. Ceilings are a matrix product at the policy's size (256 x 300 x 300), in float32
for the exact mode and for the fast one in what that multiplies in (`fast.product_dtype`), and physics alone, a share of
the robots in each thread (`ceilings.py`). With ``--device cuda`` the parts that learn are measured there.
The baseline is `reference_cost.py`, timed on few repetitions before, between and after epochs; means are compared. As
the authors' program it has one thread, and it is timed with as many as here, too. An epoch is as many environment,
inference and SAC steps as the configuration says, with the encoding of the view that SAC reads, at a replay buffer that
fills the view.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ceilings import CPU, inference_flops, matmul_flops, raw_env_steps, sac_flops, seconds_per_call, wait_for
from reference_cost import Baseline
from rich.console import Console
from rich.table import Table

import envs
from tigr_core import evaluation
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import Config, load_config, override_config
from tigr_core.controller import Controller
from tigr_core.fast import product_dtype
from tigr_core.launches import STEPS_BEFORE_CAPTURE, SACLaunches
from tigr_core.learners import Learners
from tigr_core.model import TaskInferenceModel
from tigr_core.progress import Progress
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.sac_learner import TransitionView
from tigr_core.stop import never

MANY = 1_000_000  # SAC steps that are wanted, so that a launch takes as many as it can
REAL_EPOCH_S = 90.0  # longer ones are added up from their parts
EPOCHS_S = 150.0  # in which epochs of one mode are run
TURNS = 3  # of a row and its ceiling, and of epochs and the baseline


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


def told(seconds: list[float]) -> str:
    """Return durations as a note tells them."""
    return ", ".join(f"{value:,.0f}" for value in seconds) + " s"


def count_of(threads: int) -> str:
    """Return a number of threads in words."""
    return "1 thread" if threads == 1 else f"{threads} threads"


class Bench:
    """The parts of an epoch of one configuration in one mode, filled with collected data."""

    def __init__(
        self, config: Config, budget_s: float, replay: ReplayBuffer | None = None, device: torch.device = CPU
    ) -> None:
        self.config, self.budget_s, self.device = config, budget_s, device  # seconds a turn
        robot = envs.make_vector(config.env.id).spec_robot
        self.obs_dim, self.action_dim = robot.obs_dim, robot.action_dim
        self.acting_model = TaskInferenceModel(config.model, self.obs_dim, self.action_dim)
        self.model = self.acting_model if device == CPU else copy.deepcopy(self.acting_model).to(device)
        self.rng, self.generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
        self.train_tasks, _ = evaluation.split_tasks(config)
        self.collector = LocalCollector(config.env, num_threads=torch.get_num_threads(), fast=config.training.fast)
        self.replay = replay if replay is not None and replay.device == device else self._filled_replay()
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
        replay = ReplayBuffer(config.training.replay_capacity, config.env.episode_steps, device=self.device)
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
        return seconds_per_call(call, budget_s=self.budget_s, warm_up=warm_up, device=self.device)

    def collect(self) -> Episodes:
        count = self.config.training.tasks_per_epoch
        tasks = (self.train_tasks * count)[:count]
        return self.collector.collect(self.acting_model, Request(tasks, list(range(count)), noise_seed=0))

    def collection(self) -> float:
        """Return environment steps a second."""
        steps = self.config.training.tasks_per_epoch * self.config.env.episode_steps
        return steps / self._seconds(self.collect)

    def inference_steps(self) -> float:
        """Return inference steps a second."""
        learn = self.learners.inference_launch()
        warm_up = 1 if learn is None else STEPS_BEFORE_CAPTURE + 1
        return 1.0 / self._seconds(lambda: self.inference.step(self.replay, learn), warm_up)

    def view(self, episodes: int) -> TransitionView:
        encode = self.inference.encode_episodes
        return TransitionView(self.model, self.replay, torch.arange(episodes, device=self.device), encode=encode)

    def encoding(self) -> float:
        """Return transitions encoded a second."""
        episodes = 80
        return episodes * self.config.env.episode_steps / self._seconds(lambda: self.view(episodes))

    def sac_steps(self, batch: int) -> float:
        """Return SAC steps a second."""
        view = self.view(80)
        capture = self.learners.capture_of(view)
        launches = SACLaunches(self.sac, lambda: view.sample(batch, self.learners.control_generator), capture)
        while capture is not None and launches.take(MANY)[0] == 1:
            pass  # the steps before the first launch
        seconds = self._seconds(lambda: launches.take(MANY), warm_up=3)
        return (1 if capture is None else launches.steps_per_launch) / seconds

    def control_tick(self, count: int) -> np.ndarray:
        """Return durations of observation in -> action out of one robot on one thread, in seconds."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        controller = Controller(self.acting_model, 1)
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
            wait_for(self.device)
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
    turns: int

    def add(self, name: str, achieved: float, unit: str, ceiling: float | None = None, note: str = "") -> float:
        self.rows.append(Row(name, achieved, unit, ceiling, note))
        self.console.print(f"{name}: {shown(achieved)} {unit} {note}", highlight=False)
        return achieved

    def add_below(self, name: str, achieve: Callable[[], float], unit: str, ceiling: Callable[[], float]) -> float:
        """Add a row and its ceiling, measured in turns."""
        ceilings, achieved = [ceiling()], []
        for _ in range(self.turns):
            achieved.append(achieve())
            ceilings.append(ceiling())
        return self.add(name, statistics.median(achieved), unit, statistics.median(ceilings))

    def add_epoch(
        self, name: str, epochs: list[dict[str, float]], how: str, baseline_s: dict[int, list[float]] | None = None
    ) -> None:
        """Add a row of the mean of epochs from the seconds of their parts; those of the baseline by its threads."""
        totals = [sum(parts.values()) for parts in epochs]
        split = ", ".join(f"{part} {np.mean([parts[part] for parts in epochs]):.1f} s" for part in epochs[0])
        gains = [
            f"{np.mean(times) / np.mean(totals):.0f} times faster than the baseline on {count_of(on)} ({told(times)})"
            for on, times in (baseline_s or {}).items()
        ]
        self.add(name, float(np.mean(totals)), "s", note="; ".join([*gains, f"{how} ({told(totals)}): {split}"]))


def measure(config: Config, budget_s: float, turns: int, console: Console, device: torch.device) -> list[Row]:
    """Measure every row; the shorter the budget for each turn, the less they can be relied on."""
    found, threads = Measurement(console, [], turns), torch.get_num_threads()
    for dtype in (torch.float32, torch.bfloat16):
        found.add(f"matmul {dtype}, 256 x 300 x 300", matmul_flops(dtype, device) / 1e9, "GFLOP/s")
    found.add("physics alone", raw_env_steps(config, threads), "env steps/s", note=f"{threads} threads")
    exact = Bench(config_of_mode(config, "exact"), budget_s)
    with Baseline(exact.config, repeats=2 * turns) as baseline:
        add_baseline(found, baseline)
        for mode in ("exact", "fast"):
            known = exact if mode == "exact" and device == CPU else None
            bench = known or Bench(config_of_mode(config, mode), budget_s, exact.replay, device)
            measure_mode(found, bench, mode, baseline)
    measure_window(found, override_config(exact.config, ["model.context=window"]), exact)
    return found.rows


def config_of_mode(config: Config, mode: str) -> Config:
    """Return the configuration in the exact or the fast mode."""
    return override_config(config, [f"training.fast={str(mode == 'fast').lower()}"])


def thread_counts() -> list[int]:
    """Return how many threads the baseline is timed with: those of the authors' program first."""
    return sorted({1, torch.get_num_threads()})


def add_baseline(found: Measurement, baseline: Baseline) -> None:
    """Add the rows of the baseline's parts and its epoch."""
    for threads in thread_counts():
        rates, on = baseline.rates(threads), count_of(threads)
        if threads == 1:
            for name, rate in rates.items():
                found.add(f"baseline: {name}", rate, "steps/s", note=f"the reference's arithmetic on {on}")
        found.add_epoch(f"baseline: epoch, {on}", [epoch_seconds(baseline.config, rates)], "from its parts")


def measure_mode(found: Measurement, bench: Bench, mode: str, baseline: Baseline) -> None:
    """Add the rows of the exact or the fast mode."""
    config, rates = bench.config, {}
    dtype = product_dtype(bench.device) if mode == "fast" else torch.float32

    def steps_of(flops: float) -> Callable[[], float]:
        return lambda: matmul_flops(dtype, bench.device) / flops

    rates["collection"] = add_collection(found, f"{mode}: collection", bench)
    ceiling = steps_of(inference_flops(config, bench.model))
    rates["inference"] = found.add_below(f"{mode}: inference", bench.inference_steps, "steps/s", ceiling)
    rates["encoding"] = found.add(f"{mode}: encoding of the view", bench.encoding(), "transitions/s")
    for batch in dict.fromkeys((256, 1024, config.sac.batch_size)):
        sized = override_config(config, [f"sac.batch_size={batch}"])
        ceiling = steps_of(sac_flops(sized, bench.obs_dim, bench.action_dim))
        rate = found.add_below(f"{mode}: SAC, batch {batch}", partial(bench.sac_steps, batch), "steps/s", ceiling)
        if batch == config.sac.batch_size:
            rates["SAC"] = rate
    if mode == "exact":
        add_tick(found, "control tick, stream", bench)
    add_epochs(found, f"{mode}: epoch", bench, epoch_seconds(config, rates), baseline)


def add_epochs(found: Measurement, name: str, bench: Bench, expected: dict[str, float], baseline: Baseline) -> None:
    """Add the row of epochs, run as often as there is time for, with the baseline before and after each."""
    epochs: list[dict[str, float]] = []
    baseline_s: dict[int, list[float]] = {threads: [] for threads in thread_counts()}

    def time_baseline() -> None:
        for threads, times in baseline_s.items():
            times.append(sum(epoch_seconds(bench.config, baseline.rates(threads)).values()))

    time_baseline()
    real, spent = sum(expected.values()) < REAL_EPOCH_S, 0.0
    while not epochs or (real and len(epochs) < found.turns and spent + spent / len(epochs) < EPOCHS_S):
        epochs.append(bench.epoch() if real else expected)
        spent += sum(epochs[-1].values())
        time_baseline()
    found.add_epoch(name, epochs, "run" if real else "from its parts", baseline_s)


def measure_window(found: Measurement, config: Config, exact: Bench) -> None:
    """Add the rows of the paper's way to read the context."""
    bench = Bench(config, exact.budget_s, exact.replay)
    add_collection(found, "window: collection", bench)
    found.add("window: inference", bench.inference_steps(), "steps/s")
    found.add("window: encoding of the view", bench.encoding(), "transitions/s")
    add_tick(found, "control tick, window", bench)


def add_collection(found: Measurement, name: str, bench: Bench) -> float:
    """Add the row of collecting, below physics alone."""
    physics = partial(raw_env_steps, bench.config, torch.get_num_threads())
    return found.add_below(name, bench.collection, "env steps/s", physics)


def add_tick(found: Measurement, name: str, bench: Bench) -> None:
    """Add the row of the control tick of one robot."""
    tick = 1e6 * bench.control_tick(int(750 * bench.budget_s))
    found.add(name, float(np.median(tick)), "us", note=f"p99 {np.percentile(tick, 99):.0f}, max {tick.max():.0f}")


def processor() -> str:
    """Return the processor's name, and what it multiplies in besides float32."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, fast mode in {product_dtype(CPU)})"


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="half_cheetah_eight")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where what learns is measured")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        parser.error(
            f"found --device {arguments.device} and no GPU that PyTorch can use, expected cpu, or cuda with one"
        )
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    if arguments.device != "cpu":
        machine += f", {torch.cuda.get_device_name(arguments.device)}"
    console = Console()
    device = torch.device(arguments.device)
    budget_s, turns = (0.5, 1) if arguments.quick else (2.0, TURNS)
    rows = measure(load_config(arguments.config), budget_s, turns, console, device)
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
