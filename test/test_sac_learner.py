# SPDX-License-Identifier: Apache-2.0
"""SAC on (observation, latent): targets by hand, who learns when, and the alignment of the transitions it reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, numbered_episodes, tiny_model
from torch import Tensor

from envs.tasks import BaseTask, TaskSet
from tigr_core.config import SACConfig
from tigr_core.fast import product_dtype
from tigr_core.mixture import MixturePosterior
from tigr_core.random_shift import RandomShift
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import ControlRefund, SACLearner, TransitionBatch, TransitionView
from tigr_core.task_code import TaskCode


def learner(**settings: Any) -> SACLearner:
    return SACLearner(tiny_model(1, 1, latent_dim=1), SACConfig(**settings), generator=generator())


def batch(size: int = 16) -> TransitionBatch:
    source = generator(1)
    obs, latent, action, reward, next_obs, next_latent = (torch.randn((size, 1), generator=source) for _ in range(6))
    return transitions(obs, latent, action.tanh(), reward.squeeze(1), torch.zeros(size), next_obs, next_latent)


def transitions(
    obs: Tensor, latent: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, next_obs: Tensor, after: Tensor
) -> TransitionBatch:
    """Transitions with critics that read the latents."""
    return TransitionBatch(obs, latent, latent, action, reward, terminated, next_obs, after, after)


def copies(module: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def unchanged(module: torch.nn.Module, before: list[Tensor]) -> bool:
    return all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_target_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def critic(obs: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        value = (obs + 10.0 * latent + action).squeeze(1)
        return torch.stack([value + 1.0, value])

    subject = learner(discount=0.9, temperature=0.5)
    monkeypatch.setattr(subject.actor, "sample", lambda obs, latent, _: (0.1 * obs + latent, torch.tensor([-0.4])))
    monkeypatch.setattr(subject, "target_critic", critic)
    now, after = torch.tensor([[5.0], [5.0]]), torch.tensor([[1.0], [1.0]])
    terminated = torch.tensor([0.0, 1.0])
    data = transitions(now, 7.0 * now, now, torch.tensor([1.0, 1.0]), terminated, after, 0.2 * after)
    # all from the next state: a' = 0.1 + 0.2, min Q' = 1 + 10 * 0.2 + 0.3 = 3.3, y = 1 + 0.9 * (3.3 + 0.5 * 0.4) = 4.15
    torch.testing.assert_close(subject.target(data, now), torch.tensor([4.15, 1.0]))
    # critics that are told the task: min Q' = 1 + 10 * 0.5 + 0.3 = 6.3, y = 1 + 0.9 * (6.3 + 0.2) = 6.85
    told = replace(data, next_critic_latent=0.5 * after)
    torch.testing.assert_close(subject.target(told, now), torch.tensor([6.85, 1.0]))


def test_critic_loss_sums_the_mean_squared_errors_of_both_critics(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, data = learner(), batch(2)
    first, second = subject.critic(data.obs, data.latent, data.action).tolist()
    monkeypatch.setattr(subject, "target", lambda *_: torch.tensor([1.0, -1.0]))
    expected = sum(((q[0] - 1.0) ** 2 + (q[1] + 1.0) ** 2) / 2.0 for q in (first, second))
    assert float(subject.step(data)["critic_loss"]) == pytest.approx(expected, rel=1e-5)


def test_actor_goes_where_the_critics_are_high(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, data = learner(actor_learning_rate=1e-2, critic_learning_rate=1e-6, temperature=1e-3), batch()
    monkeypatch.setattr(subject.critic, "forward", lambda _, __, a: -(a.squeeze(1) - 0.5).square().expand(2, -1))
    for _ in range(150):
        subject._actor_step(data)
    assert subject.actor.act(data.obs, data.latent).mean().item() == pytest.approx(0.5, abs=0.1)


def test_what_a_teacher_does_weighs_half_after_each_half_life() -> None:
    subject, plain = learner(teacher_weight=8.0, teacher_half_life=2), batch(2)
    done = subject.actor.act(plain.obs, plain.latent).detach()
    shown = replace(plain, taught=done + torch.tensor([[0.1], [0.3]]))  # mean squared difference: 0.05
    for steps, weight in ((0, 8.0), (4, 2.0)):
        subject.steps = steps
        subject.schedule()
        losses = [subject.actor_loss(data, torch.zeros(2, 1))[0].item() for data in (shown, plain)]
        assert losses[0] - losses[1] == pytest.approx(weight * 0.05, rel=1e-4)


def test_targets_start_as_copies_and_follow_by_the_target_rate() -> None:
    subject = learner(target_rate=0.25, critic_learning_rate=1e-2)
    start = copies(subject.critic)
    assert unchanged(subject.target_critic, start)
    subject.step(batch())
    assert not unchanged(subject.critic, start)
    for target, old, new in zip(subject.target_critic.parameters(), start, subject.critic.parameters(), strict=True):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * new)


def test_actor_learns_at_every_nth_critic_step() -> None:
    subject, moved = learner(actor_every=3), []
    for _ in range(5):
        before = copies(subject.actor)
        subject.step(batch())
        moved.append(not unchanged(subject.actor, before))
    assert moved == [True, False, False, True, False]


@pytest.mark.parametrize(("target_entropy", "direction"), [(-100.0, -1.0), (100.0, 1.0)])
def test_temperature_moves_towards_the_target_entropy(target_entropy: float, direction: float) -> None:
    rate = {"learn_temperature": True, "temperature": 0.2, "temperature_learning_rate": 0.1}
    subject = learner(target_entropy_factor=-target_entropy, **rate)  # one action: target entropy = -factor
    subject.step(batch())
    # too much entropy: lower temperature. Adam's first step is the learning rate, here in the logarithm.
    assert subject.temperature.item() == pytest.approx(0.2 * math.exp(0.1 * direction), rel=1e-4)


def test_temperature_respects_its_floor_and_stays_when_fixed() -> None:
    settings = {"temperature": 0.2, "temperature_learning_rate": 1.0, "target_entropy_factor": 100.0}
    learning, fixed = learner(learn_temperature=True, min_temperature=0.19, **settings), learner(**settings)
    for subject in (learning, fixed):
        subject.step(batch())
    assert learning.temperature.item() == pytest.approx(0.19)
    assert fixed.temperature.item() == pytest.approx(0.2)


def test_the_floor_of_the_temperature_falls_by_half_every_half_life() -> None:
    settings = {"temperature": 0.2, "temperature_learning_rate": 1.0, "target_entropy_factor": 100.0}
    subject = learner(learn_temperature=True, min_temperature=0.16, min_temperature_half_life=2, **settings)
    for steps in range(4):
        subject.step(batch())
        assert subject.temperature.item() == pytest.approx(max(0.2 * math.exp(-1.0 - steps), 0.16 * 0.5 ** (steps / 2)))


def test_view_aligns_transitions_with_their_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latent of a state is 1000 + its number, which the encoder sees as next_obs of the last transition."""

    def encode(x: Tensor) -> MixturePosterior:  # x = (obs, action, reward, next_obs)
        mean = 1000.0 + torch.cat([x[:, :1, 0], x[:, :, 3]], dim=1)[..., None, None]
        return MixturePosterior(torch.zeros(mean.shape[:-1]), mean, torch.ones_like(mean))

    model, replay = tiny_model(1, 1, latent_dim=1, num_components=1), ReplayBuffer(100, 6)
    replay.add(numbered_episodes([6, 6, 2, 4], steps=6), np.random.default_rng(0))
    monkeypatch.setattr(model.encoder, "encode_episodes", encode)
    model.normaliser.reward_floor = 2.0
    drawn = TransitionView(model, replay, torch.tensor([3, 0, 2]), chunk=2).sample(3000, generator())
    number = drawn.obs.squeeze(1)
    assert set(number.long().tolist()) == {*range(6), 200, 201, *range(300, 304)}  # the valid steps, and only these
    assert torch.equal(drawn.action.squeeze(1), number + 0.25)
    assert torch.equal(drawn.reward, (number + 0.5).clamp_min(2.0))
    assert torch.equal(drawn.latent.squeeze(1), number + 1000.0)
    assert torch.equal(drawn.next_obs.squeeze(1), number + 1.0)
    assert torch.equal(drawn.next_latent.squeeze(1), number + 1001.0)
    assert torch.equal(drawn.terminated.bool(), (number == 201) | (number == 303))


