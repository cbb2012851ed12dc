# SPDX-License-Identifier: Apache-2.0
"""The replay buffer, with episodes whose numbers say where they come from (see `numbered_episodes`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import episodes_of, numbered_episodes

from tigr_core.replay import Context, ReplayBuffer


def filled(lengths: list[int], steps: int, capacity: int = 1000) -> ReplayBuffer:
    replay = ReplayBuffer(capacity, steps)
    replay.add(numbered_episodes(lengths, steps=steps), np.random.default_rng(0))
    return replay


def windows_of(replay: ReplayBuffer, *drawn: Any, **options: Any) -> tuple[Context, torch.Tensor]:
    *places, mask = replay.draw_windows(*drawn, **options)
    return replay.context(*places), mask


def assert_aligned(context: Context, real: torch.Tensor) -> torch.Tensor:
    """Check that the fields of the real steps belong to one transition; return their numbers 100 e + t."""
    number = context.obs[..., 0]
    assert torch.equal(context.next_obs[..., 0][real], number[real] + 1.0)
    assert torch.equal(context.action[..., 0][real], number[real] + 0.25)
    assert torch.equal(context.reward[real], number[real] + 0.5)
    episode = number.long() // 100
    assert torch.equal(context.base_task[real], episode[real] % 2)
    assert torch.equal(context.parameter[..., 0][real], episode[real].float())
    return number.long()


def test_ring_overwrites_the_oldest_episodes() -> None:
    replay, rng = filled([4, 4], 4, capacity=13), np.random.default_rng(0)  # room for 3 episodes
    replay.add(numbered_episodes([2, 3], steps=4, first=2), rng)
    assert replay.obs[:, 0, 0].tolist() == [300.0, 100.0, 200.0]
    assert replay.length.tolist() == [3, 4, 2]
    assert (replay.num_episodes, replay.num_transitions, replay.num_added) == (3, 9, 4)
    replay.add(numbered_episodes([4] * 5, steps=4, first=4), rng)  # more than fit: the last ones stay
    assert sorted(replay.obs[:, 0, 0].tolist()) == [600.0, 700.0, 800.0]


def test_memory_grows_with_the_content_up_to_the_capacity() -> None:
    replay, rng = ReplayBuffer(10 * 4, 4), np.random.default_rng(0)
    sizes = []
    for first in range(0, 30, 2):
        replay.add(numbered_episodes([4, 4], steps=4, first=first), rng)
        sizes.append(replay.num_bytes)
    # an episode: obs 5 x 4, action, reward and parameter 4 x 4 each, base task 4 x 2, terminated 4, length 4, mark 1
    assert sizes[0] == 2 * (20 + 3 * 16 + 8 + 4 + 4 + 1)
    assert sizes == sorted(sizes)
    assert sizes[-1] == 5 * sizes[0]


def test_ten_million_half_cheetah_transitions_fit_in_2_5_gb() -> None:
    replay, (count, steps, obs_dim, action_dim) = ReplayBuffer(10_000_000, 200), (10, 200, 20, 6)
    obs, action = np.zeros((count, steps + 1, obs_dim)), np.zeros((count, steps, action_dim))
    replay.add(episodes_of(obs, action, np.zeros((count, steps)), [0] * count), np.random.default_rng(0))
    assert replay.num_bytes / replay.num_transitions * 10_000_000 < 2.5e9
    assert replay.max_episodes * steps == 10_000_000


def test_an_episode_stays_in_its_part() -> None:
    replay, rng = filled([3] * 20, 3), np.random.default_rng(1)
    before = replay.is_validation.clone()
    replay.add(numbered_episodes([3] * 200, steps=3, first=20), rng)
    assert torch.equal(replay.is_validation[:20], before)
    assert 0.1 < replay.is_validation.float().mean() < 0.3
    training, validation = (replay.episode_pool(validation=v) for v in (False, True))
    assert sorted([*training, *validation]) == list(range(220))
    for marks, pool in ((False, training), (True, validation)):
        windows, _ = windows_of(replay, 300, 2, rng, validation=marks)
        sequences = replay.context(*replay.draw_sequences(100, 5, 2, rng, validation=marks))
        assert set((windows.obs.long() // 100).flatten().tolist()) <= set(pool.tolist())
        assert set((sequences.obs.long() // 100).flatten().tolist()) <= set(pool.tolist())


def test_linear_sampling_draws_the_newest_episode_nine_times_as_often_as_the_oldest() -> None:
    replay, rng = ReplayBuffer(10, 2, validation_share=1e-9, linear=True), np.random.default_rng(0)
    for first in range(7):  # two more than there is room for: slots 0 and 1 hold episodes 5 and 6
        replay.add(numbered_episodes([2], steps=2, first=first), rng)
    wanted = np.array([0.7, 0.9, 0.1, 0.3, 0.5]) / 2.5
    windows, _ = windows_of(replay, 4000, 2, rng)
    sequences = replay.context(*replay.draw_sequences(2000, 4, 2, rng))
    for context in (windows, sequences):
        found = np.bincount(context.obs[:, -1, 0].long() // 100, minlength=7)[[5, 6, 2, 3, 4]]
        np.testing.assert_allclose(found / found.sum(), wanted, atol=0.03)
    drawn = np.concatenate([replay.draw_episodes(3, rng) for _ in range(2000)])
    np.testing.assert_allclose(np.bincount(drawn) / 6000, wanted, atol=0.03)
    assert len(replay.draw_episodes(100, rng)) == 5


def test_even_sampling_draws_no_episode_twice() -> None:
    replay, rng = filled([3] * 6, 3), np.random.default_rng(0)
    assert sorted(replay.draw_episodes(9, rng)) == list(range(6))
    assert len(set(replay.draw_episodes(4, rng))) == 4


def test_windows_end_anywhere_in_an_episode_and_are_masked_before_its_start() -> None:
    replay = filled([2, 6, 4], 6)
    context, mask = windows_of(replay, 500, 4, np.random.default_rng(0))
    number = assert_aligned(context, mask)
    every_step = {100 * e + t for e in replay.episode_pool(validation=False) for t in range(int(replay.length[e]))}
    assert set(number[:, -1].tolist()) == every_step
    assert mask[:, -1].all()
    assert torch.equal(mask, mask.sort(dim=1).values)  # padding only in front
    both = mask[:, :-1] & mask[:, 1:]
    assert torch.equal(number[:, 1:][both], number[:, :-1][both] + 1)  # one after the other
    first_real = 4 - mask.sum(dim=1)
    assert (number[torch.arange(500), first_real][first_real > 0] % 100 == 0).all()
    assert torch.equal(context.segment_start[:, 0], first_real) and (context.segment_end == 4).all()


def test_sequences_are_spliced_from_contiguous_segments() -> None:
    lengths, steps = [4, 6, 5, 3], 12
    replay, rng = filled(lengths, 6), np.random.default_rng(0)
    context = replay.context(*replay.draw_sequences(200, steps, 3, rng))
    number = assert_aligned(context, torch.ones(200, steps, dtype=torch.bool))
    assert (number[:, 0] % 100 == 0).all()  # an episode starts where the context is empty
    assert (number % 100 < torch.tensor(lengths)[number // 100]).all()
    start, end, now = context.segment_start, context.segment_end, torch.arange(steps)
    assert ((start <= now) & (now < end) & (end <= steps)).all()
    inside = start[:, 1:] == start[:, :-1]
    assert torch.equal(number[:, 1:][inside], number[:, :-1][inside] + 1)
    assert torch.equal(end[:, 1:][inside], end[:, :-1][inside])
    splice = now[1:].expand(200, -1)[~inside]
    assert torch.equal(start[:, 1:][~inside], splice) and torch.equal(end[:, :-1][~inside], splice)
    assert (number[:, 1:][~inside] % 100 > 0).any()  # later segments start anywhere


def test_a_piece_of_an_episode_has_a_segment_for_each_task() -> None:
    episodes = numbered_episodes([6] * 8, steps=6)
    episodes.parameter[:, 4:] += 0.5
    replay, rng = ReplayBuffer(100, 6), np.random.default_rng(0)
    replay.add(episodes, rng)
    sequences = replay.context(*replay.draw_sequences(200, 12, 5, rng))
    windows, mask = windows_of(replay, 300, 4, rng)
    for context, real in ((sequences, torch.ones(200, 12, dtype=torch.bool)), (windows, mask)):
        now, step = torch.arange(real.shape[1]), context.obs.squeeze(-1).long() % 100
        parts = torch.stack([context.segment_start, context.segment_end - 1])
        inside = [step.gather(1, part) for part in parts]  # the first and the last step of the segment
        of_step = step + torch.stack([context.segment_start - now, context.segment_end - 1 - now])
        assert torch.equal(torch.stack(inside)[:, real], of_step[:, real]), "segments follow their episode"
        assert torch.equal(*(context.parameter.squeeze(2).gather(1, part)[real] for part in parts))
        same_piece = context.piece_start[:, 1:] == context.piece_start[:, :-1]
        changes = (context.parameter[:, 1:, 0] != context.parameter[:, :-1, 0]) & same_piece & real[:, :-1]
        assert changes.any() and (step[:, 1:][changes] == 4).all()
        assert torch.equal(context.segment_start[:, 1:][changes], now[1:].expand(len(step), -1)[changes])


@pytest.mark.parametrize("relabelled", [False, True])
def test_recent_returns_are_those_of_the_last_episodes_of_each_base_task(relabelled: bool) -> None:
    replay = ReplayBuffer(4 * 3, 3, relabelled=relabelled)
    for first in range(0, 10, 2):  # the ring holds the last four of ten
        replay.add(numbered_episodes([3, 2], steps=3, first=first), np.random.default_rng(0))
    replay.base_task[1::2, 2] = 0  # padding says nothing
    if relabelled:
        replay.reward[:] = 0.0  # what they pose as
    # Rewards of episode e are 100 e + t + 0.5; even ones have three steps and base task 0, odd ones two and 1.
    expected = np.array([3 * 701.5, 2 * 801.0, np.nan])  # means of episodes 6 and 8, 7 and 9
    np.testing.assert_allclose(replay.recent_returns(4, 3), expected)
    np.testing.assert_allclose(replay.recent_returns(1, 2), [np.nan, 2 * 901.0])
    (replay.own_parameter if relabelled else replay.parameter)[0, 1:] += 1.0  # episode 8 changes: it counts no more
    np.testing.assert_allclose(replay.recent_returns(4, 2), [3 * 601.5, 2 * 801.0])


def test_state_dict_round_trip_goes_on_in_the_same_place() -> None:
    replay = filled([4, 4], 4, capacity=12)
    replay.add(numbered_episodes([4, 2], steps=4, first=2), np.random.default_rng(1))
    restored = ReplayBuffer(12, 4)
    restored.load_state_dict(replay.state_dict())
    for buffer in (replay, restored):
        buffer.add(numbered_episodes([3], steps=4, first=9), np.random.default_rng(2))
    assert replay.obs[:, 0, 0].tolist() == [300.0, 900.0, 200.0]
    for name in ("obs", "action", "reward", "terminated", "base_task", "parameter", "length", "is_validation"):
        assert torch.equal(getattr(restored, name), getattr(replay, name))
    assert (restored.num_episodes, restored.num_added) == (3, 5)
