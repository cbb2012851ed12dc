# SPDX-License-Identifier: Apache-2.0
"""Everything that acts: normaliser, encoder, decoder and actor. A bundle holds exactly this."""

from __future__ import annotations

from typing import Any

from torch import nn

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
        self.normaliser = Normaliser(obs_dim, action_dim, own_next_obs=config.own_next_obs_statistics)
        self.encoder = self._encoder()
        self.decoder = Decoder(obs_dim, action_dim, config.latent_dim, width=config.decoder_width)
        self.actor = Actor(obs_dim, config.latent_dim, action_dim, config.policy_hidden)

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
