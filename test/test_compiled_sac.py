# SPDX-License-Identifier: Apache-2.0
"""A step of SAC in C++ is the learner's: its losses, their gradients and what is done with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

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


def learner(
    *, in_kernels: bool = False, layer_norm: bool = False, sizes: tuple[int, int] = (5, ACTIONS), **settings: Any
) -> SACLearner:
    """A learner whose targets are not its critics, and whose norms are not the identity."""
    model = tiny_model(*sizes, policy_hidden=(40, 33), critic_layer_norm=layer_norm)
    subject, source = SACLearner(model, SACConfig(temperature=0.3, **settings), generator=generator()), generator(1)
    with torch.no_grad():
        for parameter in subject.critic.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    if in_kernels:
        subject.in_kernels = CompiledSAC(subject)
    return subject


def pair(**settings: Any) -> tuple[SACLearner, SACLearner]:
    """The same learner by PyTorch and in C++."""
    return learner(**settings), learner(in_kernels=True, **settings)


def gradients(subject: SACLearner) -> list[Tensor]:
    """A tenth of the gradients of a learner's first step, which is what Adam's means are then."""
    optimisers = (subject.critic_optimiser, subject.actor_optimiser, subject.temperature_optimiser)
    return [mean for optimiser in optimisers for mean in optimiser.parts()[1]]


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


def assert_same(exact: SACLearner, fast: SACLearner, data: TransitionBatch) -> None:
    """Both take the same first step."""
    expected, found = exact.step(data), fast.step(data)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), value, rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients(fast), gradients(exact), strict=True):
        assert a.shape == b.shape and (a - b).norm() <= 1e-4 * b.norm()
    for networks in ((exact.actor, fast.actor), (exact.target_critic, fast.target_critic)):
        for a, b in zip(*(network.parameters() for network in networks), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("size", [1, 37, 300])
def test_losses_gradients_and_targets_are_the_learners(threads: None, size: int, layer_norm: bool) -> None:
    assert_same(*pair(layer_norm=layer_norm, learn_temperature=True), batch(size))


def test_several_steps_some_of_which_are_the_actors() -> None:
    exact, fast = pair(learn_temperature=True, min_temperature=0.2999, temperature_learning_rate=1e-3, actor_every=2)
    for size in (16, 33, 20):
        expected, found = exact.step(batch(size)), fast.step(batch(size))
        assert expected.keys() == found.keys() and (len(found) == 2) == (size == 33)
        for name, value in expected.items():
            torch.testing.assert_close(torch.tensor(found[name]), value, rtol=1e-3, atol=1e-4)
    assert found["temperature"] == pytest.approx(0.2999)
    assert all(step == 3 for step in fast.critic_optimiser.parts()[3])
    assert all(step == 2 for step in fast.actor_optimiser.parts()[3])


@pytest.mark.parametrize("imagined", [False, True])
def test_transitions_of_replay_data_and_imagined_ones(imagined: bool) -> None:
    model, replay = tiny_model(), ReplayBuffer(100, 6)
    replay.add(two_task_episodes(4, steps=6), np.random.default_rng(0))
    view = TransitionView(model, replay, torch.arange(4))
    drawn = ImaginingView(view, model, SACConfig(imagined_share=0.3)) if imagined else view
    assert_same(*pair(sizes=(2, 2)), drawn.sample(20, generator()))


@pytest.mark.parametrize("name", ["reward", "terminated", "taught"])
def test_too_few_numbers_are_told_before_anything_is_learned(name: str) -> None:
    subject, expected = learner(in_kernels=True), learner()
    with pytest.raises(RuntimeError, match=r"expected (20|60) of float32"):
        subject.step(replace(batch(20), **{name: torch.zeros(3)}))
    assert all(map(torch.equal, subject.critic.parameters(), expected.critic.parameters()))


def test_what_a_teacher_does_counts() -> None:
    data = batch(20)
    assert_same(*pair(teacher_weight=0.7), replace(data, taught=data.action.flip(0)))


@pytest.mark.parametrize("log_std", [-30.0, 5.0])
def test_deviations_out_of_range_have_no_gradient(log_std: float) -> None:
    subjects = pair()
    for subject in subjects:
        with torch.no_grad():
            list(subject.actor.parameters())[-1][ACTIONS:] = log_std
    assert_same(*subjects, batch(20))
    of_bias = subjects[1].actor_optimiser.parts()[1][-1]
    assert of_bias[:ACTIONS].all() and not of_bias[ACTIONS:].any()


def test_critics_that_agree_share_the_gradient() -> None:
    subjects = pair()
    for subject in subjects:
        with torch.no_grad():
            for parameter in subject.critic.parameters():
                parameter[1] = parameter[0]
    assert_same(*subjects, batch(20))


def test_what_is_no_number_stays_none() -> None:
    subject, data = learner(in_kernels=True), batch(4)
    data.obs[2], data.next_obs[1] = torch.nan, torch.nan
    assert all(math.isnan(value) for name, value in subject.step(data).items() if name != "temperature")
    assert all(mean.isnan().any() for mean in gradients(subject)[:-1])


def test_groups_of_pcgrad_are_left_to_pytorch() -> None:
    group = (torch.arange(20) % 2).long()
    expected, found = (subject.step(replace(batch(20), group=group)) for subject in pair())
    assert expected == found


def test_the_fast_mode_uses_it_where_there_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for product, expected in ((torch.float32, True), (torch.bfloat16, False)):
        monkeypatch.setattr("tigr_core.fast.product_dtype", lambda _, product=product: product)
        assert has_kernels(torch.device("cpu")) == expected and not has_kernels(torch.device("cuda"))
        subject = SACLearner(tiny_model(), SACConfig(), generator=generator(), fast=True)
        assert (subject.in_kernels is not None) == expected
