# SPDX-License-Identifier: Apache-2.0
"""The encoder of PEARL (Rakelly et al., arXiv 1903.08254), with the interface of `encoder.Encoder`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tigr_core.mixture import MixturePosterior
from tigr_core.mlp import MLP


class PearlEncoder(nn.Module):
    """q(z | context) = product over transitions of N(mean(x), std(x)^2), the unit prior while there is none."""

    context = "stream"
    HIDDEN = (200, 200, 200)

    def __init__(self, transition_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.net = MLP(transition_dim, self.HIDDEN, 2 * latent_dim)

    def factors(self, x: Tensor) -> Tensor:
        """Return what transitions x ``[..., X]`` add to the state: precision and precision * mean, ``[..., 2 L]``."""
        mean, pre_std = self.net(x).chunk(2, dim=-1)
        precision = 1.0 / nn.functional.softplus(pre_std).square().clamp_min(1e-7)
        return torch.cat([precision, precision * mean], dim=-1)

    def posterior(self, state: Tensor) -> MixturePosterior:
        """Return the Gaussian of summed factors ``[..., 2 L]`` as a mixture of one component."""
        precision, weighted = state.chunk(2, dim=-1)
        empty = precision == 0.0
        precision = torch.where(empty, torch.ones_like(precision), precision)
        mean, std = (weighted / precision).unsqueeze(-2), precision.rsqrt().unsqueeze(-2)
        return MixturePosterior(mean.new_zeros(mean.shape[:-1]), mean, std)

    def encode_sets(self, x: Tensor) -> MixturePosterior:
        """Return the posteriors ``[G]`` of sets of transitions x ``[G, C, X]``."""
        return self.posterior(self.factors(x).sum(dim=-2))

    def encode_episodes(self, x: Tensor) -> MixturePosterior:
        """Return the estimates along episodes x ``[E, T, X]``, ``[E, T + 1]``; entry t saw t transitions."""
        summed = self.factors(x).cumsum(dim=1)
        return self.posterior(torch.cat([torch.zeros_like(summed[:, :1]), summed], dim=1))

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first transition, ``[N, 2 L]``."""
        return next(self.parameters()).new_zeros((batch, 2 * self.latent_dim))

    def advance(self, state: Tensor, x: Tensor) -> Tensor:
        """Add one transition x ``[N, X]``."""
        return state + self.factors(x)

    def infer(self, state: Tensor) -> MixturePosterior:
        """Return the estimate ``[N]``."""
        return self.posterior(state)
