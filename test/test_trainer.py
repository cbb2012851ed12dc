# SPDX-License-Identifier: Apache-2.0
"""The epoch loop on the point robot: it learns, it repeats itself, and an interruption leaves no trace."""

from __future__ import annotations

import io
import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from tigr_core import run_report
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector
from tigr_core.config import Config, load_config
from tigr_core.errors import UserError
from tigr_core.progress import make_progress
from tigr_core.run_log import read_progress
from tigr_core.stop import AskStop, Stop, never
from tigr_core.trainer import BEST, CHECKPOINT, LAST, Trainer

TINY = [
    "model.policy_hidden=[16]",
    "model.encoder_width=1.0",
    "inference.first_epoch_steps=5",
    "inference.steps_per_epoch=5",
    "inference.batch_size=32",
    "inference.rebalance_every=4",
    "sac.steps_per_epoch=7",
    "sac.batch_size=16",
    "sac.learn_temperature=true",
    "training.epochs=2",
    "training.tasks_per_epoch=8",
    "training.evaluate_every=1",
    "env.num_train_tasks=8",
    "env.num_test_tasks=4",
]


def make_trainer(folder: Path, *overrides: str, stop: AskStop = never, stop_collecting: AskStop = never) -> Trainer:
    config = load_config("point_robot", [*TINY, *overrides])
    collector = LocalCollector(config.env, num_threads=1, stop=stop_collecting)
    return Trainer(config, folder, collector=collector, progress=make_progress(io.StringIO()), stop=stop)


def run(folder: Path, *overrides: str, stop_after: int | None = None, resume: bool = False) -> Trainer:
    """Train the tiny configuration; stop at the `stop_after`-th time the loop asks whether to."""
    trainer = make_trainer(folder, *overrides, stop=_countdown(stop_after))
    if resume:
        trainer.resume()
    assert trainer.run() == (stop_after is None)
    return trainer


def _countdown(calls: int | None, answer: Stop = Stop.AT_STEP) -> AskStop:
    asked = 0

    def stop() -> Stop:
        nonlocal asked
        asked += 1
        return answer if calls is not None and asked >= calls else Stop.NO

    return stop


def learned(folder: Path) -> dict[str, list[float]]:
    """Return progress.csv without the columns that measure time."""
    columns = read_progress(folder / "progress.csv")
    return {name: values for name, values in columns.items() if not name.startswith("time/") and name != "wall_s"}


def same(first: dict[str, list[float]], second: dict[str, list[float]]) -> bool:
    """Compare columns, nan equal to nan."""
    return repr(first) == repr(second)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder)
    return folder


@pytest.mark.parametrize("context", ["stream", "window"])
def test_the_run_folder_holds_every_epoch_and_both_bundles(tmp_path: Path, context: str) -> None:
    run(tmp_path, f"model.context={context}", "model.context_length=5")
    rows = read_progress(tmp_path / "progress.csv")
    assert rows["epoch"] == [0.0, 1.0, 2.0]
    assert rows["env_steps"] == [2 * 8 * 20, 3 * 8 * 20, 4 * 8 * 20]  # two exploration episodes a task come first
    assert rows["sac_steps"] == [0.0, 7.0, 14.0] and rows["inference_steps"] == [0.0, 5.0, 10.0]
    last = {name: values[-1] for name, values in rows.items() if not name.startswith(("time/", "inference/validation"))}
    assert [name for name, value in last.items() if not math.isfinite(value)] == []
    assert {file.name for file in tmp_path.iterdir()} >= {CHECKPOINT, BEST, LAST, "progress.csv", "tensorboard"}


def test_same_seed_same_bits_other_seed_other_bits(tmp_path: Path, uninterrupted: Path) -> None:
    run(tmp_path / "again")
    run(tmp_path / "other", "seed=1")
    assert same(learned(tmp_path / "again"), learned(uninterrupted))
    assert not same(learned(tmp_path / "other"), learned(uninterrupted))


