# SPDX-License-Identifier: Apache-2.0
"""Encoders of a `window` that have no state, with the interface of `encoder.Encoder` (options of the paper's code).

    mlp          the same layers for each time step
    conv         the same, as a convolution over single time steps: other depths
    transformer  two layers of attention between all time steps

Each gives features of every time step; the mixture head reads each of them, and its mixtures are combined:

    multiplication  the product of the Gaussians of a component; logits add up
    network         two small networks over the time steps, one for logits, one for means and standard deviations
    none            an mlp reads the window as a whole, and there is nothing to combine

Time steps before the episode take part, as zeros, as they do in the paper's code.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tigr_core.encoder import windows_of
from tigr_core.mixture import MixturePosterior
from tigr_core.mlp import MLP

Kind = Literal["mlp", "conv", "transformer"]
Combination = Literal["multiplication", "network", "none"]

TRANSFORMER_LAYERS = 2
WAVELENGTH = 10_000.0  # the longest, of the positions that a transformer reads, over 2 pi
SMALLEST_VARIANCE = 1e-7  # of a Gaussian that takes part in a product
WINDOWS_AT_ONCE = 1024


class WindowEncoder(nn.Module):
    """Maps windows of normalised transitions x ``[..., W, X]`` to mixtures over the latent task."""

    context = "window"

    def __init__(
        self,
        transition_dim: int,
        num_components: int,
        latent_dim: int,
        *,
        kind: Kind,
        combination: Combination,
        width: float = 5.0,
        context_length: int = 64,
    ) -> None:
        super().__init__()
        self.transition_dim, self.context_length = transition_dim, context_length
        self.num_components, self.latent_dim, self.combination = num_components, latent_dim, combination
        hidden = round(width * transition_dim)
        self.features = self._features(kind, hidden)
        self.head = MLP(hidden, (hidden,), num_components * (2 * latent_dim + 1))
        if combination == "network":
            self.combine_gaussians = MLP(context_length, (context_length,), 1)
            self.combine_logits = MLP(context_length, (context_length,), 1)

    def _features(self, kind: Kind, hidden: int) -> nn.Module:
        if self.combination == "none":
            return nn.Sequential(nn.Flatten(), MLP(self.context_length * self.transition_dim, (hidden, hidden), hidden))
        if kind == "mlp":
            return MLP(self.transition_dim, (hidden, hidden), hidden)
        if kind == "conv":
            return _Convolution(self.transition_dim, hidden)
        return _Transformer(self.transition_dim, self.context_length, hidden)

    def hidden_windows(self, windows: Tensor) -> Tensor:
        """Return the features of windows ``[B, W, X]``: of time steps ``[B, W, H]``, or of whole windows ``[B, H]``."""
        features: Tensor = self.features(windows)
        return features

    def posterior(self, hidden: Tensor) -> MixturePosterior:
        """Read the mixture off features ``[B, W, H]``, or ``[B, H]`` where a window is read as a whole."""
        output = self.head(hidden)
        if self.combination == "network":
            by_step = output.unflatten(-1, (self.num_components, -1)).movedim(-3, -1)  # [B, K, 2 L + 1, W]
            gaussians = self.combine_gaussians(by_step[..., :-1, :]).squeeze(-1)
            output = torch.cat([gaussians, self.combine_logits(by_step[..., -1, :])], dim=-1).flatten(-2)
        posterior = MixturePosterior.from_head(output, self.num_components, self.latent_dim)
        return product(posterior) if self.combination == "multiplication" else posterior

    def encode_episodes(self, x: Tensor) -> MixturePosterior:
        """Return the estimates along episodes x ``[E, T, X]``, a mixture ``[E, T + 1]``; entry t saw t transitions."""
        windows = windows_of(x, self.context_length)
        parts = [self.infer(part) for part in windows.flatten(0, 1).split(WINDOWS_AT_ONCE)]
        joined = (torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "mean", "std"))
        return MixturePosterior(*(values.unflatten(0, windows.shape[:2]) for values in joined))

    def initial_state(self, batch: int) -> Tensor:
        """Return the empty context, zero windows ``[N, W, X]``."""
        return next(self.parameters()).new_zeros((batch, self.context_length, self.transition_dim))

    def advance(self, state: Tensor, x: Tensor) -> Tensor:
        """Add one transition x ``[N, X]`` to the context."""
        return torch.cat([state[:, 1:], x.unsqueeze(1)], dim=1)

    def infer(self, state: Tensor) -> MixturePosterior:
        """Return the estimate ``[N]`` that the context gives."""
        return self.posterior(self.hidden_windows(state))


def product(factors: MixturePosterior) -> MixturePosterior:
    """Multiply mixtures ``[..., W]`` over W, component by component."""
    precision = factors.std.square().clamp_min(SMALLEST_VARIANCE).reciprocal()  # [..., W, K, L]
    total = precision.sum(dim=-3)
    mean = (precision * factors.mean).sum(dim=-3) / total
    return MixturePosterior(factors.logits.sum(dim=-2), mean, total.rsqrt())


class _Convolution(nn.Module):
    """Three layers over single time steps ``[B, W, X]``, the last of which is linear."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Conv1d(inputs, hidden, 1), nn.ReLU(), nn.Conv1d(hidden, hidden, 1), nn.ReLU()]
        self.layers, self.last = nn.Sequential(*layers), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.last(self.layers(x.transpose(1, 2)).transpose(1, 2))
        return features


class _Transformer(nn.Module):
    """Self-attention over windows ``[B, W, X]`` with sinusoidal positions (Vaswani et al., arXiv 1706.03762).

    Without dropout: an estimate is the same each time.
    """

    position: Tensor

    def __init__(self, inputs: int, length: int, hidden: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(inputs, 1, hidden, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, TRANSFORMER_LAYERS, enable_nested_tensor=False)
        self.last = nn.Linear(inputs, hidden)
        self.register_buffer("position", _positions(length, inputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.last(self.layers(x + self.position))
        return features


def _positions(length: int, dim: int) -> Tensor:
    """Return sine and cosine of the place in the window, in turn, at falling frequencies, ``[W, X]``."""
    entry = torch.arange(dim)
    frequency = torch.exp(-math.log(WAVELENGTH) * (entry - entry % 2) / dim)
    angle = torch.arange(length).unsqueeze(1) * frequency
    return torch.where(entry % 2 == 0, angle.sin(), angle.cos())
