# SPDX-License-Identifier: Apache-2.0
"""Random shifts of positions that matter to some tasks only (as in Laskin et al., arXiv 2004.14990, but of states).

Where a robot stands changes nothing about how it runs, but an actor that reads its position runs well only where it
has been: at the far end of a long run it slows down. An encoder takes one that stands where goals lie for one that has
reached its goal. On shifted copies of transitions actor and critics learn that a
position says nothing, except for tasks that are about it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.tasks import TaskSet
from tigr_core.config import SACConfig
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import Context


class RandomShift:
    """Shifts entries `sac.shifted` of both observations of a transition by the same uniformly drawn distance.

    Transitions of `sac.unshifted_tasks` stay as they are.
    """

    def __init__(self, model: TaskInferenceModel, config: SACConfig, tasks: TaskSet) -> None:
        device = model.normaliser.mean.device
        largest = torch.zeros(2, model.obs_dim, device=device)
        largest[1, list(config.shifted)] = config.shift
        self._in_units = largest[1]
        far, origin = model.normaliser.obs(largest).flip(0)
        self._largest = torch.zeros(model.policy_obs_dim, device=device)
        self._largest[: model.obs_dim] = far - origin
        self._shifted = torch.tensor([name not in config.unshifted_tasks for name in tasks.names], device=device)

    def __call__(
        self, obs: Tensor, next_obs: Tensor, base_task: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what actor and critics read, ``[B, D]`` each, shifted; `base_task` are labels ``[B]``."""
        share = self._share(base_task.shape, generator)
        distance = torch.where(self._shifted[base_task], share, 0.0).unsqueeze(-1) * self._largest
        return obs + distance, next_obs + distance

    def of_contexts(self, context: Context, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return both observations of contexts, ``[B, T, D]`` in units, each piece shifted by its own distance.

        Pieces in which an unshifted task occurs stay as they are: no robot jumps when its task changes.
        """
        share = self._share(context.base_task.shape, generator)
        stays = (~self._shifted[context.base_task]).to(share)
        share = torch.where(
            torch.zeros_like(share).scatter_reduce_(1, context.piece_start, stays, "amax") > 0, 0.0, share
        )
        distance = share.gather(1, context.piece_start).unsqueeze(-1) * self._in_units
        return context.obs + distance, context.next_obs + distance

    def _share(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, device=self._shifted.device).mul_(2.0).sub_(1.0)