@pytest.mark.parametrize("stop_after", [1, 4, 9, 14, 20, 31])  # in every phase of both epochs
def test_an_interrupted_run_gives_the_same_numbers(tmp_path: Path, uninterrupted: Path, stop_after: int) -> None:
    run(tmp_path, stop_after=stop_after)
    run(tmp_path, resume=True)
    assert same(learned(tmp_path), learned(uninterrupted))
    ours, theirs = (load_bundle(folder / LAST).model.state_dict() for folder in (tmp_path, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("stop_after", "phase"), [(30, "evaluate"), (50, "explore"), (70, "collect"), (86, "inference"), (90, "sac")]
)
def test_work_that_is_given_up_leaves_no_trace(
    tmp_path: Path, uninterrupted: Path, stop_after: int, phase: str
) -> None:
    stop = _countdown(stop_after, Stop.AT_ONCE)  # asked in every step of an episode too, and while encoding
    trainer = make_trainer(tmp_path, stop=stop, stop_collecting=stop)
    assert not trainer.run() and trainer.phase == phase
    run(tmp_path, resume=True)
    assert same(learned(tmp_path), learned(uninterrupted))


def test_a_run_that_is_stopped_at_every_step_goes_on_in_the_same_process(tmp_path: Path, uninterrupted: Path) -> None:
    trainer = make_trainer(tmp_path, stop=lambda: Stop.AT_STEP, stop_collecting=lambda: Stop.AT_STEP)
    stops = 0
    while not trainer.run():
        stops += 1
    assert stops > 2 * (5 + 7)  # after each optimisation step of both epochs, and after each phase
    assert same(learned(tmp_path), learned(uninterrupted))


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, uninterrupted: Path) -> None:
    run(tmp_path, "training.checkpoint_every=1", stop_after=20)
    run(tmp_path, resume=True)
    # Rows written after the checkpoint are dropped when the run is resumed from an older one.
    stale = tmp_path / "stale"
    run(stale, stop_after=1)
    (stale / "progress.csv").write_text((tmp_path / "progress.csv").read_text())
    run(stale, resume=True)
    assert same(learned(stale), learned(uninterrupted))


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stop_after=1)
    with pytest.raises(UserError, match="does not fit the configuration"):
        run(tmp_path, "model.policy_hidden=[32]", resume=True)


def test_fewer_components_than_supervised_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"num_components is 2 for 4 base tasks"):
        run(tmp_path, "model.num_components=2")


def test_an_epoch_of_inference_stops_early_in_the_same_place_after_an_interruption(tmp_path: Path) -> None:
    names = ["inference.early_stopping_steps=2", "inference.rebalance_every=1", "inference.first_epoch_steps=200"]
    steps = run(tmp_path / "whole", *names, "training.epochs=1").learners.inference.steps
    assert 0 < steps < 200
    run(tmp_path / "parts", *names, "training.epochs=1", stop_after=5)
    assert run(tmp_path / "parts", *names, "training.epochs=1", resume=True).learners.inference.steps == steps
    assert same(learned(tmp_path / "parts"), learned(tmp_path / "whole"))


def test_groups_of_gradients_are_the_same_after_an_interruption(tmp_path: Path) -> None:
    names = ["inference.pcgrad=random_task", "sac.pcgrad=random_task", "training.epochs=1", "env.num_test_tasks=1"]
    run(tmp_path / "whole", *names)
    run(tmp_path / "parts", *names, stop_after=12)  # on the way through SAC's steps
    assert run(tmp_path / "parts", *names, resume=True).learners.sac.steps == 7
    assert same(learned(tmp_path / "parts"), learned(tmp_path / "whole"))