def test_critics_that_see_the_task_are_told_the_code_of_each_transition() -> None:
    tasks = TaskSet(tuple(BaseTask(name, "x", "m", 0, 10, "absolute") for name in ("first", "second")))
    model, replay = tiny_model(1, 1), ReplayBuffer(100, 6)
    replay.add(numbered_episodes([6, 6], steps=6), np.random.default_rng(0))  # base task and parameter 0 and 1
    view = TransitionView(
        model, replay, torch.arange(2), task_code=TaskCode(tasks, latent_dim=2), critic_sees_task=True
    )
    drawn = view.sample(100, generator())
    first = (drawn.obs < 100.0).squeeze(1)
    # parameters 0 and 1 of [0, 10], scaled: -1 and -0.8
    expected = torch.where(first[:, None], torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.6]))
    torch.testing.assert_close(drawn.critic_latent, expected)
    assert drawn.next_critic_latent is drawn.critic_latent
    assert not torch.isclose(drawn.latent, drawn.critic_latent).any()
    view.told_share = 0.3
    drawn = view.sample(1000, generator())
    told = (drawn.latent == drawn.critic_latent).all(dim=1)
    assert 250 < told.sum() < 350
    assert torch.equal(told, (drawn.next_latent == drawn.critic_latent).all(dim=1))


