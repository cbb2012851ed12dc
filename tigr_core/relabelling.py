# SPDX-License-Identifier: Apache-2.0
"""Old episodes as episodes of other tasks.

Training knows the reward of every task and the replay buffer the quantities that rewards are about, so that an episode
can be read as one of another task: its rewards are computed anew (as in Andrychowicz et al., arXiv 1707.01495,
and Li et al., arXiv 2002.11708, for whole episodes). The encoder then cannot tell a task by how the policy behaves in
it, and whatever the robot happened to do teaches the policy every task it resembles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from envs.task_batch import TaskBatch
from envs.tasks import TaskSet


class Relabelled(NamedTuple):
    """E episodes under other tasks."""

    reward: np.ndarray  # [E, T] float32
    base_task: np.ndarray  # [E]
    parameter: np.ndarray  # [E, P]
    fit: np.ndarray  # [E], mean reward but for control costs; -inf where the task must not be given
    begin: np.ndarray  # [E], step from which on it is the task; before, it is the one that the episode came with


class _Behaviour(NamedTuple):
    """What E episodes did, whatever the task."""

    quantities: np.ndarray  # [E, T, Q]
    action: np.ndarray  # [E, T, A]
    valid: np.ndarray  # [E, T]

    def only(self, which: np.ndarray) -> _Behaviour:
        return _Behaviour(self.quantities[which], self.action[which], self.valid[which])


class Relabeller:
    """Draws a task for each episode: for every other one by chance, for the others what they are good examples of.

    The first half shows the encoder what it looks like when a robot does not do its task. A `same_share` of all keep
    their base task and get another parameter by chance: a robot that stands, runs or waits as well as it can then says
    nothing of the parameter any more, and the encoder has to read it off the rewards. The others are given the best
    of several parameters: of a base task drawn by chance, or, with `best_task`, of the base task in which the episode
    ranks highest among all that are relabelled, so that what is done seldom is not lost among what is done often. A
    task is not given where some reward would lie below `worst_reward`: that far from a target there is nothing to learn
    about it, and such rewards would drown all others.
    """

    def __init__(
        self,
        task_set: TaskSet,
        quantity_dims: Mapping[str, int],
        *,
        worst_reward: float,
        candidates: int,
        best_task: bool = False,
        same_share: float = 0.0,
        change_share: float = 0.0,
    ) -> None:
        self.task_set, self.quantity_dims = task_set, quantity_dims
        self.worst_reward, self.candidates, self.best_task = worst_reward, candidates, best_task
        self.same_share, self.change_share = same_share, change_share
        self.base_task_shares = np.full(len(task_set), 1.0 / len(task_set))  # of the tasks given by chance

    def __call__(
        self,
        quantities: np.ndarray,
        action: np.ndarray,
        valid: np.ndarray,
        own: np.ndarray,
        rng: np.random.Generator,
        *,
        whole: np.ndarray | bool = False,
    ) -> Relabelled:
        """Draw a task for each of E episodes.

        Quantities ``[E, T, Q]``, action ``[E, T, A]``, valid ``[E, T]``, and the base task ``[E]`` it came with;
        `whole` ``[E]`` are those of which nothing may stay what it was.
        """
        count, steps = len(valid), valid.shape[1]
        base_tasks = rng.choice(len(self.task_set), size=count, p=self.base_task_shares)
        changing = _draw_share(self.change_share, count, rng) & ~np.asarray(whole)
        same = _draw_share(self.same_share, count, rng) & ~changing
        base_tasks[same] = own[same]
        begin = np.zeros(count, dtype=np.int64)
        if changing.any():
            begin[changing] = rng.integers(1, steps + 1, size=int(changing.sum()))
        behaviour = _Behaviour(quantities, action, valid & (np.arange(steps) >= begin[:, None]))
        drawn = self._draw(base_tasks, behaviour, rng)
        chosen = np.flatnonzero(_draw_share(0.5, count, rng) & ~same & ~changing)
        if len(chosen) and self.candidates > 1:
            good = behaviour.only(chosen)
            best = self._best_task(good, rng) if self.best_task else self._best_of(base_tasks[chosen], good, rng)
            for kept, new in zip(drawn, best, strict=True):
                kept[chosen] = new
        drawn.begin[:] = begin
        return drawn

    def best_tasks(
        self, quantities: np.ndarray, action: np.ndarray, valid: np.ndarray, rng: np.random.Generator
    ) -> Relabelled:
        """Return the task that each of E episodes does best; arguments as of a call."""
        behaviour = _Behaviour(quantities, action, valid)
        found = [self._best_of(np.full(len(valid), label), behaviour, rng) for label in range(len(self.task_set))]
        for other in found[1:]:
            _take(found[0], other, other.fit > found[0].fit)
        return found[0]

    def _best_task(self, behaviour: _Behaviour, rng: np.random.Generator) -> Relabelled:
        count, found = len(behaviour.valid), list[Relabelled]()
        ranks = np.empty((len(self.task_set), count))
        for label, rank in enumerate(ranks):
            found.append(self._best_of(np.full(count, label), behaviour, rng))
            rank[np.lexsort((rng.random(count), found[-1].fit))] = np.arange(count)
            rank[found[-1].fit == -np.inf] = -np.inf
        best = found[0]
        for label, chosen in enumerate(ranks.argmax(axis=0) == np.arange(len(ranks))[:, None]):
            _take(best, found[label], chosen)
        return best

    def _best_of(self, base_tasks: np.ndarray, behaviour: _Behaviour, rng: np.random.Generator) -> Relabelled:
        """Return the best of several parameters of each episode's base task."""
        best = self._draw(base_tasks, behaviour, rng)
        for _ in range(self.candidates - 1):
            other = self._draw(base_tasks, behaviour, rng)
            _take(best, other, other.fit > best.fit)
        return best

    def _draw(self, base_tasks: np.ndarray, behaviour: _Behaviour, rng: np.random.Generator) -> Relabelled:
        quantities, action, valid = behaviour
        batch = TaskBatch(self.task_set, self.quantity_dims, len(quantities))
        for member, label in enumerate(base_tasks.tolist()):
            batch.assign(member, self.task_set.sample_parameter(label, rng))
        # Members come last but one in a TaskBatch: time steps first.
        tracking = batch.track(quantities.swapaxes(0, 1)).reward.T
        reward = tracking + batch.control_reward(action.swapaxes(0, 1)).T
        too_far = ((reward < self.worst_reward) & valid).any(axis=1)
        fit = np.where(valid, tracking, 0.0).sum(axis=1) / valid.sum(axis=1).clip(1)
        fit[too_far] = -np.inf
        begin = np.zeros(len(fit), dtype=np.int64)
        return Relabelled(reward.astype(np.float32), batch.label, batch.parameter, fit, begin)


def _draw_share(share: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mask ``[count]`` of a random share."""
    return rng.random(count) < share if share > 0.0 else np.zeros(count, dtype=bool)


def _take(into: Relabelled, new: Relabelled, where: np.ndarray) -> None:
    for kept, value in zip(into, new, strict=True):
        kept[where] = value[where]