@pytest.mark.parametrize("stop_after", [None, 8, 12, 20])  # before, beside and after inference
def test_control_beside_inference_gives_the_same_numbers_whoever_is_faster(
    tmp_path: Path, stop_after: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["sac.beside_inference=0.6", "sac.steps_per_epoch=10"]
    run(tmp_path / "in turns", *names)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # tests have one, and keep it
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    if stop_after is not None:
        run(tmp_path / "beside", *names, stop_after=stop_after)
    trainer = run(tmp_path / "beside", *names, resume=stop_after is not None)
    assert trainer.learners.sac.steps == 20
    assert same(learned(tmp_path / "beside"), learned(tmp_path / "in turns"))
    run(tmp_path / "after", "sac.steps_per_epoch=10")
    assert not same(learned(tmp_path / "beside"), learned(tmp_path / "after"))


def test_what_is_shipped_is_the_mean_of_the_weights_that_learn(tmp_path: Path) -> None:
    names = ["training.average_epochs=2", "training.epochs=3"]
    run(tmp_path / "whole", *names)
    weights = []
    for epochs in (1, 2, 3):
        trainer = run(tmp_path / f"{epochs}", f"training.epochs={epochs}", "training.average_epochs=0")
        weights.append(trainer.model.actor.state_dict())
    shipped = load_bundle(tmp_path / "whole" / LAST).model.actor.state_dict()
    for name, value in shipped.items():  # plain over the first two epochs, then half of the newest
        expected = 0.25 * weights[0][name] + 0.25 * weights[1][name] + 0.5 * weights[2][name]
        torch.testing.assert_close(value, expected)
    run(tmp_path / "parts", *names, stop_after=30)
    run(tmp_path / "parts", *names, resume=True)
    again = load_bundle(tmp_path / "parts" / LAST).model.actor.state_dict()
    assert all(torch.equal(again[name], shipped[name]) for name in shipped)


def test_rates_of_inference_fall_to_a_share_by_the_last_epoch(tmp_path: Path) -> None:
    names = [
        "inference.last_rate_share=0.01",
        "inference.encoder_learning_rate=3e-4",
        "inference.decoder_learning_rate=1e-3",
    ]

    def rates(trainer: Trainer) -> list[float]:
        return [group["lr"] for group in trainer.learners.inference.optimiser.param_groups]

    trainer = run(tmp_path, *names, stop_after=6)  # in the first epoch of two
    assert rates(trainer) == pytest.approx([3e-5, 1e-4])
    assert rates(run(tmp_path, *names, resume=True)) == pytest.approx([3e-6, 1e-5])


@pytest.mark.parametrize("hard_tasks", ["behind", "worst"])
def test_hard_tasks_go_to_collection_and_relabelling(tmp_path: Path, hard_tasks: str) -> None:
    names = ["training.hard_task_share=1", f"training.hard_tasks={hard_tasks}", "training.exploration_episodes=3"]
    trainer = run(tmp_path, *names, "training.relabel_share=0.5", "training.relabel_episodes=5")
    shares = trainer.relabeller.base_task_shares
    assert np.ptp(shares) > 0.0 and shares is trainer.sampler.base_task_shares


def test_tasks_change_while_episodes_are_collected_unless_the_policy_is_told_them(tmp_path: Path) -> None:
    told = ["training.told_share=0.5", "inference.anchor_weight=1", "training.exploration_episodes=0"]
    read = ["model.reward_changes=true", "model.reward_floor=-0.5"]
    replay = run(tmp_path, "training.change_share=1", *told, *read).replay
    changes = (replay.parameter[:, 1:] != replay.parameter[:, :-1]).any(dim=2).sum(dim=1)
    assert changes.view(2, 2, 4)[:, 0].sum() == 0 and changes.view(2, 2, 4)[:, 1].float().mean() > 0.5


def test_tasks_change_within_relabelled_episodes(tmp_path: Path) -> None:
    relabel = ["training.relabel_share=1", "training.relabel_same_share=1", "training.relabel_change_share=1"]
    replay = run(tmp_path, *relabel, "training.told_share=0.5", "inference.anchor_weight=1").replay
    own, posed = ((p[:, 1:] != p[:, :-1]).any(dim=2).sum(dim=1) for p in (replay.own_parameter, replay.parameter))
    assert not own.any() and posed.any() and posed.max() == 1


def test_the_point_robot_learns(tmp_path: Path) -> None:
    config: Config = load_config("point_robot", ["training.epochs=6", "training.evaluate_every=6"])
    collector = LocalCollector(config.env, num_threads=1)
    Trainer(config, tmp_path, collector=collector, progress=make_progress(io.StringIO())).run()
    returns = read_progress(tmp_path / "progress.csv")["test_return"]
    assert returns[0] < -14.0  # standing still
    assert returns[-1] > returns[0] + 4.0  # 6 to 11 for four seeds: another processor is as another seed


@pytest.mark.parametrize("name", ["ant_goal", "hopper_rand_params"])
def test_other_robots_train_and_end_with_a_report(name: str, tmp_path: Path) -> None:
    """Vectors, a floating base and impacts; dynamics, and episodes that end early."""
    short = ["env.episode_steps=30", "training.task_change_steps=10", "training.fast=false", "sac.steps_per_epoch=3"]
    config = load_config(name, [*TINY, *short, "inference.sequence_length=16"])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        trainer = Trainer(config, tmp_path, collector=collector, progress=make_progress(io.StringIO()))
        assert trainer.run()
        results = run_report.report_run(tmp_path, collector)
    assert np.isfinite(results.test.returns).all() and results.test.parameter.any() and results.changes is not None
    ended = trainer.replay.terminated.any(dim=1)
    assert ended.any() == (trainer.replay.length < 30).any() == (name == "hopper_rand_params")
    assert (tmp_path / run_report.REPORT).stat().st_size > 10_000
