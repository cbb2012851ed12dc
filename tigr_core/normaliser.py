# SPDX-License-Identifier: Apache-2.0
"""Running mean and standard deviation of the replay data, kept in the model so that it travels with the bundle."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

CHANGES = 3  # entries of x_t with `reward_changes`: effort, change of reward, change of effort
CHANGE_GAIN, LARGEST_CHANGE = 10.0, 3.0  # of both changes
Values = TypeVar("Values", Tensor, np.ndarray)
STD_EPSILON = 1e-6  # the one floor of a standard deviation: constant entries map to zero


class Normaliser(nn.Module):
    """Normalises the parts of a transition: observation, action and reward.

    Next observations share the statistics of observations, or have their own, which come last. Statistics are float64
    and merge exactly (Chan et al. 1979), so that many small updates give the numbers of one large update.

    Args:
        reward_gain: how much larger rewards are in x_t than normalised.
        reward_floor: rewards below it are taken for it; None: none are.
        reward_changes: x_t ends with the effort, which is the mean square of the action, and with how much reward and
            effort differ from those of the transition before. A step towards a goal changes the reward by a hundredth
            of its standard deviation: an encoder would have to remember rewards that exactly, and to square actions.
    """

    count: Tensor
    mean: Tensor
    var: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        own_next_obs: bool = False,
        reward_gain: float = 1.0,
        reward_floor: float | None = None,
        reward_changes: bool = False,
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.own_next_obs = obs_dim, action_dim, own_next_obs
        self.reward_gain, self.reward_floor, self.reward_changes = reward_gain, reward_floor, reward_changes
        told_dim = 2 * obs_dim + action_dim + 1
        dim = told_dim if own_next_obs else obs_dim + action_dim + 1
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("var", torch.ones(dim, dtype=torch.float64))
        self.register_buffer("_shift", torch.zeros(told_dim), persistent=False)
        self.register_buffer("_scale", torch.ones(told_dim), persistent=False)
        self._shift: Tensor
        self._scale: Tensor
        self.register_load_state_dict_post_hook(_refresh_after_load)

    def update(self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor | None = None) -> None:
        """Merge the statistics of new transitions: obs ``[N, D]``, action ``[N, A]``, reward ``[N]``.

        Next observations ``[N, D]`` are needed where they have statistics of their own.
        """
        parts = [obs, action, self.floored(reward).unsqueeze(-1)]
        if self.own_next_obs:
            assert next_obs is not None
            parts.append(next_obs)
        data = torch.cat(parts, dim=-1).to(self.mean.device, torch.float64)
        new = float(data.shape[0])
        total = self.count + new
        delta = data.mean(dim=0) - self.mean
        self.var.copy_(
            (self.var * self.count + data.var(dim=0, correction=0) * new) / total
            + delta.square() * self.count * new / total.square()
        )
        self.mean.add_(delta * new / total)
        self.count.copy_(total)
        self.refresh()

    def refresh(self) -> None:
        """Derive the float32 shift and scale that are applied from the statistics."""
        std = self.var.sqrt().clamp_min(STD_EPSILON)
        self._shift.copy_(self._of_transition(self.mean))
        self._scale.copy_(1.0 / self._of_transition(std))
        self._scale[self.obs_dim + self.action_dim] *= self.reward_gain

    def _of_transition(self, statistics: Tensor) -> Tensor:
        """Return statistics in the order of x_t."""
        return statistics if self.own_next_obs else torch.cat([statistics, statistics[: self.obs_dim]])

    def transition(
        self,
        obs: Tensor,
        action: Tensor,
        reward: Tensor,
        next_obs: Tensor,
        *,
        before: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return x_t ``[..., X]``, the encoder's input: normalised (obs, action, reward, next_obs) and perhaps changes.

        `before` are action ``[..., A]`` and reward ``[...]`` of the transition before; None where there was none.
        """
        parts = [obs, action, self.floored(reward).unsqueeze(-1), next_obs]
        x = (torch.cat(parts, dim=-1) - self._shift) * self._scale
        return torch.cat([x, self._changes((action, reward), before)], dim=-1) if self.reward_changes else x

    def sequence(self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor) -> Tensor:
        """Return x_t of transitions ``[..., T, X]`` that follow each other, the first one none."""
        if not self.reward_changes:
            return self.transition(obs, action, reward, next_obs)
        before = (
            torch.cat([action[..., :1, :], action[..., :-1, :]], -2),
            torch.cat([reward[..., :1], reward[..., :-1]], -1),
        )
        return self.transition(obs, action, reward, next_obs, before=before)

    def _changes(self, now: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor] | None) -> Tensor:
        felt = self._felt(*now)
        change = torch.zeros_like(felt) if before is None else CHANGE_GAIN * (felt - self._felt(*before))
        return torch.cat([effort_input(felt[..., 1:]), LARGEST_CHANGE * (change / LARGEST_CHANGE).tanh()], dim=-1)

    def _felt(self, action: Tensor, reward: Tensor) -> Tensor:
        """Return normalised reward and effort, ``[..., 2]``."""
        scale = self._scale[self.obs_dim + self.action_dim] / self.reward_gain
        return torch.stack([self.floored(reward) * scale, action.square().mean(dim=-1)], dim=-1)

    def floored(self, reward: Tensor) -> Tensor:
        """Return rewards ``[...]`` of which none lies below the floor."""
        return reward if self.reward_floor is None else reward.clamp_min(self.reward_floor)

    def obs(self, obs: Tensor) -> Tensor:
        """Return the normalised observation, ``[..., D]``."""
        return (obs - self._shift[: self.obs_dim]) * self._scale[: self.obs_dim]

    def action(self, action: Tensor) -> Tensor:
        """Return the normalised action, ``[..., A]``."""
        part = slice(self.obs_dim, self.obs_dim + self.action_dim)
        return (action - self._shift[part]) * self._scale[part]

    def in_units(self, next_obs: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised next observation ``[..., D]`` and reward ``[...]``, without the gain, in their units."""
        part = slice(self.obs_dim + self.action_dim, None)
        shift, scale = self._shift[part], self._scale[part]
        return next_obs / scale[1:] + shift[1:], reward * self.reward_gain / scale[0] + shift[0]

    @property
    def shift_and_scale(self) -> tuple[Tensor, Tensor]:
        """What x_t without changes is shifted and scaled by, ``[X]`` each: they follow every update."""
        return self._shift, self._scale

    @property
    def transition_dim(self) -> int:
        """Size of x_t."""
        return len(self._shift) + self.reward_changes * CHANGES


def effort_input(effort: Values) -> Values:
    """Return how x_t tells the mean square of an action: about zero for actions drawn uniformly."""
    return 5.0 * effort - 5.0 / 3.0


def _refresh_after_load(module: nn.Module, _incompatible: Any) -> None:
    assert isinstance(module, Normaliser)
    module.refresh()
