# SPDX-License-Identifier: Apache-2.0
"""The `tigr` command line: train, evaluate and inspect. A user's mistake ends with one message and exit status 2."""

from __future__ import annotations

import math
import signal
import sys
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

import envs
from tigr_core import evaluation, recording_commands, reference_commands, reference_showcase, run_report
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.config import Config, config_folder, load_config, shipped_configs
from tigr_core.errors import UserError
from tigr_core.progress import make_progress
from tigr_core.reference_config import is_reference, read_reference
from tigr_core.reference_notes import notes_table
from tigr_core.run import RunOptions, make_collector, open_run
from tigr_core.run_log import PROGRESS_FILE, read_progress
from tigr_core.stop import Stop
from tigr_core.stored_run import import_run
from tigr_core.trainer import BEST
from tigr_core.video import check_suffix, episodes_to_show, write_video

app = typer.Typer(
    help="Task-inference meta-reinforcement learning: train a policy that infers its task, and look at what it infers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to stop with the work saved; a second Ctrl-C aborts."""

    def __init__(self) -> None:
        self.made = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self) -> Stop:
        return Stop.AT_ONCE if self.made else Stop.NO


@app.command()
def train(
    config: Annotated[
        str,
        typer.Argument(
            help="Name of a shipped configuration (see `tigr configs`), a YAML file, or a JSON file "
            "of TIGR's reference implementation (docs/reference.md)."
        ),
    ] = "quick",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. training.epochs=20. Repeatable."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with the run in this folder.")] = None,
    device: Annotated[str, typer.Option(help="Where to learn: cpu, cuda or auto.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Collect in this many Ray processes; 0: in this process.")] = 0,
    ray_address: Annotated[
        str | None, typer.Option(metavar="auto|HOST:PORT", help="Collect on this Ray cluster, with --workers N.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the configuration's.")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where run folders are made: DIR/<env>/<run>.")] = Path(
        "output"
    ),
) -> None:
    """Train, write a run folder and end with a report. Ctrl-C stops after the current step and keeps the work."""
    if resume is None and _show_as_asked(config, [*(set_ or []), *(["--seed"] if seed is not None else [])], output):
        return
    options = RunOptions(config, tuple(set_ or []), seed, resume, output, device, workers, ray_address)
    with make_progress() as progress, open_run(options, progress=progress, stop=StopRequest()) as run:
        complete = run.trainer.run()
        progress.close()
        results = run.report() if complete else None
    if results is not None:
        _show_results(results, read_progress(run.folder / PROGRESS_FILE))
        print(f"report   {run.folder / run_report.REPORT}\nbundle   {run.folder / BEST}")
    else:
        print(f"stopped and saved; go on with:  tigr train --resume {run.folder}")


def _show_as_asked(config: str, changes: list[str], output: Path) -> bool:
    """Do what a configuration of the reference asks for instead of training; return whether it does."""
    reference = read_reference(Path(config)) if is_reference(config) else None
    if reference is None or reference.showcase is None:
        return False
    if changes:
        raise UserError(
            f"{config} asks for {reference.showcase}, with {', '.join(changes)}",
            expected="no settings: the run that is shown has its own",
            fix="leave them out",
        )
    Console().print(notes_table(reference))
    base = Path(reference.values["util_params.base_log_dir"])
    results, folder = reference_showcase.show(reference, base if output == RunOptions.output else output)
    _show_results(results, {})
    print(f"results  {folder}")
    return True


