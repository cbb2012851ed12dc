# SPDX-License-Identifier: Apache-2.0
"""Running statistics: by hand, merged exactly, restored with what is applied."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tigr_core.normaliser import Normaliser


def filled() -> Normaliser:
    """obs 1, 3 and 5, 5; action 0, 4; reward -1, 1: means 2, 5, 2, 0 and std 1, 0, 2, 1."""
    normaliser = Normaliser(obs_dim=2, action_dim=1)
    obs, action = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[0.0], [4.0]])
    normaliser.update(obs, action, torch.tensor([-1.0, 1.0]))
    return normaliser


def test_transition_is_obs_action_reward_next_obs_with_the_statistics_of_obs_for_both() -> None:
    normaliser = filled()
    assert normaliser.mean.tolist() == [2.0, 5.0, 2.0, 0.0]
    assert normaliser.var.tolist() == [1.0, 0.0, 4.0, 1.0]
    obs, next_obs = torch.tensor([3.0, 5.0]), torch.tensor([5.0, 5.0])
    x = normaliser.transition(obs, torch.tensor([0.0]), torch.tensor(2.0), next_obs)
    # (3 - 2) / 1, constant, (0 - 2) / 2, (2 - 0) / 1, (5 - 2) / 1, constant
    assert x.tolist() == [1.0, 0.0, -1.0, 2.0, 3.0, 0.0]
    assert normaliser.transition_dim == 6
    assert normaliser.obs(next_obs).tolist() == [3.0, 0.0]


def test_rewards_are_read_as_large_as_asked_also_after_loading() -> None:
    normaliser = Normaliser(2, 1, reward_gain=10.0)
    normaliser.load_state_dict(filled().state_dict())
    x = normaliser.transition(
        torch.tensor([3.0, 5.0]), torch.tensor([0.0]), torch.tensor(2.0), torch.tensor([5.0, 5.0])
    )
    assert x.tolist() == [1.0, 0.0, -1.0, 20.0, 3.0, 0.0]


def test_rewards_below_the_floor_count_as_the_floor_in_statistics_and_transitions() -> None:
    normaliser = Normaliser(1, 1, reward_floor=-4.0)
    nothing = torch.zeros(2, 1)
    normaliser.update(nothing, nothing, torch.tensor([-60.0, 0.0]))
    assert (normaliser.mean[2], normaliser.var[2]) == (-2.0, 4.0)
    rewards = normaliser.transition(nothing, nothing, torch.tensor([-30.0, 2.0]), nothing)[:, 2]
    assert rewards.tolist() == [-1.0, 2.0]  # (-4 + 2) / 2, (2 + 2) / 2


def test_changes_of_reward_and_effort_by_hand() -> None:
    normaliser = Normaliser(2, 1, reward_changes=True, reward_floor=-2.0, reward_gain=10.0)
    normaliser.load_state_dict(filled().state_dict())  # rewards have mean 0 and std 1
    assert normaliser.transition_dim == 9
    obs, action, reward = torch.zeros(3, 2), torch.tensor([[0.5], [0.6], [-0.6]]), torch.tensor([-5.0, -2.0, -1.9])
    changes = normaliser.sequence(obs, action, reward, obs)[:, 6:]
    effort = [5 * 0.25 - 5 / 3, 5 * 0.36 - 5 / 3, 5 * 0.36 - 5 / 3]
    of_reward, of_effort = [0.0, 0.0, 3 * math.tanh(1.0 / 3)], [0.0, 3 * math.tanh(1.1 / 3), 0.0]
    torch.testing.assert_close(changes, torch.tensor([effort, of_reward, of_effort]).T, rtol=0.0, atol=1e-5)
    one_by_one = normaliser.transition(obs[1], action[1], reward[1], obs[1], before=(action[0], reward[0]))
    torch.testing.assert_close(one_by_one[6:], changes[1])


@pytest.mark.parametrize("own_next_obs", [False, True])
def test_what_is_normalised_comes_back_in_its_units(own_next_obs: bool) -> None:
    normaliser = Normaliser(2, 1, own_next_obs=own_next_obs, reward_gain=3.0)
    rng = np.random.default_rng(0)
    obs, action, reward, next_obs = (torch.from_numpy(rng.normal(3.0, 2.0, (9, n))).float() for n in (2, 1, 1, 2))
    normaliser.update(obs, action, reward.squeeze(1), next_obs)
    x = normaliser.transition(obs, action, reward.squeeze(1), next_obs)
    assert torch.equal(normaliser.action(action), x[:, 2:3])
    found = normaliser.in_units(x[:, 4:], x[:, 3] / 3.0)
    torch.testing.assert_close(found, (next_obs, reward.squeeze(1)))


def test_many_small_updates_equal_one_large() -> None:
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.normal(1000.0, [1.0, 0.01, 30.0, 5.0], (500, 4))).float()
    merged, at_once = Normaliser(2, 1), Normaliser(2, 1)
    at_once.update(data[:, :2], data[:, 2:3], data[:, 3])
    for part in data.split([1, 2, 97, 150, 250]):
        merged.update(part[:, :2], part[:, 2:3], part[:, 3])
    expected = data.double().numpy()
    for normaliser in (merged, at_once):
        np.testing.assert_allclose(normaliser.mean, expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(normaliser.var, expected.var(axis=0), rtol=1e-8)
    assert merged.count.item() == 500.0


def test_constant_entries_map_to_zero() -> None:
    normaliser = Normaliser(1, 1)
    for size in (3, 10, 7):  # 0.1 has no exact binary form: sums of it round
        normaliser.update(torch.full((size, 1), 0.1), torch.full((size, 1), 12345.678), torch.zeros(size))
    x = normaliser.transition(torch.tensor([0.1]), torch.tensor([12345.678]), torch.tensor(0.0), torch.tensor([0.1]))
    assert x.tolist() == [0.0] * 4


def test_state_dict_restores_what_is_applied() -> None:
    saved, restored = filled(), Normaliser(2, 1)
    restored.load_state_dict(saved.state_dict())
    x = torch.tensor([9.0, 6.0])
    assert restored.obs(x).tolist() == saved.obs(x).tolist() != x.tolist()
    for normaliser in (saved, restored):  # and it goes on from there
        normaliser.update(torch.ones(4, 2), torch.ones(4, 1), torch.ones(4))
    torch.testing.assert_close(restored.var, saved.var, rtol=0.0, atol=0.0)
