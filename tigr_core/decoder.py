# SPDX-License-Identifier: Apache-2.0
"""The decoder: what the latent task says of the next observation and the reward (paper, section IV)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tigr_core.mlp import MLP


class Decoder(nn.Module):
    """Predicts the normalised next observation ``[..., D]`` and reward ``[...]`` from (obs, action, z)."""

    def __init__(self, obs_dim: int, action_dim: int, latent_dim: int, *, width: float = 5.0) -> None:
        super().__init__()
        inputs = obs_dim + action_dim + latent_dim
        hidden = round(width * inputs)
        self.next_obs = MLP(inputs, (hidden, hidden), obs_dim)
        self.reward = MLP(inputs, (hidden, hidden, hidden // 2), 1)

    def forward(self, obs: Tensor, action: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Read normalised obs ``[..., D]``, normalised action ``[..., A]`` and z ``[..., L]``."""
        inputs = torch.cat([obs, action, latent], dim=-1)
        return self.next_obs(inputs).float(), self.reward(inputs).squeeze(-1).float()
