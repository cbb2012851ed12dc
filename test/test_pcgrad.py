# SPDX-License-Identifier: Apache-2.0
"""PCGrad: projections by hand, groups of both learners, and that one group alone changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model, two_task_episodes
from test_inference_learner import learner as inference_learner
from test_inference_learner import replay_of
from test_sac_learner import batch, copies
from test_sac_learner import learner as sac_learner

from tigr_core.config import Config
from tigr_core.pcgrad import descend, groups_of, without_conflicts
from tigr_core.sac_learner import TransitionView


def test_opposed_gradients_are_made_orthogonal_by_hand() -> None:
    # (1, 0) . (-1, 1) = -1: the first loses -1/2 (-1, 1), the second -1 (1, 0); (0, 3) opposes neither of them
    found = without_conflicts(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.0, 3.0]]))
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    assert torch.equal(without_conflicts(agreeing), agreeing)


def test_parameters_get_the_sum_of_what_is_left() -> None:
    x, y, unused = (torch.zeros(1, requires_grad=True) for _ in range(3))
    descend([x.sum(), (y - x).sum()], [x, y, unused], generator())
    assert [p.grad.item() for p in (x, y, unused) if p.grad is not None] == pytest.approx([0.5, 1.5, 0.0])


def test_groups() -> None:
    base_task, weights = torch.tensor([1, 0, 1]), torch.tensor([[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]])
    assert groups_of("true_task", base_task, lambda: weights, generator()).tolist() == [1, 0, 1]
    assert groups_of("most_likely_task", base_task, lambda: weights, generator()).tolist() == [0, 1, 0]
    many = groups_of("random_task", base_task, lambda: weights.repeat(1000, 1), generator()).view(1000, 3)
    np.testing.assert_allclose(many.float().mean(dim=0), [0.1, 0.8, 0.0], atol=0.04)


@pytest.mark.parametrize("context", ["stream", "window"])
@pytest.mark.parametrize("groups", ["true_task", "most_likely_task", "random_task"])
def test_inference_learns_by_groups(groups: str, context: str) -> None:
    replay, steps = replay_of(two_task_episodes(10, steps=12)), []
    for pcgrad in (None, groups):
        model = tiny_model(context=context)
        learner = inference_learner(model, pcgrad=pcgrad, supervision_weight=10.0)  # pulls two ways
        metrics = learner.step(replay)
        steps.append((metrics, torch.cat([mean.flatten() for mean in learner.optimiser.parts()[1]])))
    (plain, before), (grouped, after) = steps
    assert plain.keys() == grouped.keys() and before.shape == after.shape
    assert grouped["loss"].item() == pytest.approx(plain["loss"].item(), rel=1e-4)
    if groups == "true_task":  # an untrained encoder may find one component the likeliest for all
        assert not torch.allclose(before, after, rtol=0.01)


def test_a_single_group_learns_as_without() -> None:
    episodes = two_task_episodes(10, steps=12)
    episodes.base_task[:] = 0
    trained: list[Any] = []
    for settings in ({}, {"pcgrad": "true_task"}):
        model = tiny_model()
        inference_learner(model, **settings).step(replay_of(episodes))
        subject, data = sac_learner(), batch()
        subject.step(data if not settings else replace(data, group=torch.zeros(16, dtype=torch.int64)))
        trained.append([*copies(model), *copies(subject.critic), *copies(subject.actor)])
    for plain, grouped in zip(*trained, strict=True):
        torch.testing.assert_close(grouped, plain, rtol=1e-4, atol=1e-5)


def test_control_learns_by_groups() -> None:
    data = batch()
    group = (torch.arange(16) % 2).long()
    plain, grouped = sac_learner(), sac_learner()
    metrics = plain.step(data), grouped.step(replace(data, group=group))
    assert metrics[0].keys() == metrics[1].keys()
    for name in ("critic_loss", "q_mean"):
        assert float(metrics[1][name]) == pytest.approx(float(metrics[0][name]), rel=1e-5)


@pytest.mark.parametrize("groups", ["true_task", "most_likely_task", "random_task"])
def test_views_know_the_group_of_each_transition(groups: Any) -> None:
    model, replay = tiny_model(), replay_of(two_task_episodes(4, steps=6))
    views = [TransitionView(model, replay, torch.arange(4), groups=groups, group_seed=seed) for seed in (0, 0, 1)]
    found = [view.group for view in views]
    assert found[0] is not None and found[1] is not None and torch.equal(found[0], found[1])
    drawn = views[0].sample(8, generator())
    assert drawn.group is not None and drawn.group.shape == (8,)
    if groups == "true_task":
        assert found[0].view(4, 7)[:, :6].tolist() == [[k] * 6 for k in (0, 1, 0, 1)]


def test_the_fast_mode_has_no_groups() -> None:
    with pytest.raises(ValueError, match=r"training.fast is true; inference.pcgrad and sac.pcgrad need false"):
        Config.model_validate({"sac": {"pcgrad": "true_task"}, "training": {"fast": True}})
