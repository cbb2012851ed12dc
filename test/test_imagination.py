# SPDX-License-Identifier: Apache-2.0
"""Imagined roll-outs: what the decoder says, in units; how many, from when on, and the same after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, numbered_episodes, tiny_model
from test_trainer import learned, run, same
from torch import Tensor

from envs.tasks import BaseTask, TaskSet
from tigr_core.config import SACConfig
from tigr_core.imagination import ImaginingView
from tigr_core.mixture import MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import ControlRefund, TransitionView
from tigr_core.task_code import TaskCode

TASKS = TaskSet((BaseTask("only", "x", "m", 0, 10, "absolute", control_cost=0.5),))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> TaskInferenceModel:
    """z of time t is 0.2 + 0.1 t; actor and decoder are sums, and each entry of a transition has its own units."""

    def encode(x: Tensor) -> MixturePosterior:
        mean = (0.2 + 0.1 * torch.arange(x.shape[1] + 1)).expand(len(x), -1)[..., None, None]
        return MixturePosterior(torch.zeros(mean.shape[:-1]), mean, torch.ones_like(mean))

    made = tiny_model(1, 1, latent_dim=1, num_components=1, own_next_obs_statistics=True)
    made.normaliser.mean.copy_(torch.tensor([10.0, 1.0, -3.0, 12.0]))  # obs, action, reward, next_obs
    made.normaliser.var.copy_(torch.tensor([2.0, 0.5, 4.0, 5.0]).square())
    made.normaliser.refresh()
    monkeypatch.setattr(made.encoder, "encode_episodes", encode)
    monkeypatch.setattr(made.actor, "act", lambda obs, z, _: 0.1 * obs + z)
    monkeypatch.setattr(made.decoder, "forward", lambda obs, a, z: (obs + a + z, (2.0 * obs - a).squeeze(-1)))
    return made


def view_of(model: TaskInferenceModel, lengths: list[int], **settings: Any) -> TransitionView:
    replay = ReplayBuffer(100, 6)
    replay.add(numbered_episodes(lengths, steps=6), np.random.default_rng(0))
    replay._store["base_task"].zero_()
    return TransitionView(model, replay, torch.arange(len(lengths)), **settings)


def test_a_roll_out_by_hand(model: TaskInferenceModel) -> None:
    view = ImaginingView(view_of(model, [1]), model, SACConfig(imagined_horizon=2))
    drawn = view.imagine(3, generator())  # of two roll-outs from the one observation there is: 0, normalised -5
    # a = -0.5 + 0.2 = -0.3, normalised -2.6; next_obs -5 - 2.6 + 0.2 = -7.4, times 5, plus 12: -25, as an obs -17.5
    # a = -1.75 + 0.2 = -1.55, normalised -5.1; next_obs -17.5 - 5.1 + 0.2 = -22.4: -100, as an obs -55
    torch.testing.assert_close(drawn.obs.squeeze(1), torch.tensor([-5.0, -5.0, -17.5]))
    torch.testing.assert_close(drawn.action.squeeze(1), torch.tensor([-0.3, -0.3, -1.55]))
    torch.testing.assert_close(drawn.next_obs.squeeze(1), torch.tensor([-17.5, -17.5, -55.0]))
    # rewards -10 + 2.6 = -7.4 and -35 + 5.1 = -29.9, times 4, minus 3
    torch.testing.assert_close(drawn.reward, torch.tensor([-32.6, -32.6, -122.6]))
    assert not drawn.terminated.any() and view.view.at(view.view.valid, generator()).terminated.all()
    for latent in (drawn.latent, drawn.critic_latent, drawn.next_latent, drawn.next_critic_latent):
        torch.testing.assert_close(latent, torch.full((3, 1), 0.2), msg="z of the start")


def test_the_decoder_reads_the_task_where_the_critics_do_and_control_costs_are_given_back(
    model: TaskInferenceModel,
) -> None:
    told = {"task_code": TaskCode(TASKS, latent_dim=1), "critic_sees_task": True}
    view = view_of(model, [1], **told, refund=ControlRefund(TASKS, 0.4))
    drawn = ImaginingView(view, model, SACConfig()).imagine(1, generator())
    # parameter 0 of [0, 10] has the code 0.5: next_obs -5 - 2.6 + 0.5 = -7.1, times 5, plus 12: -23.5, as an obs -16.75
    assert drawn.next_obs.item() == pytest.approx(-16.75)
    assert (drawn.latent.item(), drawn.critic_latent.item(), drawn.next_critic_latent.item()) == pytest.approx(
        (0.2, 0.5, 0.5)
    )
    assert drawn.reward.item() == pytest.approx(-32.6 + 0.4 * 0.5 * 0.3**2)


@pytest.mark.parametrize(("share", "imagined"), [(0.3, 3), (0.01, 1), (1.0, 10)])
def test_so_many_of_a_batch_are_imagined(model: TaskInferenceModel, share: float, imagined: int) -> None:
    view = ImaginingView(view_of(model, [6, 2], groups="true_task"), model, SACConfig(imagined_share=share))
    drawn = view.sample(10, generator())
    # The robot goes from one number to the next, half a standard deviation.
    seen = torch.isclose(drawn.next_obs, drawn.obs + 0.5).squeeze(1)
    assert seen.tolist() == [True] * (10 - imagined) + [False] * imagined
    assert drawn.group is not None and len(drawn.group) == 10 and not drawn.reward.requires_grad


def test_the_same_numbers_after_an_interruption(tmp_path: Path) -> None:
    names = ["sac.imagined_share=0.5", "sac.imagined_start=0", "training.epochs=1", "env.num_test_tasks=1"]
    run(tmp_path / "whole", *names)
    run(tmp_path / "parts", *names, stop_after=12)  # on the way through SAC's steps
    assert run(tmp_path / "parts", *names, resume=True).learners.sac.steps == 7
    assert same(learned(tmp_path / "parts"), learned(tmp_path / "whole"))


def test_imagination_begins_after_its_share_of_the_training(tmp_path: Path) -> None:
    run(tmp_path / "without")
    run(tmp_path / "with", "sac.imagined_share=0.5", "sac.imagined_start=0.5")
    without, imagined = (learned(tmp_path / name)["sac/critic_loss"] for name in ("without", "with"))
    assert imagined[1] == without[1] and imagined[2] != without[2]
