# SPDX-License-Identifier: Apache-2.0
"""Soft actor-critic on (observation, inferred latent) (Haarnoja et al., arXiv 1812.05905).

    y      = r + discount (1 - terminated) (min_i Q'_i(s', z', a') - temperature log pi(a'|s', z'))
    critic = sum_i mean (Q_i(s, z, a) - y)^2,     actor = mean (temperature log pi(a|s, z) - min_i Q_i(s, z, a))

z' is the estimate after the transition, not a copy of z. Latents arrive detached: control never shapes inference.
With `critic_sees_task` the critics read the task's `TaskCode` instead of z and z' (an asymmetric critic, Pinto et al.,
arXiv 1710.06542): what they learn holds still while the encoder learns. On `told_share` of the transitions the actor,
too, reads the code, which is where z is pulled to: it learns what to do before inference can tell it when. On the robot
there are no critics and no codes. With `teachers` the actor also imitates what they would do (`teachers.py`):

    actor = ... + teacher_weight mean |tanh mean(s, z) - a*(s, task)|^2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from envs.tasks import TaskSet
from tigr_core.actor_critic import TwinCritic
from tigr_core.adam import Adam
from tigr_core.checkpoint import restore_optimiser
from tigr_core.compiled_sac import CompiledSAC
from tigr_core.config import PCGradGroups, SACConfig
from tigr_core.fast import Gradients, Loss, compiled_gradients, gradients_of, has_kernels
from tigr_core.metric_means import Metrics
from tigr_core.mixture import MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.pcgrad import descend, groups_of, masks_of
from tigr_core.random_shift import RandomShift
from tigr_core.replay import ReplayBuffer
from tigr_core.stop import AskStop, give_way, never
from tigr_core.task_code import TaskCode
from tigr_core.teachers import Teachers


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
    taught: Tensor | None = None  # [B, A], what a teacher would do
    group: Tensor | None = None  # [B] int64, whose gradients PCGrad keeps from opposing each other

    def only(self, mask: Tensor) -> TransitionBatch:
        """Return the transitions of a mask ``[B]``, or of so many numbers."""
        chosen: dict[str, Any] = {name: None if value is None else value[mask] for name, value in vars(self).items()}
        return TransitionBatch(**chosen)

    @staticmethod
    def joined(parts: Sequence[TransitionBatch]) -> TransitionBatch:
        """Return the transitions of several batches, one after the other."""
        names = [name for name, value in vars(parts[0]).items() if value is not None]
        return TransitionBatch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


class ControlRefund:
    """What SAC gives back of the control costs in a reward while they are warmed up (`sac.control_cost_warmup`).

    Where a motion must be fast to pay, as turning over must, its first slow attempts cost more than they bring, and SAC
    unlearns them: at first control is to cost nothing. The encoder reads the rewards as they are, and so does the
    evaluation.

    Args:
        share: of the control costs that is given back.
    """

    def __init__(self, tasks: TaskSet, share: float, device: torch.device | str = "cpu") -> None:
        self._cost = share * torch.tensor([task.control_cost for task in tasks.base_tasks], device=device)

    def __call__(self, base_task: Tensor, action: Tensor) -> Tensor:
        """Return what to add to rewards ``[...]``, for labels ``[...]`` and actions ``[..., A]``."""
        return self._cost[base_task.long()] * action.square().sum(dim=-1)


Encode = Callable[[Tensor], MixturePosterior]  # transitions of episodes [E, T, X] -> estimates [E, T + 1]
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
        refund: ControlRefund | None = None,
        teachers: Teachers | None = None,
        groups: PCGradGroups | None = None,
        group_seed: int = 0,
        encode: Encode | None = None,
        shift: RandomShift | None = None,
        chunk: int | None = None,
        stop: AskStop = never,
    ) -> None:
        obs, action, length = replay.obs[episodes], replay.action[episodes], replay.length.to(episodes.device)[episodes]
        reward = model.normaliser.floored(replay.reward[episodes])
        code = [] if task_code is None else [task_code(replay.base_task[episodes].long(), replay.parameter[episodes])]
        at_once = chunk or EPISODES_ENCODED_AT_ONCE[model.config.context]
        latent, weights = _inferred(model, encode or model.encoder.encode_episodes, obs, action, reward, at_once, stop)
        own = replay.base_task[episodes].long()
        self.group = None
        if groups is not None:
            source = torch.Generator(weights.device).manual_seed(group_seed)
            before = weights[:, :-1].flatten(0, 1)
            self.group = _by_state(groups_of(groups, own.flatten(), lambda: before, source).view_as(own))
        if refund is not None:
            reward = reward + refund(own, action)
        self.taught = None
        if teachers is not None:
            parameter = replay.parameter[episodes].flatten(0, 1)
            taught = teachers(obs[:, :-1].flatten(0, 1), own.flatten(), parameter)
            self.taught = _by_state(taught.view_as(action))
        self.replay, self.episodes, self.refund = replay, episodes, refund
        outcome = torch.cat([action, reward.unsqueeze(-1), replay.terminated[episodes].unsqueeze(-1), *code], dim=-1)
        # A state, what came of it, and the next state lie one after the other: a transition is read at once.
        parts = (model.policy_obs(obs).flatten(0, 1), latent.flatten(0, 1), _by_state(outcome))
        self.rows = torch.cat(parts, dim=-1)  # [E (T+1), D + L + A + 2 (+ L)]
        count, width = self.rows.shape
        sizes = (model.policy_obs_dim, model.config.latent_dim)
        self.sizes = (*sizes, model.action_dim, 1, 1, outcome.shape[2] - model.action_dim - 2, *sizes)
        self.transitions = self.rows.as_strided((count - 1, sum(self.sizes)), (width, 1))
        self.steps = reward.shape[1]
        valid = torch.arange(self.steps + 1, device=reward.device) < length.unsqueeze(1)
        self.valid = valid.flatten().nonzero().squeeze(1)
        self.critic_sees_task, self.told_share = critic_sees_task, told_share
        self.shift, self.base_task = shift, _by_state(own)

    def sample(self, batch: int, generator: torch.Generator) -> TransitionBatch:
        """Draw transitions uniformly."""
        return self.at(self.draw(batch, generator), generator)

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw transitions uniformly: the numbers of their states, ``[B]``."""
        drawn = torch.randint(len(self.valid), (batch,), generator=generator, device=self.valid.device)
        return self.valid.index_select(0, drawn)

    def at(self, index: Tensor, generator: torch.Generator) -> TransitionBatch:
        """Return the transitions from states ``[B]``; which of them the actor is told is drawn."""
        found = self.transitions.index_select(0, index).split(self.sizes, dim=1)
        obs, latent, action, reward, terminated, code, next_obs, next_latent = found
        if self.shift is not None:
            obs, next_obs = self.shift(obs, next_obs, self.base_task[index], generator)
        if self.told_share > 0.0:
            told = torch.rand((len(index), 1), generator=generator, device=code.device) < self.told_share
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
            taught=None if self.taught is None else self.taught[index],
            group=None if self.group is None else self.group[index],
        )


