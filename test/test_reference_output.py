# SPDX-License-Identifier: Apache-2.0
"""A run started from the reference's JSON: told first, trained, written where its plot scripts look, shown again."""

from __future__ import annotations

import csv
import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_networks import ReferenceRun
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_cli import tigr

from tigr_core.config import Config, InferenceConfig
from tigr_core.errors import UserError
from tigr_core.progress import Progress
from tigr_core.reference_output import ReferenceNames
from tigr_core.run import Run, RunOptions, open_run
from tigr_core.run_log import read_progress
from tigr_core.stop import never

VARIANTS = ["jump", "velocity_forward"]
TINY: dict[str, Any] = {
    "env_name": "cheetah-multi-task",
    "env_params": {"n_train_tasks": 4, "n_eval_tasks": 2, "task_variants": VARIANTS},
    "util_params": {"use_gpu": False, "base_log_dir": "out"},
    "algo_params": {
        "time_steps": 5,
        "latent_size": 3,
        "sac_layer_size": 12,
        "num_train_epochs": 2,
        "num_training_steps_policy": 3,
        "num_training_steps_reconstruction": 2,
        "num_train_tasks_per_episode": 4,
        "batch_size_policy": 8,
        "batch_size_reconstruction": 16,
        "max_path_length": 12,
        "num_transitions_per_episode": 12,
        "max_replay_buffer_size": 1000,
    },
    "reconstruction_params": {"num_classes": 2, "net_complex_enc_dec": 0.5},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.json and what training it wrote, below `out`."""
    place = tmp_path_factory.mktemp("reference")
    (place / "tiny-run.json").write_text(json.dumps(TINY))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        assert tigr(monkeypatch, "train", "tiny-run.json") == 0
    return place


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    (folder,) = place.glob("out/cheetah-multi-task/*_tiny_run_true_gmm")
    return folder


def test_progress_has_the_columns_of_both(run: Path) -> None:
    table = read_progress(run / "progress.csv")
    for theirs, ours in {
        "n_env_steps_total": "env_steps",
        "policy_train_steps_total": "sac_steps",
        "test_eval_avg_reward_deterministic": "test_return",
        "train_eval_avg_reward_deterministic": "train_return",
        "time_total": "wall_s",
    }.items():
        assert table[theirs] == table[ours]
    assert table["epoch"] == [0, 1, 2] and table["n_env_steps_total"] == [48, 96, 144]
    assert table["Mixture_steps"][1:] == [2, 2]
    assert table["test_eval_success_rate"] == [-1, -1, -1]
    drawn, likely = (table[f"test_eval_avg_reward_{how}deterministic"] for how in ("non_", ""))
    assert all(a != b for a, b in zip(drawn, likely, strict=True))
    by_task = [table[f"test_return/{name}"][2] for name in VARIANTS]  # one task of each
    assert table["test_eval_max_reward_deterministic"][2] == max(by_task)
    assert table["test_eval_std_reward_deterministic"][2] == pytest.approx(np.std(by_task), rel=1e-4)


def test_description_files_are_the_references(run: Path) -> None:
    assert json.loads((run / "task_dict.json").read_text()) == {"jump": 0, "velocity_forward": 1}
    variant = json.loads((run / "variant.json").read_text())
    assert variant["algo_params"]["time_steps"] == 5 and variant["algo_params"]["batch_size_rollout"] == 512
    assert variant["exp_name"] == run.name and variant["util_params"]["exp_name"] == "tiny_run_true_gmm"


def test_tensorboard_has_the_references_tags_at_its_steps(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    table = read_progress(run / "progress.csv")
    for tag, steps, column in [
        ("evaluation/test/average_reward", [48, 96, 144], "test_return"),
        ("evaluation/nd_test/max_reward", [48, 96, 144], "test_eval_max_reward_non_deterministic"),
        ("evaluation/train/success_rate", [48, 96, 144], "train_eval_success_rate"),
        ("rl/policy_loss", [3, 6], "sac/actor_loss"),
        ("training/ti_mixture_klz_loss", [2, 4], "inference/kl"),
        ("test_return", [0, 1, 2], "test_return"),
    ]:
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        wanted = [value for value in table[column] if not np.isnan(value)]
        assert [step for step, _ in found] == steps
        np.testing.assert_allclose([value for _, value in found], wanted, rtol=1e-6)
    assert "QF1 Loss" not in events.Tags()["scalars"] and "rl/qf1_loss" in events.Tags()["scalars"]


def test_cells_by_hand() -> None:
    weights = InferenceConfig(kl_weight=0.1, separation_weight=0.01, sparsity_weight=0.0, supervision_weight=2.0)
    names = ReferenceNames(Config(inference=weights))
    row = {"epoch": 1.0, "env_steps": 10.0, "inference_steps": 4.0, "sac_steps": 6.0, "wall_s": 9.0}
    row |= {"time/collect_s": 1.0, "time/sac_s": 2.5, "sac/critic_loss": 3.0, "sac/actor_loss": -1.0}
    row |= {"sac/entropy": 4.0, "sac/temperature": 0.25, "inference/loss": 7.0}
    row |= {f"inference/{name}": 1.0 for name in ("kl", "separation", "sparsity", "supervision", "anchor")}
    cells = names.cells(row)
    assert (cells["time_epoch"], cells["QF1 Loss"], cells["Log Pis Mean"]) == (3.5, 1.5, -4.0)
    assert cells["Policy Loss"] == -1.0 + 0.75 * -4.0, "the entropy weighs 1 in this column"
    assert cells["Mixture_steps"] == 128
    scalars = names.scalars(row | cells)
    loss, step = scalars["training/ti_mixture_clustering_losses"]
    assert loss == pytest.approx(2.11) and step == 4
    assert scalars["rl/qf2_loss"] == (1.5, 6) and "evaluation/test/average_reward" not in scalars


def open_quietly(**options: Any) -> AbstractContextManager[Run]:
    return open_run(RunOptions(device="cpu", **options), progress=Progress(io.StringIO()), stop=never)


def test_resuming_keeps_both(run: Path) -> None:
    with open_quietly(resume=run, overrides=("training.epochs=3",)) as resumed:
        assert resumed.trainer.run()
    with (run / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["n_env_steps_total"] for row in rows] == ["48", "96", "144", "192"]
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("evaluation/test/average_reward")] == [48, 96, 144, 192]


def test_the_option_works_without_a_json(tmp_path: Path) -> None:
    changes = ("training.reference_output=true", "env.num_train_tasks=4", "env.num_test_tasks=4")
    with open_quietly(config="point_robot", overrides=changes, output=tmp_path) as run:
        assert (run.folder / "task_dict.json").is_file() and not (run.folder / "variant.json").exists()
        assert run.trainer.reference_names is not None


def test_a_node_that_trains_is_not_asked_to_show(place: Path) -> None:
    (place / "show.json").write_text(json.dumps({"train_or_showcase": "showcase_all"}))
    with pytest.raises(UserError, match="asks for showcase_all"), open_quietly(config=str(place / "show.json")):
        pass


def show(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> Path:
    (place / f"{name}.json").write_text(json.dumps(TINY | changes))
    monkeypatch.chdir(place)
    assert tigr(monkeypatch, "train", f"{name}.json") == 0
    (folder,) = place.glob(f"out/cheetah-multi-task/*_{name}_true_gmm")
    return folder


def test_showcase_of_task_inference_holds_the_episodes_of_the_run(
    place: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"train_or_showcase": "showcase_task_inference", "path_to_weights": str(run / "weights")}
    folder = show(place, monkeypatch, "inference", **changes)
    said = capsys.readouterr().out
    assert "the run that is shown" in said and "Test tasks, most likely action" in said
    paths = json.loads((folder / "roll_out_results.json").read_text())
    assert np.shape([path["observations"] for path in paths]) == (2, 12, 20)
    assert np.shape([path["rewards"] for path in paths]) == (2, 12, 1)
    assert {path["true_tasks"][0][0]["base_task"] for path in paths} == {0, 1}
    assert paths[0]["next_observations"][0] == paths[0]["observations"][1]
    mean = np.mean([np.sum(path["rewards"]) for path in paths])
    assert f"{mean:.1f}" in said
    assert (folder / "report.html").is_file() and json.loads((folder / "task_dict.json").read_text())["jump"] == 0


def test_non_stationary_showcase_changes_the_task(place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tigr_core.run_report.write_page", lambda *_: None)  # tested above
    monkeypatch.setattr("tigr_core.reference_showcase.CHANGE_STEPS", 4)
    monkeypatch.setattr("tigr_core.reference_showcase.CHANGING_STEPS", 10)
    changes = {"train_or_showcase": "showcase_non_stationary_env", "path_to_weights": str(run)}
    folder = show(place, monkeypatch, "changing", **changes)
    paths = json.loads((folder / "non_stationary_results.json").read_text())
    tasks = [[(step["base_task"], step["specification"]) for step in path] for path in paths]
    assert np.shape(paths) == (2, 10) and all(path[3] != path[4] and path[4] == path[7] for path in tasks)
    assert paths[0][0].keys() == {"base_task", "specification", "image", "observation", "action", "reward", "z"}
    assert (folder / "videos" / "showcase_non_stationary_env.gif").stat().st_size > 1000


def test_showcase_of_the_references_own_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tigr_core.run_report.write_page", lambda *_: None)
    ReferenceRun(20, 6).save(place / "theirs", TINY)
    changes = {"train_or_showcase": "showcase_task_inference", "path_to_weights": "theirs/weights", "showcase_itr": 20}
    assert (show(place, monkeypatch, "theirs_shown", **changes) / "roll_out_results.json").is_file()


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({"path_to_weights": None}, [], "without path_to_weights"),
        ({"path_to_weights": "nowhere"}, [], "neither a run nor weights there"),
        ({"env_params": {"task_variants": ["jump"]}}, [], "as the run has"),
        ({}, ["--set", "seed=1"], "with seed=1"),
    ],
)
def test_a_showcase_that_cannot_be_is_told(
    place: Path,
    run: Path,
    changes: dict[str, Any],
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    content = TINY | {"train_or_showcase": "showcase_all", "path_to_weights": str(run)} | changes
    (place / "wrong.json").write_text(json.dumps(content))
    assert tigr(monkeypatch, "train", "wrong.json", *arguments) == 2
    assert said in capsys.readouterr().err and not list(place.glob("out/*/*_wrong_true_gmm"))
