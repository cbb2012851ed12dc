# SPDX-License-Identifier: Apache-2.0
"""A step of SAC in C++ (`kernels/sac.hpp`): the fast mode on a CPU without bfloat16.

What `SACLearner` says of a step is one call, from the draw of actions to the optimisers and the target critics: between
two of PyTorch's operations only one of the cores is busy. The actor is asked once for next and present states, and
transitions whose gradient is zero, as half are of the smaller of two values, are left out. Nothing is compiled at the
first step, for which PyTorch takes twenty seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tigr_core import kernels
from tigr_core.actor_critic import LOG_STD_RANGE
from tigr_core.adam import Adam

if TYPE_CHECKING:
    from tigr_core.sac_learner import SACLearner, TransitionBatch

METRICS = ("critic_loss", "q_mean", "actor_loss", "entropy", "temperature")


class CompiledSAC:
    """Takes the steps of a learner."""

    def __init__(self, learner: SACLearner) -> None:
        self._functions = kernels.load()
        self._learner = learner
        networks = learner.critic, learner.target_critic, learner.actor
        self._critics, self._targets, self._actor = ([*network.parameters()] for network in networks)

    @torch.no_grad()
    def step(self, batch: TransitionBatch) -> dict[str, float]:
        """As `SACLearner.update` without groups of PCGrad; the learner counts the step.

        Parameters change without PyTorch's notice: no graph of its own may hold them across a step.
        """
        learner, config = self._learner, self._learner.config
        optimisers = learner.critic_optimiser, learner.actor_optimiser, learner.temperature_optimiser
        groups = [optimiser.param_groups[0] for optimiser in optimisers]
        transitions = [
            batch.obs, batch.latent, batch.critic_latent, batch.action, batch.reward, batch.terminated,
            batch.next_obs, batch.next_latent, batch.next_critic_latent,
        ]  # fmt: skip
        metrics = self._functions.sac_step(
            transitions,
            batch.taught,
            learner.teacher_weight,
            [learner.noise_for(batch) for _ in range(1 + learner.actor_learns)],
            config.discount,
            config.target_rate,
            LOG_STD_RANGE,
            [group["lr"] for group in groups],
            [*groups[0]["betas"], groups[0]["eps"]],
            self._critics,
            _state(learner.critic_optimiser),
            self._targets,
            learner.critic.norms is not None,
            self._actor,
            _state(learner.actor_optimiser),
            learner.log_temperature,
            _state(learner.temperature_optimiser) if config.learn_temperature else [],
            learner.target_entropy,
            learner.least_log_temperature,
        )
        return dict(zip(METRICS, metrics, strict=False))  # the actor's only where it learns


def _state(optimiser: Adam) -> list[Tensor]:
    """Return the means, the means of squares and the numbers of steps of an optimiser's parameters."""
    _, means, squares, steps = optimiser.parts()
    return [*means, *squares, *steps]