def _by_state(values: Tensor) -> Tensor:
    """Return what there is of each transition ``[E, T, ...]`` by the state it is from, ``[E (T + 1), ...]``."""
    none = values.new_zeros((len(values), 1, *values.shape[2:]))
    return torch.cat([values, none], dim=1).flatten(0, 1)


def _inferred(
    model: TaskInferenceModel,
    encode: Encode,
    obs: Tensor,
    action: Tensor,
    reward: Tensor,
    chunk: int,
    stop: AskStop,
) -> tuple[Tensor, Tensor]:
    """Return z ``[E, T + 1, L]`` and mixture weights ``[E, T + 1, K]`` along episodes."""
    latent, weights = [], []
    for o, a, r in zip(obs.split(chunk), action.split(chunk), reward.split(chunk), strict=True):
        give_way(stop)
        posterior = encode(model.normaliser.sequence(o[:, :-1], a, r, o[:, 1:]))
        latent.append(posterior.latent)
        weights.append(posterior.weights)
    return torch.cat(latent), torch.cat(weights)


class SACLearner:
    """Owns critics, target critics, temperature and their optimisers; trains the model's actor."""

    def __init__(
        self, model: TaskInferenceModel, config: SACConfig, *, generator: torch.Generator, fast: bool = False
    ) -> None:
        self.actor, self.config, self.generator = model.actor, config, generator
        device = model.normaliser.mean.device
        sizes = (model.policy_obs_dim, model.config.latent_dim, model.action_dim, model.config.policy_hidden)
        self.critic = TwinCritic(*sizes, layer_norm=model.config.critic_layer_norm).to(device)
        self.target_critic = TwinCritic(*sizes, layer_norm=model.config.critic_layer_norm).to(device)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.target_critic.requires_grad_(False)
        self.log_temperature = (
            torch.tensor(config.temperature, device=device).log().requires_grad_(config.learn_temperature)
        )
        self.teacher_weight = torch.tensor(config.teacher_weight, device=device)
        self.least_log_temperature = torch.full_like(self.log_temperature, -math.inf, requires_grad=False)
        self.target_entropy = -config.target_entropy_factor * model.action_dim
        adam = partial(Adam, capturable=device.type == "cuda")
        self.actor_optimiser = adam(self.actor.parameters(), lr=config.actor_learning_rate)
        self.critic_optimiser = adam(self.critic.parameters(), lr=config.critic_learning_rate)
        self.temperature_optimiser = adam([self.log_temperature], lr=config.temperature_learning_rate)
        self._sources: list[Tensor] = list(self.critic.parameters())
        self._targets: list[Tensor] = list(self.target_critic.parameters())
        self.steps = 0
        self.in_kernels = CompiledSAC(self) if fast and has_kernels(device) else None
        compiled = fast and self.in_kernels is None
        gradients = partial(compiled_gradients, device=device) if compiled else gradients_of
        self._critic_gradients = gradients(self.critic_loss, list(self.critic.parameters()))
        self._actor_gradients = gradients(self.actor_loss, list(self.actor.parameters()))

    @property
    def temperature(self) -> Tensor:
        """The entropy weight, detached."""
        return self.log_temperature.detach().exp()

    def step(self, batch: TransitionBatch) -> Metrics:
        """Do one critic step, every `actor_every` steps one actor and temperature step, and move the targets."""
        self.schedule()
        return self.update(batch)

    def schedule(self) -> None:
        """Set what changes with the number of steps."""
        config = self.config
        self.teacher_weight.fill_(config.teacher_weight * self._left(config.teacher_half_life))
        floor = config.min_temperature * self._left(config.min_temperature_half_life)
        self.least_log_temperature.fill_(math.log(floor) if floor > 0.0 else -math.inf)

    def update(self, batch: TransitionBatch) -> Metrics:
        """Do a step under the present schedule. Does not ask the device for a number, so that it can be captured."""
        if self.in_kernels is not None and batch.group is None:
            metrics: Metrics = self.in_kernels.step(batch)
        else:
            metrics = self._critic_step(batch) | (self._actor_step(batch) if self.actor_learns else {})
            with torch.no_grad():
                torch._foreach_lerp_(self._targets, self._sources, self.config.target_rate)
        self.steps += 1
        return metrics

    @property
    def actor_learns(self) -> bool:
        """Whether the next step is one of the actor too."""
        return self.steps % self.config.actor_every == 0

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
        mean, log_std = self.actor(batch.obs, batch.latent)
        action, log_prob = self.actor.sample_of(mean, log_std, noise)
        value = self.critic(batch.obs, batch.critic_latent, action).amin(dim=0)
        loss = (self.temperature * log_prob - value).mean()
        if batch.taught is not None:
            loss = loss + self.teacher_weight * (mean.tanh() - batch.taught).square().sum(dim=-1).mean()
        return loss, log_prob

    def noise_for(self, batch: TransitionBatch) -> Tensor:
        """Draw the standard normal noise ``[B, A]`` that picks actions."""
        return torch.randn(batch.action.shape, generator=self.generator, device=batch.action.device)

    def _descend(
        self, loss_of: Loss, find_gradients: Gradients, optimiser: Adam, batch: TransitionBatch
    ) -> tuple[Tensor, Tensor]:
        """Do a step of the optimiser; return the loss and what else `loss_of` tells, ``[..., B]``, detached."""
        noise = self.noise_for(batch)
        if batch.group is None:
            loss, told, gradients = find_gradients(batch, noise)
            optimiser.descend(gradients)
        else:
            parameters = optimiser.param_groups[0]["params"]
            masks = masks_of(batch.group)
            losses, parts = zip(*(loss_of(batch.only(mask), noise[mask]) for mask in masks), strict=True)
            shared = [mask.float().mean() * loss for mask, loss in zip(masks, losses, strict=True)]
            descend(shared, parameters, self.generator)
            loss, told = torch.stack(shared).sum(), torch.cat(parts, dim=-1)
            optimiser.step()
        return loss.detach(), told.detach()

    def _critic_step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        loss, value = self._descend(self.critic_loss, self._critic_gradients, self.critic_optimiser, batch)
        return {"critic_loss": loss, "q_mean": value.mean()}

    def _actor_step(self, batch: TransitionBatch) -> dict[str, Tensor]:
        loss, log_prob = self._descend(self.actor_loss, self._actor_gradients, self.actor_optimiser, batch)
        entropy = -log_prob.mean()
        if self.config.learn_temperature:
            self._temperature_step(entropy)
        return {"actor_loss": loss, "entropy": entropy, "temperature": self.temperature}

    def _temperature_step(self, entropy: Tensor) -> None:
        gradient = (entropy - self.target_entropy).reshape(())  # d/dlog of temperature loss, scale-free
        self.temperature_optimiser.descend([gradient])
        with torch.no_grad():
            self.log_temperature.clamp_min_(self.least_log_temperature)

    def _left(self, half_life: int) -> float:
        """The share that is left by now of what falls by half in so many steps; all of it if they are 0."""
        return 0.5 ** (self.steps / half_life) if half_life else 1.0

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
            restore_optimiser(optimiser, saved)
        self.steps = int(state["steps"])

    @property
    def _optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.actor_optimiser, self.critic_optimiser, self.temperature_optimiser]
