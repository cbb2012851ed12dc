# SPDX-License-Identifier: Apache-2.0
"""Rewards and states find together whatever their order, and never with the wrong one."""

from __future__ import annotations

import numpy as np

from tigr_ros.pairing import LockStepPairing, Pairing, RealTimePairing, State

PERIOD_MS = 100


def state(stamp_ms: float, *, place: float = 0.0, received_s: float | None = None) -> State:
    arrived_s = stamp_ms / 1000 if received_s is None else received_s
    return State(np.array([place]), np.zeros(1), round(stamp_ms * 1e6), arrived_s)


def take(pairing: Pairing, now_s: float = 0.0, await_reward: bool = True) -> tuple[float, float | None, bool] | None:
    """What comes out: stamp in ms, reward, whether an episode begins."""
    given = pairing.take(now_s, await_reward=await_reward)
    return None if given is None else (given.state.stamp_ns / 1e6, given.reward, given.new_episode)


def test_lock_step_waits_for_both_in_either_order() -> None:
    pairing = LockStepPairing()
    assert take(pairing) is None
    pairing.add_state(state(100))
    assert take(pairing) == (100, None, True)
    pairing.add_state(state(200))
    assert take(pairing, now_s=1e9) is None
    pairing.add_reward(0.5)
    assert take(pairing) == (200, 0.5, False)
    pairing.add_reward(0.75)
    assert take(pairing) is None
    pairing.add_state(state(300))
    assert take(pairing) == (300, 0.75, False)


def test_lock_step_episode_begins_where_the_stamp_does_not_grow() -> None:
    pairing = LockStepPairing()
    pairing.add_state(state(100))
    take(pairing)
    pairing.add_state(state(100, place=1.0))  # reset at the first state
    assert take(pairing) == (100, None, True)
    pairing.add_reward(1.0)
    pairing.add_state(state(200))
    assert take(pairing) == (200, 1.0, False)
    pairing.add_reward(2.0)  # of a state that a reset overtakes
    pairing.add_state(state(300))
    pairing.add_state(state(100))
    assert take(pairing) == (100, None, True)
    assert take(pairing) is None
    pairing.add_reward(3.0)
    pairing.add_state(state(200))
    assert take(pairing) == (200, 3.0, False)


def test_lock_step_counts_rewards_across_interruptions_and_pauses() -> None:
    pairing = LockStepPairing()
    pairing.add_state(state(100))
    take(pairing)
    pairing.interrupt()
    pairing.add_state(state(200))
    assert take(pairing) is None, "the reward of the broken transition still has to come"
    pairing.add_reward(2.0)
    assert take(pairing) == (200, None, False)
    for stamp_ms, reward in ((300, 3.0), (400, 4.0)):
        pairing.add_reward(reward)
        pairing.add_state(state(stamp_ms))
    pairing.restart()
    assert take(pairing) == (400, None, False)
    pairing.add_reward(5.0)
    pairing.add_state(state(500))
    assert take(pairing) == (500, 5.0, False)


def test_lock_step_gives_out_a_repeated_state_as_such() -> None:
    pairing = LockStepPairing()
    pairing.add_state(state(100))
    pairing.add_state(state(100))
    assert take(pairing) == (100, None, True)
    assert take(pairing) is None
    pairing.add_state(state(100))
    repeated = pairing.take(0.0, await_reward=True)
    assert repeated is not None and repeated.repeated and repeated.reward is None and not repeated.new_episode
    pairing.add_reward(1.0)
    pairing.add_state(state(200))
    assert take(pairing) == (200, 1.0, False)


def real_time() -> RealTimePairing:
    return RealTimePairing(PERIOD_MS / 1000)


def test_real_time_pairs_whatever_comes_first() -> None:
    pairing = real_time()
    pairing.add_reward(9.0)  # before there was any state
    pairing.add_state(state(0))
    assert take(pairing) == (0, None, True)
    pairing.add_reward(1.0)
    pairing.add_state(state(100))
    assert take(pairing) == (100, 1.0, False)
    pairing.add_state(state(200))
    assert take(pairing, now_s=0.21) is None
    assert np.isclose(pairing.patience_s(0.21), 0.01)
    pairing.add_reward(2.0)
    assert take(pairing, now_s=0.21) == (200, 2.0, False)


def test_real_time_waits_a_fifth_of_the_period_and_only_while_rewards_come() -> None:
    pairing = real_time()
    pairing.add_state(state(0))
    take(pairing)
    pairing.add_state(state(100))
    assert take(pairing, now_s=0.119) is None
    assert take(pairing, now_s=0.121) == (100, None, False)
    pairing.add_state(state(200))
    assert take(pairing, now_s=0.2, await_reward=False) == (200, None, False)


def test_real_time_answers_the_newest_state_and_does_not_bridge_the_gap() -> None:
    pairing = real_time()
    pairing.add_state(state(0))
    take(pairing)
    for stamp_ms, reward in ((100, 1.0), (200, 2.0)):
        pairing.add_reward(reward)
        pairing.add_state(state(stamp_ms))
    assert take(pairing) == (200, None, False)
    assert pairing.skipped == 1
    pairing.add_reward(3.0)
    pairing.add_state(state(300))
    assert take(pairing) == (300, 3.0, False)


def taken(stamps_ms: list[float]) -> list[float]:
    """The stamps that are answered."""
    pairing, out = real_time(), []
    for stamp_ms in stamps_ms:
        pairing.add_state(state(stamp_ms))
        if (given := take(pairing, await_reward=False)) is not None:
            out.append(given[0])
    return out


def test_real_time_answers_once_per_control_period() -> None:
    assert taken([10.0 * i for i in range(31)]) == [0, 80, 180, 280], "ten times as fast, a quarter early at most"
    assert taken([50.0 * i for i in range(7)]) == [0, 100, 200, 300], "twice as fast"
    jittered = [0, 108, 193, 310, 395, 502]
    assert taken(list(jittered)) == jittered, "the control rate with jitter"
    assert taken([0, 100, 100, 200, 200]) == [0, 100, 200], "stamped twice"
    assert taken([0, 100, 750, 850, 950]) == [0, 100, 750, 850, 950], "after a gap the grid begins anew"


def test_real_time_episode_begins_where_the_stamp_goes_back() -> None:
    pairing = real_time()
    for stamp_ms in (5000, 5100):
        pairing.add_reward(1.0)
        pairing.add_state(state(stamp_ms))
        take(pairing)
    pairing.add_reward(2.0)
    pairing.add_state(state(50))
    assert take(pairing) == (50, None, True)
    pairing.add_reward(3.0)
    pairing.add_state(state(150))
    assert take(pairing) == (150, 3.0, False)