def test_control_costs_that_are_warmed_up_are_given_back_to_sac() -> None:
    costs = {"first": 0.05, "second": 0.2}
    tasks = TaskSet(tuple(BaseTask(name, "x", "m", 0, 10, "absolute", control_cost=c) for name, c in costs.items()))
    model, replay = tiny_model(1, 1), ReplayBuffer(100, 6)
    replay.add(numbered_episodes([6, 6], steps=6), np.random.default_rng(0))
    view = TransitionView(model, replay, torch.arange(2), refund=ControlRefund(tasks, 0.5))
    drawn = view.sample(100, generator())
    number, action = drawn.obs.squeeze(1), drawn.action.squeeze(1)
    cost = torch.where(number < 100.0, 0.05, 0.2)
    torch.testing.assert_close(drawn.reward, number + 0.5 + 0.5 * cost * action**2)
    assert torch.equal(replay.reward[0], torch.arange(6) + 0.5), "the encoder's rewards stay"


def test_a_resumed_learner_goes_on_at_the_rates_of_its_configuration() -> None:
    model, replay = tiny_model(1, 1), ReplayBuffer(100, 6)
    replay.add(numbered_episodes([6, 5], steps=6), np.random.default_rng(0))
    before = SACLearner(model, SACConfig(), generator=generator())
    before.step(TransitionView(model, replay, torch.arange(2)).sample(8, generator()))
    resumed = SACLearner(model, SACConfig(critic_learning_rate=1e-5), generator=generator())
    resumed.load_state_dict(before.state_dict())
    (saved,), (restored,) = before.critic_optimiser.param_groups, resumed.critic_optimiser.param_groups
    assert (saved["lr"], restored["lr"]) == (3e-4, 1e-5)
    moments = [
        o.state[group["params"][0]]["exp_avg"]
        for o, group in ((before.critic_optimiser, saved), (resumed.critic_optimiser, restored))
    ]
    assert torch.equal(*moments) and moments[0].any()


