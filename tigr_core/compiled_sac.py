# SPDX-License-Identifier: Apache-2.0
"""SAC's losses with their gradients in C++ (`kernels/sac.hpp`): the fast mode on a CPU without bfloat16.

What `SACLearner.critic_loss` and `actor_loss` say, from the draw of actions to the gradients of weights, in one call
each. Transitions whose gradient is zero, as half are of the smaller of two values, are left out. Nothing is compiled at
the first step, for which PyTorch takes twenty seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tigr_core import kernels
from tigr_core.actor_critic import LOG_STD_RANGE, TwinCritic

if TYPE_CHECKING:
    from tigr_core.sac_learner import SACLearner, TransitionBatch

Found = tuple[Tensor, Tensor, tuple[Tensor, ...]]  # a loss, what else it tells, and its gradients


class CompiledSAC:
    """The losses of a learner and their gradients."""

    def __init__(self, learner: SACLearner) -> None:
        self._functions = kernels.load()
        self._learner = learner
        self._actor = _parts(layer for layer in learner.actor.net if isinstance(layer, nn.Linear))
        self._critics, self._targets = _of_critics(learner.critic), _of_critics(learner.target_critic)

    @torch.no_grad()
    def critic_gradients(self, batch: TransitionBatch, noise: Tensor) -> Found:
        """Return the critics' loss, their values ``[2, B]``, and the gradients of their parameters."""
        results = self._functions.sac_critic_gradients(
            [batch.obs, batch.critic_latent],
            batch.action,
            [batch.next_obs, batch.next_latent],
            [batch.next_obs, batch.next_critic_latent],
            batch.reward.contiguous(),
            batch.terminated.contiguous(),
            noise,
            self._learner.log_temperature,
            self._learner.config.discount,
            *LOG_STD_RANGE,
            self._actor,
            *self._targets,
            *self._critics,
        )
        return _found(results, len(self._critics[0]) // 2)

    @torch.no_grad()
    def actor_gradients(self, batch: TransitionBatch, noise: Tensor) -> Found:
        """Return the actor's loss, the log-probabilities ``[B]``, and the gradients of its parameters."""
        results = self._functions.sac_actor_gradients(
            [batch.obs, batch.latent],
            [batch.obs, batch.critic_latent],
            batch.taught,
            self._learner.teacher_weight,
            noise,
            self._learner.log_temperature,
            *LOG_STD_RANGE,
            self._actor,
            *self._critics,
        )
        return _found(results, len(self._actor) // 2)


def _of_critics(critics: TwinCritic) -> tuple[list[Tensor], list[Tensor]]:
    return _parts(critics.layers), _parts(critics.norms or ())


def _parts(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the weights and then the biases of layers or norms."""
    modules = list(modules)
    return [getattr(module, name) for name in ("weight", "bias") for module in modules]


def _found(results: Sequence[Tensor], layers: int) -> Found:
    """Return gradients in the order of a module's parameters: weight and bias of each layer, then of each norm."""
    loss, told, *gradients = results
    weights, biases, rest = gradients[:layers], gradients[layers : 2 * layers], gradients[2 * layers :]
    scales, shifts = rest[: layers - 1], rest[layers - 1 :]
    pairs = [*zip(weights, biases, strict=True), *zip(scales, shifts, strict=True)]
    return loss, told, tuple(part for pair in pairs for part in pair)
