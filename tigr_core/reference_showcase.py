# SPDX-License-Identifier: Apache-2.0
"""What a reference's configuration asks for with `train_or_showcase`: with a run of ours, or with its weights.

As there, a new folder holds the results: variant.json and task_dict.json; the episodes as JSON; and instead of a video
of each episode report.html and one video with an example of each base task.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch

from tigr_core import evaluation, reference_output, run_report
from tigr_core.bundle import Bundle, load_bundle
from tigr_core.collector import Collector, LocalCollector
from tigr_core.config import Config, EnvConfig
from tigr_core.errors import UserError
from tigr_core.reference_config import Reference
from tigr_core.reference_weights import import_bundle
from tigr_core.rollout import Episodes
from tigr_core.run_report import Results
from tigr_core.trainer import BEST
from tigr_core.video import episodes_to_show, write_video

# Of the reference's non-stationary showcase: how often the task changes, for how long, and how many episodes.
CHANGE_STEPS, CHANGING_STEPS, CHANGING_EPISODES = 80, 560, 5


def show(reference: Reference, output: Path) -> tuple[Results, Path]:
    """Evaluate what `path_to_weights` names; return the results and the folder, below `output`, that has them.

    Raises:
        UserError: no run there, or one with other tasks; a folder that cannot be written.
    """
    bundle = _bundle_of(reference)
    config = run_report.config_of(bundle)
    _require_same_tasks(reference, bundle, config)
    with closing(LocalCollector(config.env, num_threads=torch.get_num_threads())) as collector:
        tasks = evaluation.split_tasks(config)[1]
        test = evaluation.evaluate(collector, bundle.model, tasks, seed=config.seed)
        changes = _changing(bundle, collector, config) if reference.showcase == "showcase_non_stationary_env" else None
    results = Results(bundle, config, test, changes)
    folder = output / reference.run_folder
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}", expected="a writable place", fix="--output DIR") from None
    _write(folder, reference, results)
    return results, folder


def _changing(bundle: Bundle, collector: Collector, config: Config) -> Episodes:
    if not evaluation.tasks_of(config.env).has_alternatives:
        raise UserError("there is one task alone", expected="tasks that can change", fix="choose showcase_all")
    return evaluation.evaluate(
        collector,
        bundle.model,
        evaluation.split_tasks(config)[1][:CHANGING_EPISODES],
        seed=config.seed,
        task_change={"every_steps": CHANGE_STEPS},
        episode_steps=CHANGING_STEPS,
    )


def _write(folder: Path, reference: Reference, results: Results) -> None:
    task_set = evaluation.tasks_of(results.config.env)
    reference_output.write_description(folder, task_set, reference.variant(folder.name))
    if reference.showcase == "showcase_task_inference":
        reference_output.write_json(folder / "roll_out_results.json", reference_output.rollouts(results.test))
    elif results.changes is None:
        reference_output.write_json(folder / "showcase_all_results.json", reference_output.transitions(results.test))
    else:
        content = reference_output.transitions(results.changes)
        reference_output.write_json(folder / "non_stationary_results.json", content)
    run_report.write_page(folder / run_report.REPORT, results, {})
    if reference.showcase != "showcase_task_inference":
        shown = episodes_to_show(results.test, results.changes)
        write_video(folder / "videos" / f"{reference.showcase}.gif", *shown, results.bundle.info, task_set)


def _bundle_of(reference: Reference) -> Bundle:
    """Return the bundle of a run of ours that `path_to_weights` names, or one made of the reference's weights."""
    named = reference.values["path_to_weights"]
    if named is None:
        raise UserError(
            f"{reference.path}: {reference.showcase} without path_to_weights",
            expected="a run folder of ours, a .tigr file, or a folder of the reference's weights",
            fix="name what is to be shown",
        )
    path = Path(str(named))
    if any(path.glob("encoder_itr_*.pth")) or any(path.glob("weights/encoder_itr_*.pth")):
        return import_bundle(path, reference.values["showcase_itr"])
    places = (path, path / BEST, path.parent / BEST)  # the reference names the folder `weights` of a run
    found = next((place for place in places if place.suffix == ".tigr" and place.is_file()), None)
    if found is None:
        raise UserError(
            f"path_to_weights {named}: neither a run nor weights there",
            expected="a run folder of ours (best.tigr), a .tigr file, or a folder of the reference's weights",
            fix="check the path; it counts from the folder where the command is started",
        )
    return load_bundle(found)


def _require_same_tasks(reference: Reference, bundle: Bundle, config: Config) -> None:
    settings = reference.settings()
    asked = EnvConfig(id=settings["env.id"], base_tasks=settings["env.base_tasks"])
    names = evaluation.tasks_of(asked).names
    if asked.id != config.env.id or set(names) != set(bundle.info.base_tasks):
        raise UserError(
            f"{reference.path} is about {asked.id} with {', '.join(names)}",
            expected=f"{config.env.id} with {', '.join(bundle.info.base_tasks)}, as the run has",
            fix="change env_name and task_variants, or name another run",
        )
