# SPDX-License-Identifier: Apache-2.0
"""PEARL (Rakelly et al., arXiv 1903.08254) on the same environments, policy networks and epoch loop.

Its encoder learns through the critics: there is no decoder, no base task and no code that a task is told by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from tigr_core.adam import Adam
from tigr_core.config import SACConfig
from tigr_core.fast import gradients_of
from tigr_core.metric_means import Metrics
from tigr_core.model import TaskInferenceModel
from tigr_core.pearl_encoder import PearlEncoder
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import ControlRefund, SACLearner, TransitionBatch
from tigr_core.teachers import Teachers


@dataclass(frozen=True)
class PearlBatch:
    """Transitions of G tasks, n of each, and a set of C other transitions of each task to infer it from."""

    transitions: TransitionBatch  # B = G n, task by task; latents are still empty
    context: Tensor  # [G, C, X], normalised


class PearlView:
    """Draws batches for PEARL; offers what a `TransitionView` offers."""

    CONTEXT = 64  # transitions, as many as a `window` sees
    PER_TASK = 32

    def __init__(
        self,
        model: TaskInferenceModel,
        replay: ReplayBuffer,
        rng: np.random.Generator,
        *,
        refund: ControlRefund | None = None,
        teachers: Teachers | None = None,
    ) -> None:
        self.model, self.replay, self.rng, self.refund, self.teachers = model, replay, rng, refund, teachers
        task = torch.cat([replay.base_task[:, :1].float(), replay.parameter[:, 0]], dim=1)
        _, number = torch.unique(task, dim=0, return_inverse=True)
        self._episodes = [torch.nonzero(number == n).squeeze(1).cpu().numpy() for n in range(int(number.max()) + 1)]

    def sample(self, batch: int, generator: torch.Generator) -> PearlBatch:
        """Draw `batch` transitions of `batch` / 32 tasks, and their contexts."""
        tasks = self.rng.integers(len(self._episodes), size=max(1, batch // self.PER_TASK))
        obs, action, reward, next_obs, terminated, base_task, parameter = self._draw(tasks, self.PER_TASK)
        if self.refund is not None:
            reward = reward + self.refund(base_task, action)
        taught = None
        if self.teachers is not None:
            taught = self.teachers(obs.flatten(0, 1), base_task.flatten().long(), parameter.flatten(0, 1))
        normaliser, empty = self.model.normaliser, action.new_zeros((0,))
        transitions = TransitionBatch(
            obs=self.model.policy_obs(obs).flatten(0, 1),
            latent=empty,
            critic_latent=empty,
            action=action.flatten(0, 1),
            reward=reward.flatten(),
            terminated=terminated.flatten(),
            next_obs=self.model.policy_obs(next_obs).flatten(0, 1),
            next_latent=empty,
            next_critic_latent=empty,
            taught=taught,
        )
        context = self._draw(tasks, self.CONTEXT)
        return PearlBatch(transitions, normaliser.transition(*context[:4]))

    def _draw(self, tasks: np.ndarray, count: int) -> tuple[Tensor, ...]:
        """Draw obs, action, reward, next_obs, terminated, base_task, parameter ``[G, count, ...]`` of tasks."""
        replay, device = self.replay, self.replay.device
        episode = np.stack([self.rng.choice(self._episodes[task], size=count) for task in tasks])
        step = (self.rng.random(episode.shape) * replay.length.numpy()[episode]).astype(np.int64)
        e, t = (torch.from_numpy(a).to(device) for a in (episode, step))
        return (
            replay.obs[e, t],
            replay.action[e, t],
            self.model.normaliser.floored(replay.reward[e, t]),
            replay.obs[e, t + 1],
            replay.terminated[e, t].float(),
            replay.base_task[e, t],
            replay.parameter[e, t],
        )


class PearlLearner(SACLearner):
    """SAC whose critics' loss also trains the encoder; the actor reads z without a gradient (PEARL, algorithm 1)."""

    KL_WEIGHT = 0.1

    def __init__(self, model: TaskInferenceModel, config: SACConfig, *, generator: torch.Generator) -> None:
        super().__init__(model, config, generator=generator)
        self.encoder = cast(PearlEncoder, model.encoder)
        self._kl = torch.zeros(())  # of the batch's posteriors to the prior
        learned = [*self.critic.parameters(), *self.encoder.parameters()]
        self.critic_optimiser = Adam(learned, lr=config.critic_learning_rate)
        self._critic_gradients = gradients_of(self.critic_loss, learned)

    def step(self, batch: PearlBatch) -> Metrics:  # type: ignore[override]
        """Do one step of encoder and critics and, every `actor_every` steps, actor."""
        posterior = self.encoder.encode_sets(batch.context)
        noise = torch.randn(posterior.mean.shape, generator=self.generator, device=posterior.mean.device)
        per_task = len(batch.transitions.obs) // len(batch.context)
        latent = posterior.sample(noise).repeat_interleave(per_task, dim=0)
        self._kl = posterior.kl_to_prior().mean()
        told = replace(batch.transitions, critic_latent=latent, next_critic_latent=latent.detach())
        return super().step(replace(told, latent=latent.detach(), next_latent=latent.detach()))

    def critic_loss(self, batch: TransitionBatch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of critics and encoder, whose gradient comes through z, and values ``[2, B]``."""
        loss, value = super().critic_loss(batch, noise)
        return loss + self.KL_WEIGHT * self._kl, value

    def _actor_step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        return super()._actor_step(replace(batch, critic_latent=batch.latent))
