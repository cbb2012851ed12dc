# SPDX-License-Identifier: Apache-2.0
"""Acting with a stream encoder computes what the modules that are trained compute."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model

from tigr_core import kernels
from tigr_core.acting import ModuleActing, Step, StreamActing, acting
from tigr_core.model import TaskInferenceModel

STEPS = 7
SETTINGS: list[dict[str, Any]] = [
    {},
    {"reward_gain": 4.0, "reward_floor": -1.0, "reward_changes": True},
    {"turning": [1]},
]
COMPILED = pytest.param(
    True, marks=pytest.mark.skipif(not kernels.compiler_found(), reason="there is no C++ compiler: install g++")
)
same = partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6)


def model_of(settings: dict[str, Any]) -> TaskInferenceModel:
    """A model with statistics that are not the identity, and with a policy that does not care for them alone."""
    model = tiny_model(**settings)
    model.normaliser.update(1.0 + 2.0 * torch.randn(100, 2), torch.rand(100, 2), torch.randn(100))
    return model


def episodes(robots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = generator(1)
    obs = 4.0 * torch.randn((robots, STEPS + 1, 2), generator=source)
    return obs, torch.rand((robots, STEPS, 2), generator=source), torch.randn((robots, STEPS), generator=source)


@pytest.mark.parametrize("fast", [False, COMPILED])
@pytest.mark.parametrize("robots", [1, 5])
@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_streams_infer_and_act_as_the_modules_do(settings: dict[str, Any], robots: int, fast: bool) -> None:
    model, (obs, action, reward) = model_of(settings), episodes(robots)
    x = model.normaliser.sequence(obs[:, :-1], action, reward, obs[:, 1:])
    expected = model.encoder.encode_episodes(x)
    subject, noise = acting(model, fast=fast), torch.randn((robots, 2), generator=generator(2))
    assert isinstance(subject, StreamActing)
    state = subject.initial_state(robots)
    before: tuple[np.ndarray, np.ndarray] | None = None
    for t in range(STEPS + 1):
        weights, latent = subject.infer(state)
        same(weights, expected.weights[:, t].numpy())
        same(latent, expected.latent[:, t].numpy())
        same(subject.posterior(state).std.numpy(), expected.std[:, t].numpy())
        for drawn in (None, noise):
            done = subject.act(obs[:, t].numpy(), latent, None if drawn is None else generator(2))
            trained = model.actor.act(model.policy_obs(obs[:, t]), torch.from_numpy(latent), drawn)
            same(done, trained.numpy())
        if t < STEPS:
            now = action[:, t].numpy(), reward[:, t].numpy()
            state = subject.advance(state, Step(obs[:, t].numpy(), *now, obs[:, t + 1].numpy(), before))
            before = now
    assert latent.dtype == weights.dtype == done.dtype == state.hidden.dtype == np.float32


def test_what_is_learned_meanwhile_is_acted_on() -> None:
    model, obs = model_of({}), np.ones((1, 2), np.float32)
    subject = acting(model)
    first = subject.act(obs, np.zeros((1, 2), np.float32), None)
    with torch.no_grad():
        dict(model.actor.net.named_parameters())["2.bias"].add_(1.0)
    second = subject.act(obs, np.zeros((1, 2), np.float32), None)
    model.normaliser.update(100.0 * torch.randn(100, 2), torch.rand(100, 2), torch.randn(100))
    third = subject.act(obs, np.zeros((1, 2), np.float32), None)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)


@pytest.mark.parametrize("fast", [COMPILED])
def test_in_the_fast_mode_from_the_next_episode_on(fast: bool) -> None:
    model, (obs, latent) = model_of({}), (np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32))
    subject = acting(model, fast=fast)
    subject.initial_state(3)
    first = subject.act(obs, latent, None)
    with torch.no_grad():
        dict(model.actor.net.named_parameters())["2.weight"].add_(1.0)
        dict(model.actor.net.named_parameters())["2.bias"].add_(1.0)
    model.normaliser.update(100.0 * torch.randn(100, 2), torch.rand(100, 2), torch.randn(100))
    assert np.array_equal(first, subject.act(obs, latent, None))
    subject.initial_state(3)
    assert not np.array_equal(first, subject.act(obs, latent, None))


@pytest.mark.parametrize("fast", [False, COMPILED])
def test_gates_far_from_zero_are_shut_or_open_without_a_warning(fast: bool) -> None:
    model = model_of({})
    state = np.full((1, model.encoder.hidden_dim), 0.5, np.float32)
    for bias, kept in ((1e4, 0.5), (-1e4, np.tanh(1e4))):
        with torch.no_grad():
            for parameter in model.encoder.gru.parameters():
                parameter.zero_()
            model.encoder.gru.bias_ih_l0.view(3, -1)[1:] = torch.tensor([bias, 1e4]).unsqueeze(1)
        zeros = np.zeros((1, 2), np.float32)
        subject = acting(model, fast=fast)
        empty = subject.initial_state(1)
        found = subject.advance(empty._replace(hidden=state), Step(zeros, zeros, np.zeros(1, np.float32), zeros, None))
        np.testing.assert_allclose(found.hidden, np.full_like(state, kept), rtol=1e-6)


@pytest.mark.parametrize("settings", [{"context": "window"}, {"method": "pearl", "num_components": 1}])
def test_others_act_by_their_modules(settings: dict[str, Any]) -> None:
    assert isinstance(acting(tiny_model(**settings)), ModuleActing)
