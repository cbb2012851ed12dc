# SPDX-License-Identifier: Apache-2.0
"""The commands that work on recordings: ``tigr replay``, ``tigr report`` and ``tigr import-bag``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import tigr_core
from envs import task_set
from tigr_core import analysis
from tigr_core.bundle import load_bundle
from tigr_core.errors import UserError
from tigr_core.recording import Recording, infer_again, read_recording, to_episodes
from tigr_core.report import write_report
from tigr_core.stored_run import StoredRun
from tigr_core.video import stills

Bag = Annotated[Path, typer.Argument(help="An .mcap file of `tigr-record`, or the folder of a `ros2 bag`.")]
Policy = Annotated[str, typer.Option(help="Name of the policy node that was recorded.")]


def replay(
    bag: Bag,
    bundle: Annotated[
        Path | None, typer.Option(metavar="TIGR", help="The policy to infer with; default: the one that was recorded.")
    ] = None,
    policy: Policy = "policy_node",
) -> None:
    """Infer again over a recording and tell where it differs: for the same bundle, nowhere."""
    recording = read_recording(bag, policy)
    torch.set_num_threads(1)  # as the node does: the same bits
    chosen = load_bundle(bundle or _recorded_bundle(recording))
    same = chosen.info.sha256 == recording.spec["sha256"]
    result = infer_again(recording, chosen)
    print(
        f"recorded   {recording.spec['sha256'][:12]}, {len(recording.answers)} answers in {recording.duration_s:.1f} s"
    )
    print(f"inferred   {chosen.info.sha256[:12]}{' (the same bundle)' if same else ''}")
    print(f"compared   {result.compared} answers; {result.skipped} belong to a context that began before the recording")
    if result.first is None:
        print("difference none: every estimate is the same to the last bit")
        return
    sizes = ", ".join(f"{name} up to {value:.3g}" for name, value in result.largest.items())
    started = recording.answers[0].time_ns
    after_s = (recording.answers[result.first].time_ns - started) * 1e-9
    print(f"difference {sizes}; first at answer {result.first}, after {after_s:.2f} s")


def report(
    bag: Bag,
    output: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Where to write the page; default: beside the recording.")
    ] = None,
    policy: Policy = "policy_node",
) -> None:
    """Write the page of a recording: what the robot did, what the policy believed, when, and how fast."""
    recording = read_recording(bag, policy)
    episodes = to_episodes(recording)
    names = recording.spec["base_tasks"]
    told = any(answer.truth for answer in recording.answers)
    response_ms = 1e3 * np.array([answer.response_s for answer in recording.answers])
    p50, p99 = np.nanpercentile(response_ms, [50, 99]) if np.isfinite(response_ms).any() else (np.nan, np.nan)
    tasks = task_set(recording.spec["env_id"], names)
    path = output or bag.with_suffix(".html")
    write_report(
        path,
        progress={},
        test=episodes,
        changes=episodes if analysis.base_task_changes(episodes) else None,
        base_tasks=tasks.base_tasks,
        component_to_task=np.arange(len(names)),
        control_dt=recording.robot.control_dt,
        summary={
            "recording": bag.name,
            "environment": recording.spec["env_id"],
            "bundle": recording.spec["sha256"][:12],
            "answers": len(recording.answers),
            "duration": f"{recording.duration_s:.1f} s",
            "state to command, p50 and p99": f"{p50:.1f} and {p99:.1f} ms",
            "true task": "as the simulator told" if told else "not recorded: the inferred one stands for it",
        },
        config_text=json.dumps(recording.spec, indent=1),
        postures=stills(episodes, recording.spec["env_id"], tasks),
    )
    print(f"report   {path}")


def import_bag(
    bag: Bag,
    run: Annotated[Path, typer.Argument(help="Folder of the run whose replay data the recording joins.")],
    policy: Policy = "policy_node",
) -> None:
    """Add a recording to the replay data of a run; `tigr train --resume RUN` then learns from it too."""
    recording = read_recording(bag, policy)
    with StoredRun.change(run) as into:
        _require_same_tasks(recording, into.config.env.id, into.base_tasks)
        episodes = to_episodes(recording, episode_steps=into.config.env.episode_steps)
        into.replay.add(episodes, into.new_rng())
    print(f"added    {len(episodes)} episodes, {episodes.num_steps} transitions, to {run}")
    print(f"go on with:  tigr train --resume {run}")


def _recorded_bundle(recording: Recording) -> Path:
    """Find the bundle of a recording among those that come with the package."""
    for path in sorted((Path(tigr_core.__file__).parent / "bundles").glob("*.tigr")):
        if load_bundle(path).info.sha256 == recording.spec["sha256"]:
            return path
    raise UserError(
        f"the recorded bundle, {recording.spec['sha256'][:12]}, does not come with the package",
        expected="a bundle to infer with",
        fix="add --bundle /path/to/best.tigr",
    )


def _require_same_tasks(recording: Recording, env_id: str, names: list[str]) -> None:
    if (recording.spec["env_id"], recording.spec["base_tasks"]) != (env_id, names):
        raise UserError(
            f"a recording of {recording.spec['env_id']} with {', '.join(recording.spec['base_tasks'])}",
            expected=f"one of {env_id} with {', '.join(names)}",
            fix="choose the run that the recorded bundle came from",
        )
