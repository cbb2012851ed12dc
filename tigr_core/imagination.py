# SPDX-License-Identifier: Apache-2.0
"""Imagined roll-outs: SAC also learns from what the decoder says would happen (as in Janner et al., arXiv 1906.08253).

The decoder is a model of all tasks: next observation and reward from (obs, action, z). From observations that were
made, the actor and it go some steps together:

    a_t ~ pi(.|s_t, z),     s_t+1, r_t = decoder(s_t, a_t, z),     z that of the start throughout

Nothing is found out about the task on the way, so z does not change, and nothing predicts that an episode ends.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tigr_core.config import SACConfig
from tigr_core.model import TaskInferenceModel
from tigr_core.sac_learner import TransitionBatch, TransitionView


class ImaginingView:
    """Draws batches of which `imagined_share` is imagined, each anew and by the present actor; the rest is the view's.

    The decoder reads what the critics read: where they are told the task, imagined rewards are of that task.
    """

    def __init__(self, view: TransitionView, model: TaskInferenceModel, config: SACConfig) -> None:
        self.view, self.model = view, model
        self.share, self.horizon = config.imagined_share, config.imagined_horizon

    def sample(self, batch: int, generator: torch.Generator) -> TransitionBatch:
        """Draw transitions, the imagined ones last."""
        imagined = max(1, round(self.share * batch))
        return TransitionBatch.joined(
            [self.view.sample(batch - imagined, generator), self.imagine(imagined, generator)]
        )

    @torch.no_grad()
    def imagine(self, count: int, generator: torch.Generator) -> TransitionBatch:
        """Return `count` transitions of roll-outs from the view's observations; first all first steps, and so on."""
        index = self.view.draw(-(-count // self.horizon), generator)
        start, replay = self.view.at(index, generator), self.view.replay
        states = self.view.steps + 1
        place = (self.view.episodes[index // states], index % states)
        obs, steps = replay.obs[place], []
        for _ in range(self.horizon):
            step, obs = self._step(obs, start, generator)
            if self.view.refund is not None:
                step = replace(step, reward=step.reward + self.view.refund(replay.base_task[place], step.action))
            steps.append(step)
        return TransitionBatch.joined(steps).only(torch.arange(count, device=obs.device))

    def _step(self, obs: Tensor, start: TransitionBatch, generator: torch.Generator) -> tuple[TransitionBatch, Tensor]:
        """Go on from obs ``[B, D]`` of the roll-outs that began with `start`; return also next_obs, in units."""
        normaliser, seen = self.model.normaliser, self.model.policy_obs(obs)
        noise = torch.randn((len(obs), self.model.action_dim), generator=generator, device=obs.device)
        action = self.model.actor.act(seen, start.latent, noise)
        predicted = self.model.decoder(normaliser.obs(obs), normaliser.action(action), start.critic_latent)
        next_obs, reward = normaliser.in_units(*predicted)
        step = replace(
            start,
            obs=seen,
            action=action,
            reward=reward,
            terminated=torch.zeros_like(reward),
            next_obs=self.model.policy_obs(next_obs),
            next_latent=start.latent,
            next_critic_latent=start.critic_latent,
        )
        return step, next_obs
