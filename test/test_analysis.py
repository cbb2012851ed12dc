# SPDX-License-Identifier: Apache-2.0
"""Measures against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tigr_core import analysis
from tigr_core.rollout import Episodes

IDENTITY = np.array([0, 1])


def record(
    base_task: Sequence[Sequence[int]],
    component: Sequence[Sequence[int]],
    length: Sequence[int] | None = None,
    value: Sequence[Sequence[float]] | None = None,
    num_components: int = 2,
) -> Episodes:
    """Episodes with these labels [E][T], most likely components [E][T + 1] and reward = -error = `value`."""
    labels = np.array(base_task)
    num, steps = labels.shape
    reward = np.zeros((num, steps)) if value is None else np.array(value, dtype=float)
    weights = np.full((num, steps + 1, num_components), 0.1)
    np.put_along_axis(weights, np.array(component)[..., None], 0.9, axis=2)
    return Episodes(
        obs=np.zeros((num, steps + 1, 1)),
        action=np.zeros((num, steps, 1)),
        reward=reward,
        terminated=np.zeros((num, steps), dtype=bool),
        length=np.array(length or [steps] * num),
        base_task=labels,
        parameter=np.zeros((num, steps, 1)),
        quantities=np.zeros((num, steps, 1)),
        tracked_value=np.zeros((num, steps)),
        tracked_target=np.zeros((num, steps)),
        tracking_error=-reward,
        mixture_weights=weights,
        latent=np.zeros((num, steps + 1, 1)),
    )


def test_component_accuracy_looks_at_the_estimate_after_that_many_transitions() -> None:
    episodes = record([[0, 0, 0], [1, 1, 1]], [[1, 0, 0, 0], [0, 0, 1, 1]])
    assert [analysis.component_accuracy(episodes, n, IDENTITY) for n in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert analysis.component_accuracy(episodes, 1, IDENTITY[::-1]) == 0.5
    assert analysis.component_accuracy(episodes, 3, IDENTITY[::-1]) == 0.0


def test_component_accuracy_leaves_out_shorter_episodes() -> None:
    episodes = record([[0, 0, 0], [0, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]], length=[3, 2])
    assert analysis.component_accuracy(episodes, 2, IDENTITY) == 0.5
    assert analysis.component_accuracy(episodes, 3, IDENTITY) == 1.0
    assert np.isnan(analysis.component_accuracy(episodes.select(np.array([1])), 3, IDENTITY))


def test_component_accuracy_holds_the_estimate_against_the_task_of_the_last_reward() -> None:
    episodes = record([[0, 1]], [[0, 0, 1]])
    np.testing.assert_array_equal(analysis.accuracy_curve(episodes, IDENTITY), [1.0, 1.0, 1.0])


def test_components_go_to_the_base_task_where_they_weigh_most_late_in_the_episode() -> None:
    early_wrong = [[0, 0, 0, 2, 2], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    episodes = record([[0] * 4, [1] * 4, [1] * 4], early_wrong, num_components=3)
    np.testing.assert_array_equal(analysis.assign_components(episodes, 2), [1, 1, 0])


def test_components_are_not_given_to_the_task_that_merely_occurs_more_often() -> None:
    episodes = record([[0, 0]] + [[1, 1]] * 5, [[0, 0, 0], [0, 0, 0]] + [[1, 1, 1]] * 4)
    np.testing.assert_array_equal(analysis.assign_components(episodes, 2), [0, 1])


def test_returns_and_errors_are_means_over_the_stationary_episodes_of_a_base_task() -> None:
    values = [[-1, -2, -3, -4], [-5, -5, -1, -1], [-9, -9, -9, -9], [-1, -3, -100, -100]]
    labels = [[0] * 4, [0] * 4, [0, 0, 1, 1], [1] * 4]
    episodes = record(labels, np.zeros((4, 5), dtype=int).tolist(), length=[4, 4, 4, 2], value=values)
    returns = analysis.return_per_base_task(episodes, ["a", "b", "c"])
    assert returns["a"] == pytest.approx(-11.0)  # (-10 - 12) / 2
    assert returns["b"] == pytest.approx(-4.0)  # padding is left out
    assert np.isnan(returns["c"])
    errors = analysis.tracking_error_per_base_task(episodes, ["a", "b", "c"])
    assert errors["a"] == pytest.approx(2.25)  # (3.5 + 1) / 2
    assert errors["b"] == pytest.approx(3.0)


def test_confusion_rows_are_shares_of_the_true_task() -> None:
    episodes = record([[0], [0], [0], [0], [1]], [[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]])
    matrix = analysis.confusion(episodes, 1, IDENTITY, 3)
    np.testing.assert_allclose(matrix, [[0.75, 0.25, 0.0], [1.0, 0.0, 0.0], [np.nan] * 3])


def test_recovery_counts_transitions_until_the_estimate_holds() -> None:
    labels = [[0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]]
    estimates = [[0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0]]  # after the changes: 1 0 1 1 1, then 1 1 0
    episodes = record(labels, estimates)
    np.testing.assert_array_equal(analysis.recovery_steps(episodes, IDENTITY, hold=1), [1, 3])
    np.testing.assert_array_equal(analysis.recovery_steps(episodes, IDENTITY, hold=3), [3, np.nan])


def test_recovery_ends_at_the_next_change_and_ignores_changes_of_the_parameter() -> None:
    too_late = record([[0, 0, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 1, 0]])
    np.testing.assert_array_equal(analysis.recovery_steps(too_late, IDENTITY, hold=2), [np.nan, np.nan])
    padded = record([[0, 0, 1, 1]], [[0, 0, 0, 1, 1]], length=[2])
    assert len(analysis.recovery_steps(padded, IDENTITY)) == 0


def test_the_median_recovery_is_never_where_half_of_the_changes_are() -> None:
    assert analysis.median_steps(np.array([7.0, np.nan, 3.0])) == 7.0
    assert analysis.median_steps(np.array([7.0, np.nan])) == np.inf
    assert np.isnan(analysis.median_steps(np.array([])))


def test_accuracy_since_change_is_the_mean_over_changes() -> None:
    episodes = record([[0, 0, 1, 1], [1, 1, 0, 0]], [[0, 0, 0, 1, 1], [1, 1, 1, 1, 0]])
    offset, accuracy = analysis.accuracy_since_change(episodes, IDENTITY, before=1, after=3)
    np.testing.assert_array_equal(offset, [-1, 0, 1, 2, 3])
    np.testing.assert_array_equal(accuracy, [1.0, 1.0, 0.5, 1.0, np.nan])


def test_principal_plane_of_points_on_a_line() -> None:
    points = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [6.0, 8.0, 0.0]])
    coordinates, share = analysis.principal_plane(points)
    np.testing.assert_allclose(np.abs(coordinates[:, 0]), [5.0, 0.0, 5.0], atol=1e-12)
    np.testing.assert_allclose(share, [1.0, 0.0], atol=1e-12)


def test_principal_plane_of_one_dimension_keeps_it_and_adds_zeros() -> None:
    coordinates, share = analysis.principal_plane(np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(np.abs(coordinates), [[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(share, [1.0, 0.0])


def test_a_task_is_followed_from_the_first_steps_whose_mean_reward_is_good_enough() -> None:
    value = [[0, 0, -9, -1, -3, -1, -1, -1, -8], [0, 0, 0, -1, -1, -4, -4, -4, -4]]
    episodes = record([[0, 0, 1, 1, 1, 1, 1, 1, 0], [0] * 9], [[0] * 10] * 2, value=value)
    episodes.parameter[1, 3:] = 1.0
    assert analysis.task_changes(episodes) == [(0, 2, 8), (0, 8, 9), (1, 3, 9)]
    assert analysis.base_task_changes(episodes) == [(0, 2, 8), (0, 8, 9)]
    steps = analysis.following_steps(episodes, np.array([-1.0, -2.0]), hold=2)
    np.testing.assert_array_equal(steps, [1, np.nan, 0])  # (-1 - 3) / 2 is good enough; one step is too short
    steps = analysis.following_steps(episodes, np.array([-0.5, -1.0]), hold=2)
    np.testing.assert_array_equal(steps, [3, np.nan, np.nan])


def test_settled_reward_is_the_mean_of_the_second_half() -> None:
    episodes = record([[0] * 4, [1] * 4], [[0] * 5] * 2, length=[4, 2], value=[[-9, -9, -1, -3], [-9, -5, 0, 0]])
    assert analysis.settled_reward_per_base_task(episodes, ["a", "b"]) == {"a": -2.0, "b": -5.0}
