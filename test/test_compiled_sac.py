# SPDX-License-Identifier: Apache-2.0
"""SAC's losses in C++ are those of the learner, and so are their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model, two_task_episodes
from torch import Tensor

from tigr_core import kernels
from tigr_core.compiled_sac import CompiledSAC
from tigr_core.config import SACConfig
from tigr_core.fast import has_kernels
from tigr_core.imagination import ImaginingView
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import SACLearner, TransitionBatch, TransitionView

pytestmark = pytest.mark.skipif(not kernels.compiler_found(), reason="there is no C++ compiler: install g++")

ACTIONS = 3


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def learner(*, layer_norm: bool = False) -> SACLearner:
    """A learner whose targets are not its critics, and whose norms are not the identity."""
    model = tiny_model(5, ACTIONS, policy_hidden=(40, 33), critic_layer_norm=layer_norm)
    subject, source = SACLearner(model, SACConfig(temperature=0.3), generator=generator()), generator(1)
    with torch.no_grad():
        for parameter in subject.critic.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return subject


def batch(size: int) -> TransitionBatch:
    source = generator(2)

    def drawn(width: int) -> Tensor:
        return torch.randn(size, width, generator=source)

    return TransitionBatch(
        obs=drawn(5),
        latent=drawn(2),
        critic_latent=drawn(2),
        action=drawn(ACTIONS).tanh(),
        reward=drawn(1).squeeze(1),
        terminated=(drawn(1) > 1.0).float().squeeze(1),
        next_obs=drawn(5),
        next_latent=drawn(2),
        next_critic_latent=drawn(2),
    )


def assert_same(subject: SACLearner, data: TransitionBatch) -> None:
    noise, fast = torch.randn(data.action.shape, generator=generator(3)), CompiledSAC(subject)
    pairs = (
        (subject._critic_gradients, fast.critic_gradients),
        (subject._actor_gradients, fast.actor_gradients),
    )
    for exact, compiled in pairs:
        (loss, told, gradients), found = exact(data, noise), compiled(data, noise)
        torch.testing.assert_close(found[0], loss)
        torch.testing.assert_close(found[1], told, rtol=1e-4, atol=1e-5)
        for a, b in zip(found[2], gradients, strict=True):
            assert a.shape == b.shape and (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("size", [1, 37, 300])
def test_losses_and_gradients_are_the_learners(threads: None, size: int, layer_norm: bool) -> None:
    assert_same(learner(layer_norm=layer_norm), batch(size))


def test_transitions_of_replay_data_and_imagined_ones() -> None:
    model, replay = tiny_model(), ReplayBuffer(100, 6)
    replay.add(two_task_episodes(4, steps=6), np.random.default_rng(0))
    view, subject = (
        TransitionView(model, replay, torch.arange(4)),
        SACLearner(model, SACConfig(), generator=generator()),
    )
    for drawn in (view, ImaginingView(view, model, SACConfig(imagined_share=0.3))):
        assert_same(subject, drawn.sample(20, generator()))


@pytest.mark.parametrize("name", ["reward", "terminated", "taught"])
def test_too_few_numbers_are_told(name: str) -> None:
    data, noise = batch(20), torch.zeros(20, ACTIONS)
    fast = CompiledSAC(learner())
    find = fast.actor_gradients if name == "taught" else fast.critic_gradients
    with pytest.raises(RuntimeError, match=r"expected (20|60) of float32"):
        find(replace(data, **{name: torch.zeros(3)}), noise)


def test_what_a_teacher_does_counts() -> None:
    subject, data = learner(), batch(20)
    subject.teacher_weight.fill_(0.7)
    assert_same(subject, replace(data, taught=data.action.flip(0)))


@pytest.mark.parametrize("log_std", [-30.0, 5.0])
def test_deviations_out_of_range_have_no_gradient(log_std: float) -> None:
    subject = learner()
    with torch.no_grad():
        list(subject.actor.parameters())[-1][ACTIONS:] = log_std
    assert_same(subject, batch(20))
    of_bias = CompiledSAC(subject).actor_gradients(batch(20), torch.zeros(20, ACTIONS))[2][-1]
    assert of_bias[:ACTIONS].all() and not of_bias[ACTIONS:].any()


def test_critics_that_agree_share_the_gradient() -> None:
    subject = learner()
    with torch.no_grad():
        for parameter in subject.critic.parameters():
            parameter[1] = parameter[0]
    assert_same(subject, batch(20))


def test_what_is_no_number_stays_none() -> None:
    subject, data = learner(), batch(4)
    data.obs[2], data.next_obs[1] = torch.nan, torch.nan
    fast, noise = CompiledSAC(subject), torch.zeros(4, ACTIONS)
    for found in (fast.critic_gradients(data, noise), fast.actor_gradients(data, noise)):
        assert found[0].isnan() and all(gradient.isnan().any() for gradient in found[2])


def test_the_fast_mode_uses_it_where_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for product, expected in ((torch.float32, True), (torch.bfloat16, False)):
        monkeypatch.setattr("tigr_core.fast.product_dtype", lambda _, product=product: product)
        assert has_kernels(torch.device("cpu")) == expected and not has_kernels(torch.device("cuda"))
        subject = SACLearner(tiny_model(), SACConfig(), generator=generator(), fast=True)
        assert isinstance(getattr(subject._critic_gradients, "__self__", None), CompiledSAC) == expected


def test_fast_steps_learn_what_exact_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tigr_core.fast.product_dtype", lambda _: torch.float32)
    exact, fast = (
        SACLearner(tiny_model(5, ACTIONS), SACConfig(learn_temperature=True), generator=generator(), fast=fast)
        for fast in (False, True)
    )
    for _ in range(5):
        losses = [subject.step(batch(64)) for subject in (exact, fast)]
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-3, atol=1e-4)
    for a, b in zip(exact.actor.parameters(), fast.actor.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
