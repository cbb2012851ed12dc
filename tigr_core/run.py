# SPDX-License-Identifier: Apache-2.0
"""A training in its run folder, ``<output>/<env>/<run>``: begun or gone on with, the same way for all who train."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from envs import ENVIRONMENTS
from tigr_core import evaluation, run_report
from tigr_core.checkpoint import load_checkpoint
from tigr_core.collector import Collector, LocalCollector
from tigr_core.config import Config, EnvConfig, load_config, make_config, override_config
from tigr_core.errors import UserError
from tigr_core.files import FolderLock, write_atomically
from tigr_core.progress import Progress
from tigr_core.reference_config import Reference, is_reference, read_reference
from tigr_core.reference_notes import notes_table
from tigr_core.reference_output import write_description
from tigr_core.stop import AskStop, Interrupted, never
from tigr_core.trainer import CHECKPOINT, Trainer

CONFIG = "config.yaml"
DEVICES = ("cpu", "cuda", "auto")


@dataclass(frozen=True)
class RunOptions:
    """What to train, where, and with what."""

    config: str = "quick"  # name of a shipped configuration or path of YAML or a reference's JSON; not with `resume`
    overrides: tuple[str, ...] = ()  # key=value
    seed: int | None = None  # None: the configuration's
    resume: Path | None = None  # folder of the run to go on with
    output: Path = Path("output")
    device: str = "auto"  # one of DEVICES
    workers: int = 0  # Ray processes that collect; 0: this process does
    ray_address: str | None = None  # of the cluster they run on: auto or HOST:PORT; None: this machine


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
    reference = None
    if options.resume is not None:
        config, folder = _resumed_config(options.resume, overrides), options.resume
    elif is_reference(options.config):
        reference = read_reference(Path(options.config))
        if reference.showcase is not None:
            raise UserError(
                f"{options.config} asks for {reference.showcase}",
                expected="a training",
                fix=f"`tigr train {options.config}` on the command line, which evaluates",
            )
        progress.table(notes_table(reference))
        config, options = reference.config(overrides), _with_options_of(reference, options)
        folder = options.output / reference.run_folder
    else:
        config = load_config(options.config, overrides)
        folder = _new_folder(options.output, config)
    evaluation.tasks_of(config.env)
    device = _device(options.device)
    collector = make_collector(
        config.env,
        options.workers,
        options.ray_address,
        fast=config.training.fast,
        stop=stop,
        tell=progress.message,
    )
    with closing(collector):
        trainer = Trainer(config, folder, collector=collector, progress=progress, device=device, stop=stop)
        lock = FolderLock(folder)
        try:
            run = Run(folder, trainer, collector)
            _begin(run, config, progress, reference) if options.resume is None else _go_on(run, progress)
            yield run
        finally:
            lock.release()


def make_collector(
    env: EnvConfig,
    workers: int = 0,
    ray_address: str | None = None,
    *,
    fast: bool = False,
    stop: AskStop = never,
    tell: Callable[[str], object] = lambda text: None,
) -> Collector:
    """Return a collector in this process, or with `workers` Ray actors here or on a cluster; `tell` hears of losses."""
    if workers == 0 and ray_address is not None:
        raise UserError(
            f"--ray-address {ray_address} without workers",
            expected="how many processes of the cluster collect",
            fix="add --workers N",
        )
    extra = ENVIRONMENTS[env.id].missing_extra if env.id in ENVIRONMENTS else ""
    if extra:
        raise UserError(
            f"{env.id} needs the package {extra}, which is not installed",
            expected=f"the extra {extra}, in a Python environment of its own (docs/environments.md)",
            fix=f"pip install 'tigr_ros[{extra}]'",
        )
    if workers == 0:
        return LocalCollector(env, num_threads=torch.get_num_threads(), fast=fast, stop=stop)
    from tigr_core.ray_collector import RayCollector  # Ray is an optional extra

    return RayCollector(env, workers, address=ray_address, fast=fast, stop=stop, tell=tell)


def _with_options_of(reference: Reference, options: RunOptions) -> RunOptions:
    """Return options that a reference's configuration says, unless the command says otherwise."""
    values = {key.removeprefix("util_params."): value for key, value in reference.values.items()}
    return replace(
        options,
        output=Path(values["base_log_dir"]) if options.output == RunOptions.output else options.output,
        device="cpu" if options.device == "auto" and not values["use_gpu"] else options.device,
        workers=values["num_workers"] if options.workers == 0 and values["use_multiprocessing"] else options.workers,
    )


def _begin(run: Run, config: Config, progress: Progress, reference: Reference | None) -> None:
    write_atomically(run.folder / CONFIG, lambda file: file.write(config.to_yaml().encode()))
    if config.training.reference_output:
        variant = None if reference is None else reference.variant(run.folder.name)
        write_description(run.folder, evaluation.tasks_of(config.env), variant)
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
