# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic on (observation, inferred latent) (Haarnoja et al., arXiv 1812.05905).

    y      = r + discount (1 - terminated) (min_i Q'_i(s', z', a') - temperature log pi(a'|s', z'))
    critic = sum_i mean (Q_i(s, z, a) - y)^2,     actor = mean (temperature log pi(a|s, z) - min_i Q_i(s, z, a))

z' is the estimate after the transition, not a copy of z. Latents arrive detached: control never shapes inference.
With `critic_sees_task` the critics read the task's `TaskCode` instead of z and z' (an asymmetric critic, Pinto et al.,
arXiv 1710.06542): what they learn holds still while the encoder learns. On `told_share` of the transitions the actor,
too, reads the code, which is where z is pulled to: it learns what to do before inference can tell it when. On the robot
there are no critics and no codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tigr_core.actor_critic import TwinCritic
from tigr_core.config import SACConfig
from tigr_core.fast import compiled_with_bfloat16
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.stop import AskStop, give_way, never
from tigr_core.task_code import TaskCode


@dataclass(frozen=True)
class TransitionBatch:
    """B transitions, observations normalised."""

    obs: Tensor  # [B, D]
    latent: Tensor  # [B, L], read by the actor
    critic_latent: Tensor  # [B, L], read by the critics
    action: Tensor  # [B, A]
    reward: Tensor  # [B]
    terminated: Tensor  # [B] float32
    next_obs: Tensor  # [B, D]
    next_latent: Tensor  # [B, L]
    next_critic_latent: Tensor  # [B, L]


EPISODES_ENCODED_AT_ONCE = {"stream": 128, "window": 8}  # by context: half a second of one core or less


class TransitionView:
    """Transitions of chosen replay episodes with their latents, encoded once with the current encoder.

    Encoding takes long: raises `Interrupted` when told to stop meanwhile.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: TaskInferenceModel,
        replay: ReplayBuffer,
        episodes: Tensor,
        *,
        task_code: TaskCode | None = None,
        critic_sees_task: bool = False,
        told_share: float = 0.0,
        chunk: int | None = None,
        stop: AskStop = never,
    ) -> None:
        obs, action, reward = replay.obs[episodes], replay.action[episodes], replay.reward[episodes]
        code = [] if task_code is None else [task_code(replay.base_task[episodes].long(), replay.parameter[episodes])]
        latent = _inferred(model, obs, action, reward, chunk or EPISODES_ENCODED_AT_ONCE[model.config.context], stop)
        steps = reward.shape[1]
        self.state = torch.cat([model.normaliser.obs(obs), latent], dim=-1).flatten(0, 1)  # [E (T+1), D + L]
        self.outcome = torch.cat(
            [action, reward.unsqueeze(-1), replay.terminated[episodes].unsqueeze(-1), *code], dim=-1
        ).flatten(0, 1)  # [E T, A + 2 (+ L)]
        valid = torch.arange(steps, device=reward.device) < replay.length[episodes].unsqueeze(1)
        self.valid = valid.flatten().nonzero().squeeze(1)
        self.critic_sees_task, self.told_share = critic_sees_task, told_share
        self.steps, self.sizes = steps, (model.obs_dim, model.config.latent_dim)
        self.outcome_sizes = (model.action_dim, 1, 1, self.outcome.shape[1] - model.action_dim - 2)

    def sample(self, batch: int, generator: torch.Generator) -> TransitionBatch:
        """Draw transitions uniformly."""
        pick = torch.randint(self.valid.shape[0], (batch,), generator=generator, device=self.valid.device)
        index = self.valid[pick]
        before = index + index // self.steps  # episodes hold one more state than outcomes
        obs, latent = self.state[before].split(self.sizes, dim=1)
        next_obs, next_latent = self.state[before + 1].split(self.sizes, dim=1)
        action, reward, terminated, code = self.outcome[index].split(self.outcome_sizes, dim=1)
        if self.told_share > 0.0:
            told = torch.rand((batch, 1), generator=generator, device=code.device) < self.told_share
            latent, next_latent = torch.where(told, code, latent), torch.where(told, code, next_latent)
        return TransitionBatch(
            obs=obs,
            latent=latent,
            critic_latent=code if self.critic_sees_task else latent,
            action=action,
            reward=reward.squeeze(1),
            terminated=terminated.squeeze(1),
            next_obs=next_obs,
            next_latent=next_latent,
            next_critic_latent=code if self.critic_sees_task else next_latent,
        )


def _inferred(
    model: TaskInferenceModel, obs: Tensor, action: Tensor, reward: Tensor, chunk: int, stop: AskStop
) -> Tensor:
    """Return z along episodes, ``[E, T + 1, L]``."""
    latent = []
    for o, a, r in zip(obs.split(chunk), action.split(chunk), reward.split(chunk), strict=True):
        give_way(stop)
        transition = model.normaliser.transition(o[:, :-1], a, r, o[:, 1:])
        latent.append(model.encoder.encode_episodes(transition).latent)
    return torch.cat(latent)


class SACLearner:
    """Owns critics, target critics, temperature and their optimisers; trains the model's actor."""

    def __init__(
        self, model: TaskInferenceModel, config: SACConfig, *, generator: torch.Generator, fast: bool = False
    ) -> None:
        self.actor, self.config, self.generator = model.actor, config, generator
        device = model.normaliser.mean.device
        sizes = (model.obs_dim, model.config.latent_dim, model.action_dim, model.config.policy_hidden)
        self.critic = TwinCritic(*sizes, layer_norm=model.config.critic_layer_norm).to(device)
        self.target_critic = TwinCritic(*sizes, layer_norm=model.config.critic_layer_norm).to(device)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.log_temperature = (
            torch.tensor(config.temperature, device=device).log().requires_grad_(config.learn_temperature)
        )
        self.target_entropy = -config.target_entropy_factor * model.action_dim
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=config.actor_learning_rate, fused=True)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=config.critic_learning_rate, fused=True)
        self.temperature_optimiser = torch.optim.Adam([self.log_temperature], lr=config.temperature_learning_rate)
        self.steps = 0
        self._critic_loss, self._actor_loss = self.critic_loss, self.actor_loss
        if fast:
            self._critic_loss, self._actor_loss = (
                compiled_with_bfloat16(f, device) for f in (self.critic_loss, self.actor_loss)
            )

    @property
    def temperature(self) -> Tensor:
        """The entropy weight, detached."""
        return self.log_temperature.detach().exp()

    def step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """Do one critic step, every `actor_every` steps one actor and temperature step, and move the targets."""
        metrics = self._critic_step(batch)
        if self.steps % self.config.actor_every == 0:
            metrics |= self._actor_step(batch)
        with torch.no_grad():
            targets: list[Tensor] = list(self.target_critic.parameters())
            sources: list[Tensor] = list(self.critic.parameters())
            torch._foreach_lerp_(targets, sources, self.config.target_rate)
        self.steps += 1
        return metrics

    def critic_loss(self, batch: TransitionBatch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the critics' loss and their values ``[2, B]``."""
        value = self.critic(batch.obs, batch.critic_latent, batch.action)
        return (value - self.target(batch, noise)).square().mean(dim=1).sum(), value

    @torch.no_grad()
    def target(self, batch: TransitionBatch, noise: Tensor) -> Tensor:
        """Return the critics' target y, ``[B]``; `noise` ``[B, A]`` picks the next action."""
        action, log_prob = self.actor.sample(batch.next_obs, batch.next_latent, noise)
        value = self.target_critic(batch.next_obs, batch.next_critic_latent, action).amin(dim=0)
        return batch.reward + self.config.discount * (1.0 - batch.terminated) * (value - self.temperature * log_prob)

    def actor_loss(self, batch: TransitionBatch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actor's loss and the log-probabilities ``[B]`` of its actions."""
        action, log_prob = self.actor.sample(batch.obs, batch.latent, noise)
        value = self.critic(batch.obs, batch.critic_latent, action).amin(dim=0)
        return (self.temperature * log_prob - value).mean(), log_prob

    def _noise(self, batch: TransitionBatch) -> Tensor:
        return torch.randn(batch.action.shape, generator=self.generator, device=batch.action.device)

    def _critic_step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        loss, value = self._critic_loss(batch, self._noise(batch))
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimiser.step()
        return {"critic_loss": loss.detach(), "q_mean": value.detach().mean()}

    def _actor_step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        self.critic.requires_grad_(False)  # its gradients would be thrown away
        loss, log_prob = self._actor_loss(batch, self._noise(batch))
        self.actor_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.actor_optimiser.step()
        self.critic.requires_grad_(True)
        entropy = -log_prob.detach().mean()
        if self.config.learn_temperature:
            self._temperature_step(entropy)
        return {"actor_loss": loss.detach(), "entropy": entropy, "temperature": self.temperature}

    def _temperature_step(self, entropy: Tensor) -> None:
        self.log_temperature.grad = (entropy - self.target_entropy).reshape(
            ()
        )  # d/dlog of temperature loss, scale-free
        self.temperature_optimiser.step()
        if self.config.min_temperature > 0.0:
            with torch.no_grad():
                self.log_temperature.clamp_min_(float(torch.tensor(self.config.min_temperature).log()))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the model."""
        return {
            "critic": self.critic.state_dict(),
            "target_critic": self.target_critic.state_dict(),
            "log_temperature": self.log_temperature.detach().clone(),
            "optimisers": [o.state_dict() for o in self._optimisers],
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        self.critic.load_state_dict(state["critic"])
        self.target_critic.load_state_dict(state["target_critic"])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.steps = int(state["steps"])

    @property
    def _optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.actor_optimiser, self.critic_optimiser, self.temperature_optimiser]
