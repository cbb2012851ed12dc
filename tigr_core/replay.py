# SPDX-License-Identifier: Apache-2.0
"""Replay of whole episodes: one observation array serves as obs and next_obs, so a transition costs D + A + 2 floats.

The inference learner samples contexts: windows, or sequences spliced from segments of several episodes. SAC reads
transitions of a `TransitionView`, whose latents are computed once an epoch and never twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.tasks import Task
from tigr_core.relabelling import Relabelled, Relabeller
from tigr_core.rollout import Episodes

LABELS = ("reward", "base_task", "parameter")
HOST = ("length", "is_validation")  # stay with the processor, which draws by them
FIELDS = ("obs", "action", "terminated", "length", "is_validation", *LABELS)
OWN = {name: f"own_{name}" for name in LABELS}  # what an episode had when it came, where it may be relabelled
LINEAR_ODDS = (0.9, 0.1)  # of the newest and the oldest episode, one over the other
_RELABEL_CHUNK = 256  # episodes at a time


@dataclass(frozen=True)
class Context:
    """Raw transitions of B contexts of T steps, and where each came from."""

    obs: Tensor  # [B, T, D]
    action: Tensor  # [B, T, A]
    reward: Tensor  # [B, T]
    next_obs: Tensor  # [B, T, D]
    base_task: Tensor  # [B, T] int64
    parameter: Tensor  # [B, T, P]
    piece_start: Tensor  # [B, T] int64, first step of the piece of an episode that a step lies in
    segment_start: Tensor  # [B, T] int64, first step of the part of the piece with the same task
    segment_end: Tensor  # [B, T] int64, one past its last step


class ReplayBuffer:
    """A ring of whole episodes of at most `episode_steps` transitions; memory grows with what is stored.

    Each episode belongs to the training or the validation part for good (`validation_share`). With `relabelled`, the
    buffer also keeps what `relabel` needs. Episodes are drawn evenly, or with `linear` by their age.
    """

    def __init__(
        self,
        capacity: int,
        episode_steps: int,
        *,
        validation_share: float = 0.2,
        relabelled: bool = False,
        linear: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_episodes = max(1, capacity // episode_steps)
        self.episode_steps, self.validation_share, self.device = (
            episode_steps,
            validation_share,
            torch.device(device),
        )
        self.relabelled, self.linear = relabelled, linear
        self.num_episodes, self.next_slot, self.num_added = 0, 0, 0
        self._store: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> Tensor:
        """Stored fields as tensors ``[num_episodes, ...]``."""
        if name in self.__dict__.get("_store", {}):
            return self._store[name][: self.num_episodes]
        raise AttributeError(name)

    def _device_of(self, name: str) -> torch.device:
        return torch.device("cpu") if name in HOST else self.device

    @property
    def num_transitions(self) -> int:
        """Valid transitions stored."""
        return int(self.length.sum()) if self.num_episodes else 0

    @property
    def num_bytes(self) -> int:
        """Memory allocated."""
        return sum(t.numel() * t.element_size() for t in self._store.values())

    def add(self, episodes: Episodes, rng: np.random.Generator) -> None:
        """Append episodes, overwriting the oldest ones when full."""
        new = {name: torch.as_tensor(getattr(episodes, name)) for name in FIELDS if name != "is_validation"}
        new["base_task"] = new["base_task"].to(torch.int16)
        if self.relabelled:
            new |= {own: new[name] for name, own in OWN.items()}
            new["quantities"] = torch.as_tensor(episodes.quantities)
        new["length"] = new["length"].to(torch.int32)
        self._append(new, rng)

    def add_from(
        self, other: ReplayBuffer, count: int, labels: np.ndarray, relabeller: Relabeller, rng: np.random.Generator
    ) -> None:
        """Append the last `count` episodes of another buffer as they came; `labels` are what its labels are here.

        Those whose label is -1 here come as what they are best at. Episodes must be as long as here, and of a buffer
        with `relabelled` where this one is.
        """
        slots = torch.arange(other.next_slot - count, other.next_slot) % other.num_episodes
        own = OWN if other.relabelled else {}
        names = [name for name in FIELDS if name != "is_validation"]
        new = {name: other._store[own.get(name, name)][slots].cpu() for name in names}
        new["base_task"] = torch.as_tensor(labels, dtype=torch.int16)[new["base_task"].long()]
        if len(strange := (new["base_task"] < 0).any(dim=1).nonzero().squeeze(1)):
            self._give(new, strange, relabeller.best_tasks(*self._behaviour(other, slots[strange]), rng))
            known = (new["base_task"] >= 0).all(dim=1)  # or too far from every task
            slots, new = slots[known], {name: value[known] for name, value in new.items()}
        if self.relabelled:
            new |= {own_name: new[name] for name, own_name in OWN.items()}
            new["quantities"] = other._store["quantities"][slots].cpu()
        self._append(new, rng)

    def _append(self, new: dict[str, Tensor], rng: np.random.Generator) -> None:
        count = len(new["length"])
        new["is_validation"] = self._draw_validation(count, rng)
        self._reserve(new, min(self.max_episodes, self.num_episodes + count))
        kept = min(count, self.max_episodes)
        slots = (torch.arange(kept) + self.next_slot) % self.max_episodes
        for name, value in new.items():
            self._store[name][slots] = value[-kept:].to(self._device_of(name))
        self.next_slot = int((self.next_slot + kept) % self.max_episodes)
        self.num_episodes = min(self.max_episodes, self.num_episodes + kept)
        self.num_added += count

    def _draw_validation(self, count: int, rng: np.random.Generator) -> Tensor:
        """Mark a share of `count` episodes as validation; of the very first ones at least one on each side."""
        marks = rng.random(count) < self.validation_share
        if self.num_added == 0 and count > 1:
            marks[0], marks[1] = False, True
        return torch.from_numpy(marks)

    def _reserve(self, like: dict[str, Tensor], episodes: int) -> None:
        allocated = next(iter(self._store.values())).shape[0] if self._store else 0
        if episodes <= allocated:
            return
        size = min(self.max_episodes, max(episodes, int(1.5 * allocated)))
        for name, value in like.items():
            grown = torch.zeros((size, *value.shape[1:]), dtype=value.dtype, device=self._device_of(name))
            if name in self._store:
                grown[:allocated] = self._store[name]
            self._store[name] = grown

    def relabel(self, relabeller: Relabeller, count: int, share: float, rng: np.random.Generator) -> None:
        """Draw `count` episodes; give each another task with probability `share`, else the one it came with.

        Episodes that went too far from their own task's target are drawn first, and always given another one.
        """
        too_far = self._too_far(relabeller.worst_reward)
        chosen = rng.permutation(self.num_episodes)
        chosen = rng.permutation(np.concatenate([chosen[too_far[chosen]], chosen[~too_far[chosen]]])[:count])
        for slots in np.array_split(chosen, -(-len(chosen) // _RELABEL_CHUNK)):
            for name, own in OWN.items():
                self._store[name][slots] = self._store[own][slots]
            slots = slots[(rng.random(len(slots)) < share) | too_far[slots]]
            came_with = self._store[OWN["base_task"]][slots, 0].cpu().numpy()
            behaviour = self._behaviour(self, slots)
            self._give(self._store, slots, relabeller(*behaviour, came_with, rng, whole=too_far[slots]))

    @staticmethod
    def _behaviour(buffer: ReplayBuffer, slots: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return quantities, action and which steps are valid, of episodes of a buffer."""
        names = ("quantities", "action", "length")
        quantities, action, length = (buffer._store[name][slots].cpu().numpy() for name in names)
        return quantities, action, np.arange(buffer.episode_steps) < length[:, None]

    @staticmethod
    def _give(fields: dict[str, Tensor], slots: Any, new: Relabelled) -> None:
        """Write tasks and rewards of episodes into fields, each from its beginning, but none that must not be given."""
        use = new.fit > -np.inf
        for name in LABELS:
            stored, value = fields[name], torch.from_numpy(getattr(new, name)[use])
            old = stored[slots[use]]
            begun = torch.arange(old.shape[1]) >= torch.from_numpy(new.begin[use]).unsqueeze(1)
            # One label for an episode holds at each of its steps.
            per_step = (value if name == "reward" else value.unsqueeze(1)).to(old)
            stored[slots[use]] = torch.where(
                begun.to(old.device).view(*begun.shape, *[1] * (old.dim() - 2)), per_step, old
            )

    def recent_returns(self, episodes: int, num_tasks: int) -> np.ndarray:
        """Return the mean return of the last `episodes` episodes of each base task they began with; nan where none."""
        returns, label, _ = self._last_as_they_came(min(episodes, self.num_episodes))
        return np.array([returns[label == k].mean() if (label == k).any() else np.nan for k in range(num_tasks)])

    def returns_of(self, tasks: Sequence[Task]) -> list[np.ndarray]:
        """Return the returns of the episodes that came with each task, the oldest first."""
        returns, label, parameter = self._last_as_they_came(self.num_episodes)
        found = []
        for task in tasks:
            wanted = np.pad(np.array(task.parameter, np.float32), (0, parameter.shape[1] - len(task.parameter)))
            found.append(returns[(label == task.index) & (parameter == wanted).all(axis=1)])
        return found

    def _last_as_they_came(self, episodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return return ``[n]``, base task ``[n]`` and parameter ``[n, P]`` of the last episodes, the oldest first.

        Those whose task changed are left out.
        """
        slots = torch.arange(self.next_slot - episodes, self.next_slot) % self.num_episodes
        reward, label, parameter = (self._store[OWN[n] if self.relabelled else n][slots].cpu() for n in LABELS)
        valid = torch.arange(self.episode_steps) < self.length[slots].unsqueeze(1)
        same = (label == label[:, :1]) & (parameter == parameter[:, :1]).all(dim=2)
        one = (same | ~valid).all(dim=1)
        returns = torch.where(valid, reward, 0.0).sum(dim=1)
        return returns[one].numpy(), label[one, 0].numpy(), parameter[one, 0].numpy()

    def _too_far(self, worst_reward: float) -> np.ndarray:
        """Return which episodes have rewards of their own below `worst_reward`, ``[num_episodes]``."""
        own = self._store[OWN["reward"]][: self.num_episodes]
        valid = torch.arange(self.episode_steps, device=self.device) < self.length.to(self.device).unsqueeze(1)
        return ((own < worst_reward) & valid).any(dim=1).cpu().numpy()

    def episode_pool(self, *, validation: bool) -> np.ndarray:
        """Return the slots of the training or validation episodes; all of them where that part is still empty."""
        pool = np.flatnonzero(self.is_validation.numpy() == validation)
        return pool if len(pool) else np.arange(self.num_episodes)

    def draw_episodes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw up to `count` episodes: their slots, none twice, or with `linear` the newer the more often."""
        if not self.linear:
            return rng.permutation(self.num_episodes)[:count]
        slots = np.arange(self.num_episodes)
        return rng.choice(slots, size=min(count, len(slots)), p=self._odds(slots))

    def _odds(self, slots: np.ndarray) -> np.ndarray | None:
        """Return how likely each of `slots` is to be drawn; None: all are equal."""
        if not self.linear:
            return None
        age = (self.next_slot - 1 - slots) % self.num_episodes
        odds = np.interp(age, [0, max(self.num_episodes - 1, 1)], LINEAR_ODDS)
        return odds / odds.sum()

    def draw_windows(
        self, batch: int, window: int, rng: np.random.Generator, *, validation: bool = False
    ) -> tuple[Tensor, ...]:
        """Draw the `window` transitions before random times; at least one of every window is real.

        Returns:
            the places that `context` reads, and a mask of those inside the episode, ``[B, W]`` each, on the device.
        """
        pool = self.episode_pool(validation=validation)
        episode = rng.choice(pool, size=batch, p=self._odds(pool))
        length = self.length.numpy()[episode]
        end = 1 + (rng.random(batch) * length).astype(np.int64)
        step = end[:, None] - window + np.arange(window)[None, :]
        mask = step >= 0
        first = np.broadcast_to((window - np.minimum(end, window))[:, None], step.shape)
        places = (np.broadcast_to(episode[:, None], step.shape), step.clip(0), first, mask)
        return tuple(sent(values, self.device) for values in places)

    def draw_sequences(
        self,
        batch: int,
        steps: int,
        segment_length: int,
        rng: np.random.Generator,
        *,
        validation: bool = False,
    ) -> tuple[Tensor, ...]:
        """Draw sequences spliced from pieces of random episodes, so that the task changes on the way.

        The first piece starts where an episode starts; the number of steps to the next splice is geometric with mean
        `segment_length`.

        Returns:
            the places that `context` reads, ``[B, T]`` each, on the device.
        """
        pool, length = self.episode_pool(validation=validation), self.length.numpy()
        odds, (source, take) = self._odds(pool), np.empty((2, batch, 0), dtype=np.int64)
        while (take.sum(axis=1) < steps).any():
            more = (batch, 2 + 2 * steps // segment_length)
            drawn = rng.choice(pool, size=more, p=odds)
            source = np.hstack([source, drawn])
            take = np.hstack([take, np.minimum(rng.geometric(1.0 / segment_length, size=more), length[drawn])])
        end = take.cumsum(axis=1).clip(max=steps)
        begin = np.hstack([np.zeros_like(end[:, :1]), end[:, :-1]])
        offset = rng.integers(0, length[source] - (end - begin) + 1)
        offset[:, 0] = 0
        now = np.arange(steps)
        piece = (now[:, None] >= end[:, None, :]).sum(axis=2)  # [B, T], the number of each step's piece
        episode, start, first = (np.take_along_axis(values, piece, axis=1) for values in (source, begin, offset))
        return tuple(sent(values, self.device) for values in (episode, first + now - start, start))

    def context(self, episode: Tensor, step: Tensor, piece_start: Tensor) -> Context:
        """Return the transitions at places: episodes, steps of these, and where the pieces begin, ``[B, T]`` each."""
        at = (episode, step)
        base_task, parameter = self.base_task[at].long(), self.parameter[at]
        task = torch.cat([base_task.unsqueeze(2).to(parameter), parameter], dim=2)
        segment_start, segment_end = _segments(piece_start, task)
        return Context(
            obs=self.obs[at],
            action=self.action[at],
            reward=self.reward[at],
            next_obs=self.obs[episode, step + 1],
            base_task=base_task,
            parameter=parameter,
            piece_start=piece_start,
            segment_start=segment_start,
            segment_end=segment_end,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the content for a checkpoint."""
        stored = {name: value[: self.num_episodes].clone() for name, value in self._store.items()}
        return {"store": stored, "next_slot": self.next_slot, "num_added": self.num_added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the content of a checkpoint."""
        self._store = {name: value.to(self._device_of(name)) for name, value in state["store"].items()}
        self.num_episodes = self._store["length"].shape[0] if self._store else 0
        self.next_slot, self.num_added = int(state["next_slot"]), int(state["num_added"])


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on a device. The processor does not wait for a GPU to take it."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _segments(piece_start: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
    """Return `segment_start` and `segment_end` of contexts whose tasks are ``[B, T, P + 1]``."""
    steps = task.shape[1]
    now = torch.arange(steps, device=task.device).expand(len(task), -1)
    begins = (task[:, 1:] != task[:, :-1]).any(dim=2)
    changed = torch.nn.functional.pad(torch.where(begins, now[:, 1:], 0), (1, 0)).cummax(dim=1).values
    start = torch.maximum(piece_start, changed)
    last = torch.nn.functional.pad(start[:, 1:] != start[:, :-1], (0, 1), value=True)
    end = torch.where(last, now + 1, steps).flip(1).cummin(dim=1).values.flip(1)
    return start, end
