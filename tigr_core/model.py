# SPDX-License-Identifier: Apache-2.0
"""Everything that acts: normaliser, encoder, decoder and actor. A bundle holds exactly this."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tigr_core.actor_critic import Actor
from tigr_core.config import ModelConfig
from tigr_core.decoder import Decoder
from tigr_core.encoder import Encoder
from tigr_core.normaliser import Normaliser
from tigr_core.pearl_encoder import PearlEncoder
from tigr_core.window_encoder import WindowEncoder


class TaskInferenceModel(nn.Module):
    """The trained parts that travel to the robot. Critics and optimisers stay with the learners."""

    def __init__(self, config: ModelConfig, obs_dim: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.obs_dim, self.action_dim = config, obs_dim, action_dim
        self.normaliser = Normaliser(
            obs_dim,
            action_dim,
            own_next_obs=config.own_next_obs_statistics,
            reward_gain=config.reward_gain,
            reward_floor=config.reward_floor,
            reward_changes=config.reward_changes,
        )
        self.encoder = self._encoder()
        self.decoder = Decoder(obs_dim, action_dim, config.latent_dim, width=config.decoder_width)
        self.actor = Actor(self.policy_obs_dim, config.latent_dim, action_dim, config.policy_hidden)

    @property
    def policy_obs_dim(self) -> int:
        """Size of what actor and critics read of an observation."""
        return self.obs_dim + 2 * len(self.config.turning)

    def policy_obs(self, obs: Tensor) -> Tensor:
        """Return what actor and critics read of an observation ``[..., D]``: normalised, ``[..., D + 2 n]``.

        Of n angles that turn without end (`ModelConfig.turning`, in rad) they read sine and cosine, too, and the angle
        itself no further than half a turn: what was learned in one turn holds in the next.
        """
        if not self.config.turning:
            return self.normaliser.obs(obs)
        turning = list(self.config.turning)
        angle, held = obs[..., turning], obs.clone()
        held[..., turning] = angle.clamp(-math.pi, math.pi)
        return torch.cat([self.normaliser.obs(held), angle.sin(), angle.cos()], dim=-1)

    def _encoder(self) -> Any:
        config, transition_dim = self.config, self.normaliser.transition_dim
        if config.method == "pearl":
            return PearlEncoder(transition_dim, config.latent_dim)
        if config.encoder != "gru":
            return WindowEncoder(
                transition_dim,
                config.num_components,
                config.latent_dim,
                kind=config.encoder,
                combination=config.timestep_combination,
                width=config.encoder_width,
                context_length=config.context_length,
            )
        return Encoder(
            transition_dim,
            config.num_components,
            config.latent_dim,
            width=config.encoder_width,
            context=config.context,
            context_length=config.context_length,
        )
