# SPDX-License-Identifier: Apache-2.0
"""Policy and value networks of SAC (Haarnoja et al., arXiv 1812.05905), both reading (observation, latent task)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tigr_core.mlp import MLP

LOG_STD_RANGE = (-20.0, 2.0)


class Actor(nn.Module):
    """A tanh-Gaussian policy: action = tanh(mean + std * noise), in (-1, 1)."""

    def __init__(self, obs_dim: int, latent_dim: int, action_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = MLP(obs_dim + latent_dim, hidden, 2 * action_dim)

    def forward(self, obs: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-std ``[..., A]`` before the tanh, from normalised obs ``[..., D]`` and z ``[..., L]``."""
        mean, log_std = self.net(torch.cat([obs, latent], dim=-1)).float().chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def act(self, obs: Tensor, latent: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the action ``[..., A]`` that standard normal noise ``[..., A]`` picks, without it the most likely."""
        mean, log_std = self(obs, latent)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)

    def sample(self, obs: Tensor, latent: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action ``[..., A]`` that standard normal noise ``[..., A]`` picks, and its log-probability."""
        mean, log_std = self(obs, latent)
        return self.sample_of(mean, log_std, noise)

    @staticmethod
    def sample_of(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """As `sample`, of what the network says, ``[..., A]`` each."""
        raw = mean + log_std.exp() * noise
        return torch.tanh(raw), tanh_gaussian_log_prob(raw, noise, log_std)


def tanh_gaussian_log_prob(raw: Tensor, noise: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of tanh(raw) with raw = mean + std * noise, summed over actions (arXiv 1812.05905, appendix C).

    log(1 - tanh(u)^2) is computed as 2 (log 2 - u - softplus(-2 u)), which does not round to log 0.
    """
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    squash = 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))
    return (gaussian - squash).sum(dim=-1)


class TwinCritic(nn.Module):
    """Two action-value networks evaluated as one batched network."""

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        action_dim: int,
        hidden: tuple[int, ...],
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = (obs_dim + latent_dim + action_dim, *hidden, 1)
        self.layers = nn.ModuleList(TwinLinear(i, o) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(TwinLayerNorm(size) for size in hidden) if layer_norm else None

    def forward(self, obs: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        """Return both action values ``[2, B]`` of normalised obs ``[B, D]``, z ``[B, L]`` and action ``[B, A]``."""
        inputs = torch.cat([obs, latent, action], dim=-1)
        value = inputs.expand(2, *inputs.shape)
        for index, layer in enumerate(self.layers[:-1]):
            value = layer(value)
            if self.norms is not None:
                value = self.norms[index](value)
            value = _relu(value)
        with torch.autocast(value.device.type, enabled=False):  # bfloat16 would round values of 70 to halves
            return self.layers[-1](value.float()).squeeze(-1)


def _relu(x: Tensor) -> Tensor:
    """Return max(0, x): for its gradient, x is kept. Of `torch.relu`, compiled regions keep booleans where no weight
    is learned, which they write and read one at a time on a CPU."""
    return 0.5 * (x + x.abs())


class TwinLinear(nn.Module):
    """Two linear layers side by side: ``[2, B, inputs] -> [2, B, outputs]``, initialised like `nn.Linear`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, 1, outputs).uniform_(-bound, bound))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs, self.weight)


class TwinLayerNorm(nn.Module):
    """Two layer normalisations side by side."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.ones(2, 1, size))
        self.bias = nn.Parameter(torch.zeros(2, 1, size))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(inputs, (self.size,)), self.weight)
