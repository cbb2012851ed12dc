# SPDX-License-Identifier: Apache-2.0
"""Measures over recorded episodes: how fast and how surely the task is recognised, and how well it is done.

An estimate is *right* when its most likely component belongs to the base task that gave the last reward. The
estimate of index n comes from the first n transitions and is held against the task of transition n - 1 (index
0: task 0).

Sizes: E episodes, T steps, K mixture components, B base tasks, L latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tigr_core.rollout import Episodes


def component_accuracy(episodes: Episodes, step: int, component_to_task: np.ndarray) -> float:
    """Share of episodes recognised after `step` transitions, of those that long; nan without one."""
    reached = episodes.length >= step
    return float(right_estimates(episodes, component_to_task)[reached, step].mean()) if reached.any() else np.nan


def accuracy_curve(episodes: Episodes, component_to_task: np.ndarray) -> np.ndarray:
    """Component accuracy after 0 .. T transitions, [T + 1]."""
    steps = range(episodes.reward.shape[1] + 1)
    return np.array([component_accuracy(episodes, step, component_to_task) for step in steps])


def right_estimates(episodes: Episodes, component_to_task: np.ndarray) -> np.ndarray:
    """Whether each estimate is right, bool [E, T + 1]; meaningless beyond `length`."""
    truth = np.concatenate([episodes.base_task[:, :1], episodes.base_task], axis=1)
    return component_to_task[episodes.mixture_weights.argmax(axis=2)] == truth


def assign_components(episodes: Episodes, num_base_tasks: int) -> np.ndarray:
    """Give each component to the base task in which it carries most weight: int64 [K].

    Needed when inference was unsupervised and the numbering is arbitrary. Counts the second half of each
    episode, where the estimate has settled, as mean weight per step of the task, so that frequent tasks do
    not win by number.
    """
    settled = second_half(episodes)
    return heaviest_base_task(episodes.mixture_weights[:, 1:][settled], episodes.base_task[settled], num_base_tasks)


def heaviest_base_task(mixture_weights: np.ndarray, label: np.ndarray, num_base_tasks: int) -> np.ndarray:
    """Return for each component the base task in which its weight [n, K] is largest in the mean; `label` is [n]."""
    membership = np.eye(num_base_tasks)[label]  # [n, B]
    return (membership.T @ mixture_weights / np.maximum(membership.sum(axis=0), 1)[:, None]).argmax(axis=0)


def base_task_weights(mixture_weights: np.ndarray, component_to_task: np.ndarray, num_base_tasks: int) -> np.ndarray:
    """Sum mixture weights [..., K] over the components of each base task: [..., B]."""
    return mixture_weights @ np.eye(num_base_tasks, dtype=mixture_weights.dtype)[component_to_task]


def second_half(episodes: Episodes) -> np.ndarray:
    """Mask [E, T] of the valid steps from the middle of each episode on."""
    steps = np.arange(episodes.reward.shape[1])
    return episodes.valid & (steps[None, :] >= episodes.length[:, None] // 2)


def stationary(episodes: Episodes) -> np.ndarray:
    """Mask [E] of the episodes in which the base task never changes."""
    return np.all((episodes.base_task == episodes.base_task[:, :1]) | ~episodes.valid, axis=1)


def return_per_base_task(episodes: Episodes, names: Sequence[str]) -> dict[str, float]:
    """Mean undiscounted return of the stationary episodes of each base task; nan where there is none."""
    return _mean_per_base_task(episodes, episodes.returns, names)


def tracking_error_per_base_task(episodes: Episodes, names: Sequence[str]) -> dict[str, float]:
    """Mean tracking error over the second half of the stationary episodes of each base task."""
    return _mean_per_base_task(episodes, settled_mean(episodes, episodes.tracking_error), names)


def settled_reward_per_base_task(episodes: Episodes, names: Sequence[str]) -> dict[str, float]:
    """Mean reward of a step in the second half of the stationary episodes of each base task."""
    return _mean_per_base_task(episodes, settled_mean(episodes, episodes.reward), names)


def success_per_base_task(episodes: Episodes, column: int, names: Sequence[str]) -> dict[str, float]:
    """Share of the stationary episodes of each base task that succeed; nan where there is none."""
    return _mean_per_base_task(episodes, successful(episodes, column), names)


def successful(episodes: Episodes, column: int) -> np.ndarray:
    """Which episodes succeed, bool [E]: that of the quantities which tells so is above 0 after some step."""
    return ((episodes.quantities[..., column] > 0.0) & episodes.valid).any(axis=1)


def settled_mean(episodes: Episodes, value: np.ndarray) -> np.ndarray:
    """Mean of `value` [E, T] over the second half of each episode, [E]."""
    settled = second_half(episodes)
    return np.where(settled, value, 0.0).sum(axis=1) / np.maximum(settled.sum(axis=1), 1)


def _mean_per_base_task(episodes: Episodes, value: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    steady, label = stationary(episodes), episodes.base_task[:, 0]
    members = [steady & (label == index) for index in range(len(names))]
    return {name: float(value[m].mean()) if m.any() else np.nan for name, m in zip(names, members, strict=True)}


def confusion(episodes: Episodes, step: int, component_to_task: np.ndarray, num_base_tasks: int) -> np.ndarray:
    """Share [true, inferred] of episodes after `step` transitions; rows sum to 1, nan for an absent task."""
    reached = episodes.select(episodes.length >= step)
    truth = reached.base_task[:, max(step - 1, 0)]
    inferred = component_to_task[reached.mixture_weights[:, step].argmax(axis=1)]
    counts = np.zeros((num_base_tasks, num_base_tasks))
    np.add.at(counts, (truth, inferred), 1.0)
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)


def base_task_changes(episodes: Episodes) -> list[tuple[int, int, int]]:
    """Return (episode, first step under the new base task, next change or end) for each change."""
    return _changes(episodes, episodes.base_task[..., None])


def task_changes(episodes: Episodes) -> list[tuple[int, int, int]]:
    """As `base_task_changes`, for each change of the base task, the parameter or both."""
    return _changes(episodes, np.concatenate([episodes.base_task[..., None], episodes.parameter], axis=2))


def _changes(episodes: Episodes, task: np.ndarray) -> list[tuple[int, int, int]]:
    changes: list[tuple[int, int, int]] = []
    for episode, length in enumerate(episodes.length.tolist()):
        starts = (np.flatnonzero(np.diff(task[episode, :length], axis=0).any(axis=1)) + 1).tolist()
        changes += [(episode, start, end) for start, end in pairwise([*starts, length])]
    return changes


def recovery_steps(episodes: Episodes, component_to_task: np.ndarray, hold: int = 5) -> np.ndarray:
    """Transitions under the new base task until the estimate is right `hold` times in a row, one per change.

    At least 1; nan where that does not happen before the next change or the end. The `hold` estimates begin
    with the counted one and have to lie within the segment. Changes of the parameter alone are not counted.
    """
    right = right_estimates(episodes, component_to_task)
    steps = []
    for episode, start, end in base_task_changes(episodes):
        if end - start < hold:
            steps.append(np.nan)
            continue
        held = np.lib.stride_tricks.sliding_window_view(right[episode, start + 1 : end + 1], hold).all(axis=1)
        steps.append(held.argmax() + 1.0 if held.any() else np.nan)
    return np.array(steps)


def median_steps(steps: np.ndarray) -> float:
    """Return the median of `recovery_steps`, [n]: inf if half of them or more are never, nan without any."""
    return float(np.median(np.where(np.isnan(steps), np.inf, steps))) if len(steps) else np.nan


def following_steps(episodes: Episodes, wanted: np.ndarray, hold: int = 10) -> np.ndarray:
    """Transitions under the new task before `hold` in a row whose mean reward is at least `wanted` [B] of it.

    One per change of `task_changes`; 0 where the first ones are good enough, nan where none are before the next
    change or the end.
    """
    steps = []
    for episode, start, end in task_changes(episodes):
        if end - start < hold:
            steps.append(np.nan)
            continue
        mean = np.lib.stride_tricks.sliding_window_view(episodes.reward[episode, start:end], hold).mean(axis=1)
        good = mean >= wanted[episodes.base_task[episode, start]]
        steps.append(float(good.argmax()) if good.any() else np.nan)
    return np.array(steps)


def accuracy_since_change(
    episodes: Episodes, component_to_task: np.ndarray, before: int, after: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean accuracy around a change of base task: (offset, accuracy), each [before + after + 1].

    Offset n > 0 is the estimate after n transitions of the new task, held against it; offset <= 0 belongs to
    the old task. Estimates that reach beyond the neighbouring changes are left out; nan where none remains.
    """
    right = right_estimates(episodes, component_to_task)
    offset = np.arange(-before, after + 1)
    rows = [np.full(len(offset), np.nan)]
    previous: dict[int, int] = {}
    for episode, start, end in base_task_changes(episodes):
        index = start + offset
        inside = (index > previous.get(episode, 0)) & (index <= end)
        rows.append(np.where(inside, right[episode, np.clip(index, 0, right.shape[1] - 1)], np.nan))
        previous[episode] = start
    count = np.isfinite(rows).sum(axis=0)
    return offset, np.where(count > 0, np.nansum(rows, axis=0) / np.maximum(count, 1), np.nan)


def principal_plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project `points` [N, L] onto two principal axes: (coordinates [N, 2], share of variance [2]).

    With L = 1 or N = 1 the missing coordinate is zero.
    """
    centred = points - points.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates, share = np.zeros((len(points), 2)), np.zeros(2)
    kept = min(2, len(singular))
    coordinates[:, :kept] = (left * singular)[:, :kept]
    share[:kept] = singular[:kept] ** 2 / max(float((singular**2).sum()), np.finfo(float).tiny)
    return coordinates, share