def test_shifted_positions_say_nothing_except_to_tasks_about_them() -> None:
    tasks = TaskSet(tuple(BaseTask(name, "x", "m", 0, 10, "absolute") for name in ("first", "second")))
    model, replay = tiny_model(2, 1), ReplayBuffer(100, 6)
    episodes = numbered_episodes([6, 6], steps=6)
    replay.add(replace(episodes, obs=np.repeat(episodes.obs, 2, axis=2)), np.random.default_rng(0))
    model.normaliser.update(2.0 * torch.randn(1000, 2), torch.randn(1000, 1), torch.randn(1000))  # 1 m is about 0.5
    config = SACConfig(shifted=(1,), shift=3.0, unshifted_tasks=("second",))
    view = TransitionView(model, replay, torch.arange(2), shift=RandomShift(model, config, tasks))
    drawn, std = view.sample(1000, generator()), model.normaliser.var[:2].sqrt().float()
    obs, next_obs = (o * std + model.normaliser.mean[:2].float() for o in (drawn.obs, drawn.next_obs))
    torch.testing.assert_close(next_obs - obs, torch.ones(1000, 2), atol=1e-3, rtol=0)
    distance, first = obs[:, 1] - obs[:, 0], obs[:, 0] < 50.0
    torch.testing.assert_close(distance[~first], torch.zeros(int((~first).sum())), atol=1e-3, rtol=0)
    assert distance[first].min() < -2.9 and distance[first].max() > 2.9 and distance.abs().max() < 3.001


def test_pieces_of_contexts_are_shifted_as_wholes() -> None:
    tasks = TaskSet(tuple(BaseTask(name, "x", "m", 0, 10, "absolute") for name in ("first", "second")))
    model, replay = tiny_model(1, 1), ReplayBuffer(1000, 20)
    episodes = numbered_episodes([20] * 8, steps=20)
    episodes.base_task[4::2, 10:] = 1
    replay.add(episodes, np.random.default_rng(0))
    config = SACConfig(shifted=(0,), shift=30.0, unshifted_tasks=("second",))
    context = replay.context(*replay.draw_sequences(50, 40, 10, np.random.default_rng(0)))
    obs, next_obs = RandomShift(model, config, tasks).of_contexts(context, generator())
    distance = (obs - context.obs).squeeze(-1)
    torch.testing.assert_close((next_obs - context.next_obs).squeeze(-1), distance)
    assert not distance[context.base_task == 1].any()
    torch.testing.assert_close(distance, distance.gather(1, context.piece_start))
    changes = (context.segment_start > context.piece_start).nonzero()[0]
    assert not distance[changes[0], context.piece_start[tuple(changes)]], "none where the robot would jump"
    first = distance[(context.obs < 400).squeeze(2) & (context.base_task == 0)]
    assert first.unique().numel() > 30 and first.min() < -25.0 and first.max() > 25.0 and first.abs().max() <= 30.0


def test_control_leaves_inference_alone() -> None:
    model, replay = tiny_model(1, 1), ReplayBuffer(100, 6)
    replay.add(numbered_episodes([6, 5], steps=6), np.random.default_rng(0))
    subject = SACLearner(model, SACConfig(), generator=generator())
    before = copies(model.encoder), copies(model.decoder)
    drawn = TransitionView(model, replay, torch.arange(2)).sample(8, generator())
    subject.step(drawn)
    assert not drawn.latent.requires_grad
    assert unchanged(model.encoder, before[0]) and unchanged(model.decoder, before[1])


def test_the_fast_mode_learns_nearly_the_same() -> None:
    exact, fast = (SACLearner(tiny_model(1, 1), SACConfig(), generator=generator(), fast=f) for f in (False, True))
    for subject in (exact, fast):
        for _ in range(3):
            subject.step(two_latents())
    weights = (torch.cat([p.flatten() for p in s.critic.parameters()]) for s in (exact, fast))
    difference = next(weights) - next(weights)
    assert difference.abs().max() < 2e-3, "rounded in the third digit, after steps of 3e-4"
    rounds = product_dtype(torch.device("cpu")) == torch.bfloat16
    assert bool(difference.any()) or not rounds


def two_latents() -> TransitionBatch:
    data = batch()
    wide = {name: getattr(data, name).expand(-1, 2) for name in ("latent", "critic_latent", "next_latent")}
    return replace(data, **wide, next_critic_latent=wide["next_latent"])
