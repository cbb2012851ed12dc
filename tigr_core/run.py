# SPDX-License-Identifier: Apache-2.0
"""A training in its run folder, ``<output>/<env>/<run>``: begun or gone on with, the same way for all who train."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tigr_core import evaluation, run_report
from tigr_core.checkpoint import load_checkpoint
from tigr_core.collector import Collector, LocalCollector
from tigr_core.config import Config, EnvConfig, load_config, make_config, override_config
from tigr_core.errors import UserError
from tigr_core.files import FolderLock, write_atomically
from tigr_core.progress import Progress
from tigr_core.stop import AskStop, Interrupted, never
from tigr_core.trainer import CHECKPOINT, Trainer

CONFIG = "config.yaml"
DEVICES = ("cpu", "cuda", "auto")


@dataclass(frozen=True)
class RunOptions:
    """What to train, where, and with what."""

    config: str = "quick"  # name of a shipped configuration or path of a YAML file; not used with `resume`
    overrides: tuple[str, ...] = ()  # key=value
    seed: int | None = None  # None: the configuration's
    resume: Path | None = None  # folder of the run to go on with
    output: Path = Path("output")
    device: str = "auto"  # one of DEVICES
    workers: int = 0  # Ray processes that collect; 0: this process does


@dataclass(frozen=True)
class Run:
    """A training whose folder is locked for this process."""

    folder: Path
    trainer: Trainer
    collector: Collector

    def report(self) -> run_report.Results | None:
        """Write the report of the complete training; None if told to stop before it was written."""
        try:
            return run_report.report_run(self.folder, self.collector)
        except Interrupted:
            return None


@contextmanager
def open_run(options: RunOptions, *, progress: Progress, stop: AskStop) -> Iterator[Run]:
    """Make the folder of a new run, or take up the one to resume; nothing is written before the options are checked.

    Raises:
        UserError: options that cannot be, or a folder that is in use, not writable or damaged.
    """
    overrides = [*options.overrides, *([f"seed={options.seed}"] if options.seed is not None else [])]
    if options.resume is None:
        config = load_config(options.config, overrides)
        folder = _new_folder(options.output, config)
    else:
        config, folder = _resumed_config(options.resume, overrides), options.resume
    evaluation.tasks_of(config.env)
    device = _device(options.device)
    if config.training.fast and device.type == "cpu":
        torch.set_num_threads(1)  # its regions are small: waiting for a second thread costs more than it gives
    with closing(make_collector(config.env, options.workers, stop=stop)) as collector:
        trainer = Trainer(config, folder, collector=collector, progress=progress, device=device, stop=stop)
        lock = FolderLock(folder)
        try:
            run = Run(folder, trainer, collector)
            _begin(run, config, progress) if options.resume is None else _go_on(run, progress)
            yield run
        finally:
            lock.release()


def make_collector(env: EnvConfig, workers: int, *, stop: AskStop = never) -> Collector:
    """Return a collector in this process, or with `workers` Ray actors."""
    if workers == 0:
        return LocalCollector(env, num_threads=torch.get_num_threads(), stop=stop)
    from tigr_core.ray_collector import RayCollector  # Ray is an optional extra

    return RayCollector(env, workers, stop=stop)


def _begin(run: Run, config: Config, progress: Progress) -> None:
    write_atomically(run.folder / CONFIG, lambda file: file.write(config.to_yaml().encode()))
    place = f"on {run.trainer.device}, {torch.get_num_threads()} threads"
    progress.message(f"training {config.name} in {run.folder} {place}")


def _go_on(run: Run, progress: Progress) -> None:
    run.trainer.resume()
    progress.message(f"going on with {run.folder} at epoch {run.trainer.epoch}")


def _new_folder(output: Path, config: Config) -> Path:
    name = f"{config.name}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    return output / config.env.id.split("/")[-1] / name


def _resumed_config(folder: Path, overrides: list[str]) -> Config:
    data = load_checkpoint(folder / CHECKPOINT)["config"]
    fixed = [o for o in overrides if o.split("=")[0].split(".")[0] in ("env", "model", "seed", "name")]
    if fixed:
        raise UserError(
            f"resuming with {', '.join(fixed)}",
            expected="changes of inference, sac or training settings only: tasks, networks and seed belong to the run",
            fix="start a new run for another environment, model or seed",
        )
    return override_config(make_config(data, str(folder)), overrides)


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise UserError(f"device {name}", expected="cpu, cuda or auto", fix="choose one of them")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda, but PyTorch sees no GPU", expected="a CUDA device", fix="choose cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