@app.command("eval")
def evaluate(
    run_or_bundle: Annotated[Path, typer.Argument(help="A run folder (its best bundle is taken) or a .tigr file.")],
    tasks: Annotated[
        str | None,
        typer.Option(help="Tasks instead of the test split, e.g. 'velocity_forward=3,goal_forward=10'."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each task, with different starts.")] = 1,
    non_stationary: Annotated[bool, typer.Option(help="Let the task change during the episode.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Also write the report page to this file.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a video: .mp4 (extra `video`) or .gif.")
    ] = None,
) -> None:
    """Evaluate a bundle and print what it reaches."""
    if video is not None:
        check_suffix(video)
    folder = run_or_bundle if run_or_bundle.is_dir() else run_or_bundle.parent
    bundle = load_bundle(run_or_bundle / BEST if run_or_bundle.is_dir() else run_or_bundle)
    config = run_report.config_of(bundle)
    chosen = _parse_tasks(tasks, config) if tasks else evaluation.split_tasks(config)[1]
    with closing(make_collector(config.env)) as collector:
        results = run_report.evaluate_tasks(bundle, collector, config, chosen * episodes, changes=non_stationary)
    curves = read_progress(folder / PROGRESS_FILE) if (folder / PROGRESS_FILE).is_file() else {}
    _show_results(results, {})
    if report is not None:
        run_report.write_page(report, results, curves)
        print(f"report   {report}")
    if video is not None:
        shown = episodes_to_show(results.test, results.changes)
        write_video(video, *shown, bundle.info, evaluation.tasks_of(config.env))
        print(f"video    {video}")


def _parse_tasks(text: str, config: Config) -> list[envs.Task]:
    tasks = evaluation.tasks_of(config.env)
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return [tasks.task(name.strip(), *(float(v) for v in value.split(":"))) for name, value in pairs]
    except ValueError as error:
        raise UserError(
            f"--tasks {text}: {error}",
            expected="name=parameter, separated by commas (x:y for two)",
            fix=f"names: {', '.join(tasks.names)}",
        ) from None


def _show_results(results: run_report.Results, progress: dict[str, list[float]]) -> None:
    headline, console = results.headline(), Console()
    table = Table(title="Test tasks, most likely action", title_justify="left")
    success = "test_success" in headline
    for column in ("base task", "return before", "return", *(["success"] if success else []), "tracking error"):
        table.add_column(column, justify="left" if column == "base task" else "right")
    for name in ("", *(f"/{n}" for n in results.bundle.info.base_tasks)):
        before = progress.get(f"test_return{name}", [])
        error = headline.get(f"tracking_error{name}") if name else None
        cells = [
            f"{before[0]:.1f}" if before else "-",
            f"{headline[f'test_return{name}']:.1f}",
            *([f"{headline[f'test_success{name}']:.0%}"] if success else []),
            f"{error:.2f}" if error is not None else "",
        ]
        table.add_row(name[1:] or "mean", *cells)
    console.print(table)
    accuracy = [f"{headline[k]:.3f} at step {k.split('/')[1]}" for k in headline if k.startswith("component_accuracy/")]
    console.print(f"component accuracy   {', '.join(accuracy)}", highlight=False, soft_wrap=True)
    if "recovery_steps_median" in headline:
        median = headline["recovery_steps_median"]
        again = "never right again" if math.isinf(median) else f"right again after {median:.0f} steps"
        console.print(
            f"after a change of base task   {again} (median of {headline['task_changes']:.0f} changes), "
            f"within 20 steps in {headline['recovered_within_20_steps']:.0%}",
            highlight=False,
            soft_wrap=True,
        )


app.command()(recording_commands.replay)
app.command()(recording_commands.report)
app.command()(recording_commands.import_bag)
app.command()(import_run)
app.command()(reference_commands.import_weights)
app.add_typer(reference_commands.config_app, name="config")


@app.command()
def info(bundle: Annotated[Path, typer.Argument(help="A .tigr file.")]) -> None:
    """Show what a bundle holds and where it came from."""
    loaded = load_bundle(bundle)
    table = Table(show_header=False, box=None)
    for name, value in _describe(loaded).items():
        table.add_row(name, Text(str(value)))  # names hold brackets, which are no markup
    Console().print(table)


def _describe(bundle: Bundle) -> dict[str, Any]:
    about, robot, model = bundle.info, bundle.robot, bundle.info.model
    return {
        "environment": about.env_id,
        "base tasks": ", ".join(f"{n} [{u}]" for n, u in zip(about.base_tasks, about.task_units, strict=True)),
        "robot": f"{robot.name}, control period {robot.control_dt:g} s",
        "observation": ", ".join(f"{term.name} [{term.unit}]" for term in robot.observation),
        "actuators": ", ".join(
            f"{a.name} ±{max(abs(a.low), abs(a.high)) * a.gear:g} {a.effort_unit}" for a in robot.actuators
        ),
        "context": model.context if model.context == "stream" else f"window of {model.context_length} transitions",
        "mixture": f"{model.num_components} components, latent of {model.latent_dim}",
        "parameters": f"{sum(p.numel() for p in bundle.model.parameters()):,}",
        "trained": f"{about.source.env_steps:,} env steps, {about.source.sac_steps:,} SAC steps, "
        f"configuration {about.source.config['name']}, seed {about.source.config['seed']}, "
        f"version {about.source.version}",
        "test return": f"{about.source.evaluation.get('test_return', float('nan')):.1f}",
        "sha256": about.sha256,
    }


@app.command("envs")
def list_envs() -> None:
    """List the environments and their base tasks."""
    table = Table(Column("environment", no_wrap=True), "description", "base tasks")
    for name, description in envs.env_ids().items():
        table.add_row(name, description, ", ".join(envs.task_set(name).names))
    Console().print(table)


@app.command("configs")
def list_configs() -> None:
    """List the training configurations that come with the package."""
    table = Table(Column("configuration", no_wrap=True), "environment", "description")
    for name in shipped_configs():
        config = load_config(name)
        table.add_row(name, config.env.id, config.description)
    Console().print(table)
    print(f"files in {config_folder()}")
