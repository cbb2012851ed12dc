# SPDX-License-Identifier: Apache-2.0
"""Encoders of a window that have no state: what they read, how time steps are combined, that they learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import tiny_model, two_task_episodes
from test_encoder import assert_same
from test_inference_learner import learner, replay_of
from torch import nn

from tigr_core.config import ModelConfig, make_config
from tigr_core.errors import UserError
from tigr_core.mixture import MixturePosterior
from tigr_core.window_encoder import WindowEncoder, product

ALL = [(kind, how) for kind in ("mlp", "conv", "transformer") for how in ("multiplication", "network")]
ALL.append(("mlp", "none"))
EVERY = pytest.mark.parametrize(("kind", "combination"), ALL)


def encoder(kind: Any, combination: Any) -> WindowEncoder:
    torch.manual_seed(1)
    return WindowEncoder(5, 2, 3, kind=kind, combination=combination, width=2.0, context_length=3)


@EVERY
@torch.no_grad()
def test_step_by_step_equals_whole_episodes(kind: str, combination: str) -> None:
    subject, x = encoder(kind, combination), torch.randn(3, 5, 5)
    whole, state = subject.encode_episodes(x), subject.initial_state(3)
    assert whole.mean.shape == (3, 6, 2, 3)
    assert_same(subject.infer(state), whole[:, 0])
    for t in range(5):
        state = subject.advance(state, x[:, t])
        assert_same(subject.infer(state), whole[:, t + 1])


@EVERY
@torch.no_grad()
def test_each_time_step_of_the_window_is_read_and_no_older_one(kind: str, combination: str) -> None:
    subject, x = encoder(kind, combination), torch.randn(1, 4, 5)
    last = subject.encode_episodes(x).latent[0, -1]
    changed = []
    for t in range(4):
        other = x.clone()
        other[0, t] += 1.0
        changed.append(not torch.allclose(subject.encode_episodes(other).latent[0, -1], last, atol=1e-6))
    assert changed == [False, True, True, True]


@EVERY
@torch.no_grad()
def test_only_products_of_single_time_steps_know_no_order(kind: str, combination: str) -> None:
    subject, window = encoder(kind, combination), torch.randn(1, 3, 5)
    ordered, turned = subject.infer(window).latent, subject.infer(window.flip(1)).latent
    orderless = combination == "multiplication" and kind != "transformer"
    assert torch.allclose(ordered, turned, atol=1e-6) == orderless


def test_product_by_hand() -> None:
    # N(1, 1^2) N(4, 2^2): precision 1 + 1/4, mean (1 + 4/4) / 1.25; logits 1 + 2 and -1 + 5 add up
    logits = torch.tensor([[1.0, -1.0], [2.0, 5.0]])
    mean, std = (torch.tensor(v).reshape(2, 1, 1).expand(2, 2, 1) for v in ([1.0, 4.0], [1.0, 2.0]))
    found = product(MixturePosterior(logits, mean, std))
    assert found.logits.tolist() == [3.0, 4.0]
    torch.testing.assert_close(found.mean, torch.full((2, 1), 1.6))
    torch.testing.assert_close(found.std, torch.full((2, 1), math.sqrt(0.8)))


@torch.no_grad()
def test_networks_combine_each_number_over_time_by_hand() -> None:
    subject = encoder("conv", "network")
    for network, share in ((subject.combine_gaussians, 0.5), (subject.combine_logits, 2.0)):
        first, last = network[0], network[2]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        first.weight.copy_(torch.eye(3))  # ReLU of each time step: 10 for all of them
        first.bias.fill_(10.0)
        last.weight.copy_(torch.tensor([[share, 0.0, share]]))  # of the first and the last step
        last.bias.fill_(-20.0 * share)
    hidden = torch.randn(4, 3, 10)
    by_step = subject.head(hidden).view(4, 3, 2, 7)
    assert (by_step > -10.0).all()
    ends = by_step[:, 0] + by_step[:, 2]
    found = subject.posterior(hidden)
    torch.testing.assert_close(found.mean, 0.5 * ends[..., :3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.std, torch.nn.functional.softplus(0.5 * ends[..., 3:6]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits, 2.0 * ends[..., 6], rtol=1e-4, atol=1e-5)


@EVERY
def test_gradients_reach_every_parameter(kind: Any, combination: Any) -> None:
    model = tiny_model(context="window", context_length=16, encoder=kind, timestep_combination=combination)
    learner(model).loss(replay_of(two_task_episodes(10, steps=12)))[0].backward()
    for name, parameter in model.encoder.named_parameters():
        if name != "combine_logits.2.bias":  # the same for all components
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0.0, name


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_a_few_steps_tell_base_tasks_apart(kind: Any) -> None:
    model = tiny_model(context="window", context_length=6, encoder=kind)
    subject, replay = learner(model, encoder_learning_rate=3e-3), replay_of(two_task_episodes(40, steps=12))
    losses = [subject.step(replay)["supervision"].item() for _ in range(150)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"encoder": "conv"}, "model.encoder conv needs model.context window"),
        ({"timestep_combination": "none"}, "model.timestep_combination none needs model.encoder mlp, found gru"),
    ],
)
def test_what_does_not_fit_together_is_refused(model: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_config({"model": {**ModelConfig().model_dump(mode="json"), **model}}, "here")
