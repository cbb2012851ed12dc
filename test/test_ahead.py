# SPDX-License-Identifier: Apache-2.0
"""Collecting while learning: whose weights, when, and that an interruption leaves no trace."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_model
from test_collector import ENV, TASKS, assert_equal, collect, request
from test_trainer import TINY, learned, run, same

from tigr_core.ahead import Ahead
from tigr_core.checkpoint import load_checkpoint, save_checkpoint
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import load_config
from tigr_core.model import TaskInferenceModel
from tigr_core.progress import make_progress
from tigr_core.rollout import Episodes
from tigr_core.run_log import read_progress
from tigr_core.stop import Interrupted, Stop
from tigr_core.trainer import Trainer

ASYNCHRONOUS = ("training.asynchronous=true", "training.epochs=3")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder, *ASYNCHRONOUS)
    return folder


class Listener(LocalCollector):
    """Tells when collecting begins and is waited for, and the sum of all weights at that time."""

    def __init__(self) -> None:
        super().__init__(load_config("point_robot", TINY).env, num_threads=1)
        self.told: list[tuple[str, int, float]] = []
        self.trainer: Trainer

    def begin(self, model: TaskInferenceModel, request: Request) -> Callable[[], Episodes]:
        def tell(what: str) -> None:
            self.told.append((what, self.trainer.learners.sac.steps, weight(model)))

        tell("begin")
        wait = super().begin(model, request)

        def told_wait() -> Episodes:
            tell("wait")
            return wait()

        return told_wait


def weight(model: TaskInferenceModel) -> float:
    return float(sum(parameter.detach().double().abs().sum() for parameter in model.parameters()))


def test_the_next_epoch_is_collected_during_this_one_with_the_weights_of_the_last(tmp_path: Path) -> None:
    listener = Listener()
    config = load_config("point_robot", [*TINY, *ASYNCHRONOUS])
    trainer = Trainer(config, tmp_path, collector=listener, progress=make_progress(io.StringIO()))
    listener.trainer, untrained = trainer, weight(trainer.model)
    assert trainer.run()
    # Seven SAC steps an epoch; the last epoch begins none.
    assert [(what, steps) for what, steps, _ in listener.told] == [
        ("begin", 0),
        ("wait", 7),
        ("begin", 7),
        ("wait", 14),
    ]
    first, first_waited, second, second_waited = (weights for _, _, weights in listener.told)
    assert first == first_waited == untrained
    assert second == second_waited != untrained


def test_staleness_is_told_and_all_steps_are_counted(uninterrupted: Path) -> None:
    rows = read_progress(uninterrupted / "progress.csv")
    assert np.array_equal(rows["collect_staleness"], [np.nan, 0.0, 1.0, 1.0], equal_nan=True)
    assert rows["env_steps"] == [320.0, 480.0, 640.0, 800.0]  # two exploration episodes a task come first


@pytest.mark.parametrize("stop_after", [4, 9, 14, 20, 36])  # in every phase; in flight from the second on
def test_a_resumed_run_collects_again_what_was_in_flight(tmp_path: Path, uninterrupted: Path, stop_after: int) -> None:
    run(tmp_path, *ASYNCHRONOUS, stop_after=stop_after)
    run(tmp_path, *ASYNCHRONOUS, resume=True)
    assert same(learned(tmp_path), learned(uninterrupted))


def test_what_is_given_up_is_collected_anew_when_asked_for_again() -> None:
    answers = iter([Stop.NO, Stop.AT_ONCE])
    collector = LocalCollector(ENV, num_threads=1, stop=lambda: next(answers, Stop.NO))
    ahead = Ahead(collector, tiny_model(), request(noise_seed=3), epoch=1)
    with pytest.raises(Interrupted):
        ahead.episodes()
    assert_equal(ahead.episodes(), collect(request(noise_seed=3)))


def test_a_checkpoint_holds_request_and_weights(tmp_path: Path) -> None:
    model, collector = tiny_model(latent_dim=4), LocalCollector(ENV, num_threads=1)
    changes = [None, None, (3, TASKS.task("goal_up", 0.5)), None, None]
    before = Ahead(collector, model, request(noise_seed=3, told_share=0.4, changes=changes), epoch=5)
    save_checkpoint(tmp_path / "ahead", before.state_dict())
    with torch.no_grad():
        next(model.actor.parameters()).add_(1.0)  # learned in the meantime
    after = Ahead.resume(load_checkpoint(tmp_path / "ahead"), collector, model, TASKS)
    assert after.epoch == 5
    assert_equal(after.episodes(), before.episodes())
