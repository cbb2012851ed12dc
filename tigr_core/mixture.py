# SPDX-License-Identifier: Apache-2.0
"""The Gaussian mixture over the latent task z that the encoder infers (paper, section IV)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SEPARATION_EPSILON = 1e-8


@dataclass(frozen=True)
class MixturePosterior:
    """q(z | context): K diagonal Gaussians in L dimensions and their weights, for any leading batch shape ``[...]``."""

    logits: Tensor  # [..., K]
    mean: Tensor  # [..., K, L]
    std: Tensor  # [..., K, L]

    @classmethod
    def from_head(cls, output: Tensor, num_components: int, latent_dim: int) -> MixturePosterior:
        """Split the head's output ``[..., K * (2 L + 1)]`` into mean, softplus std and logit of each component."""
        parts = output.float().view(*output.shape[:-1], num_components, 2 * latent_dim + 1)
        mean, pre_std = parts.narrow(-1, 0, latent_dim), parts.narrow(-1, latent_dim, latent_dim)
        std = F.softplus(pre_std.contiguous())  # with gaps, PyTorch takes one number at a time
        return cls(logits=parts.select(-1, 2 * latent_dim), mean=mean, std=std)

    def __getitem__(self, index: object) -> MixturePosterior:
        """Index the leading batch dimensions."""
        return MixturePosterior(self.logits[index], self.mean[index], self.std[index])  # type: ignore[index]

    @property
    def weights(self) -> Tensor:
        """Mixture weights, softmax of the logits, ``[..., K]``."""
        return torch.softmax(self.logits, dim=-1)

    @property
    def latent(self) -> Tensor:
        """z = sum_k w_k mean_k, ``[..., L]``: the latent to act on."""
        return (self.weights.unsqueeze(-1) * self.mean).sum(dim=-2)

    def sample(self, noise: Tensor) -> Tensor:
        """z = sum_k w_k z_k with z_k = mean_k + std_k noise_k, ``[..., L]``: the latent to train on.

        Noise ``[..., K, L]`` is standard normal.
        """
        return (self.weights.unsqueeze(-1) * (self.mean + self.std * noise)).sum(dim=-2)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the mixture weights in nats, ``[...]``: 0 when sure, log K when at a loss."""
        log_weights = torch.log_softmax(self.logits, dim=-1)
        return -(log_weights.exp() * log_weights).sum(dim=-1)

    def kl_to_prior(self) -> Tensor:
        """Sum over components of KL(N(mean_k, std_k^2) || N(0, I)), ``[...]``."""
        var = self.std.square()
        return 0.5 * (var + self.mean.square() - 1.0 - var.clamp_min(1e-30).log()).sum(dim=(-2, -1))

    def separation(self) -> Tensor:
        """Sum over pairs of components of their summed std / (squared distance of their means + 1e-8), ``[...]``.

        Small when components are narrow and far from each other.
        """
        num_components = self.mean.shape[-2]
        pairs = torch.triu_indices(num_components, num_components, offset=1, device=self.mean.device)
        one_hot = torch.eye(num_components, dtype=self.mean.dtype, device=self.mean.device)
        first, second = one_hot[:, pairs[0]], one_hot[:, pairs[1]]  # [K, pairs] each
        with torch.autocast(self.mean.device.type, enabled=False):  # differences of what bfloat16 rounds
            distance2 = (self.mean.transpose(-1, -2) @ (first - second)).square().sum(dim=-2)
            spread = self.std.sum(dim=-1) @ (first + second)
        return (spread / (distance2 + SEPARATION_EPSILON)).sum(dim=-1)


class Draw(NamedTuple):
    """A draw of z from each of B mixtures, and what the loss of inference reads of them besides."""

    logits: Tensor  # [B, K]
    latent: Tensor  # [B, L]
    kl: Tensor  # [B], to the prior
    separation: Tensor  # [B]

    @classmethod
    def of(cls, posterior: MixturePosterior, noise: Tensor) -> Draw:
        """Draw with standard normal noise ``[B, K, L]``."""
        return cls(posterior.logits, posterior.sample(noise), posterior.kl_to_prior(), posterior.separation())
