# SPDX-License-Identifier: Apache-2.0
"""The task-inference encoder: a GRU over the context and a Gaussian-mixture head (paper, section IV and figure 2).

Two ways to read the context, with one interface:

- ``window`` (the paper): the last W transitions, the GRU state starts at zero on every call; time steps before the
  episode are zeros after normalisation.
- ``stream``: the GRU state is carried, so a transition costs one GRU step in training and on the robot.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tigr_core.mixture import MixturePosterior
from tigr_core.mlp import MLP

ROBOTS_AT_ONCE = 4  # whose windows are advanced together: their gates stay in the cache of a core


class Encoder(nn.Module):
    """Maps normalised transitions x ``[..., time, X]`` to mixtures over the latent task."""

    def __init__(
        self,
        transition_dim: int,
        num_components: int,
        latent_dim: int,
        *,
        width: float = 5.0,
        context: Literal["stream", "window"] = "stream",
        context_length: int = 64,
    ) -> None:
        super().__init__()
        self.transition_dim, self.context, self.context_length = transition_dim, context, context_length
        self.num_components, self.latent_dim = num_components, latent_dim
        self.hidden_dim = round(width * transition_dim)
        self.gru = nn.GRU(transition_dim, self.hidden_dim, batch_first=True)
        self.head = MLP(self.hidden_dim, (self.hidden_dim,), num_components * (2 * latent_dim + 1))

    def posterior(self, hidden: Tensor) -> MixturePosterior:
        """Read the mixture off a GRU state, ``[..., H]``."""
        return MixturePosterior.from_head(self.head_output(hidden), self.num_components, self.latent_dim)

    def head_output(self, hidden: Tensor) -> Tensor:
        """Return what `MixturePosterior.from_head` reads, of a GRU state ``[..., H]``."""
        output: Tensor = self.head(torch.relu(hidden))
        return output

    def hidden_sequence(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        """Run the GRU over x ``[B, T, X]`` from zero or `start` ``[B, H]``; return all states, ``[B, T + 1, H]``."""
        if start is None:
            start = x.new_zeros(x.shape[0], self.hidden_dim)
        output, _ = self.gru(x, start.unsqueeze(0))
        return torch.cat([start.unsqueeze(1), output], dim=1)

    def hidden_windows(self, windows: Tensor) -> Tensor:
        """Run the GRU from zero over windows ``[B, W, X]``; return the last state, ``[B, H]``."""
        _, last = self.gru(windows)
        return last.squeeze(0)

    def encode_episodes(self, x: Tensor) -> MixturePosterior:
        """Return the estimates along episodes x ``[E, T, X]``, a mixture ``[E, T + 1]``; entry t saw t transitions."""
        if self.context == "stream":
            return self.posterior(self.hidden_sequence(x))
        windows = windows_of(x, self.context_length)
        hidden = [self.hidden_windows(part) for part in windows.flatten(0, 1).split(4096)]
        return self.posterior(torch.cat(hidden).unflatten(0, windows.shape[:2]))

    # Of windows only; how streams act is in `acting.py`.

    def initial_state(self, batch: int) -> Tensor:
        """Return the empty context: a GRU state for each window under way ``[N, W, H]``.

        Entry j of W has seen j + 1 transitions; the windows of an empty context have seen as many zeros.
        """
        zeros = next(self.gru.parameters()).new_zeros((1, self.context_length, self.transition_dim))
        return self.hidden_sequence(zeros)[:, 1:].repeat(batch, 1, 1)

    def advance(self, state: Tensor, x: Tensor) -> Tensor:
        """Add one transition x ``[N, X]`` to the context, without gradient.

        A window that started at each of the last W transitions is under way, so that one product advances all of them;
        to run the GRU over the whole window anew would be W products of one row, four times as slow for one robot.
        """
        parts = zip(state.split(ROBOTS_AT_ONCE), x.split(ROBOTS_AT_ONCE), strict=True)
        return torch.cat([self._advance_windows(*part) for part in parts])

    def _advance_windows(self, state: Tensor, x: Tensor) -> Tensor:
        """Advance the windows under way ``[N, W, H]``: the newest starts from zero, the oldest is complete then."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.gru._parameters.values()
        assert weight_ih is not None and weight_hh is not None
        start = torch.cat([torch.zeros_like(state[:, :1]), state[:, :-1]], dim=1)
        of_input = nn.functional.linear(x, weight_ih, bias_ih).unsqueeze(1)  # once for all windows of a robot
        of_state = nn.functional.linear(start, weight_hh, bias_hh)
        gates, new = of_state.split([2 * self.hidden_dim, self.hidden_dim], dim=-1)
        input_gates, input_new = of_input.split([2 * self.hidden_dim, self.hidden_dim], dim=-1)
        reset, update = gates.add_(input_gates).sigmoid_().chunk(2, dim=-1)
        return torch.lerp(new.mul_(reset).add_(input_new).tanh_(), start, update)

    def infer(self, state: Tensor) -> MixturePosterior:
        """Return the estimate ``[N]`` that the context gives."""
        return self.posterior(state[:, -1])


def windows_of(x: Tensor, length: int) -> Tensor:
    """Return the `length` transitions before each time of x ``[E, T, X]``, zero-padded: ``[E, T + 1, W, X]``."""
    padded = torch.cat([x.new_zeros(x.shape[0], length, x.shape[2]), x], dim=1)
    return padded.unfold(1, length, 1).transpose(2, 3)
