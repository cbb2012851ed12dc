# SPDX-License-Identifier: Apache-2.0
"""The GRU of the fast mode on a CPU: each thread runs its share of the sequences from end to end.

In PyTorch's GRU all threads share every product, and wait for each other a dozen times a step. Here they wait for each
other once a sequence, and between two products one loop does what is to be done (`kernels/gru.hpp`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tigr_core import kernels
from tigr_core.encoder import Encoder


def compiled_hidden_sequence(encoder: Encoder, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the encoder's `hidden_sequence` with products in `dtype`, float32 or bfloat16, and states in float32."""

    def hidden_sequence(x: Tensor, start: Tensor) -> Tensor:
        states: Tensor = _GRU.apply(dtype, x.transpose(0, 1), start, *encoder.gru.parameters())
        return states.transpose(0, 1)

    return hidden_sequence


class _GRU(torch.autograd.Function):
    """A GRU over x ``[T, B, X]``: all states ``[T + 1, B, H]``. The gradient can be taken once."""

    @staticmethod
    def forward(
        ctx: Any, dtype: torch.dtype, x: Tensor, start: Tensor,
        weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor,
    ) -> Tensor:  # fmt: skip
        (steps, batch, _), hidden = x.shape, start.shape[1]
        inputs, weight = x.flatten(0, 1).to(dtype), weight_hh.to(dtype)
        gates = _layer(inputs, weight_ih, bias_ih).view(steps, batch, 3 * hidden)
        states, state_new = start.new_empty(steps + 1, batch, hidden), start.new_empty(steps, batch, hidden)
        rounded = states if dtype == states.dtype else torch.empty_like(states, dtype=dtype)
        states[0], rounded[0] = start, start
        kernels.load().gru_forward(gates, weight, bias_hh, states, rounded, state_new)
        ctx.tensors = (inputs, gates, weight, states, rounded, state_new)
        return states

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, weight, states, rounded, state_new = ctx.tensors
        del ctx.tensors
        dtype = weight.dtype
        in_place = dtype == gates.dtype  # memory costs as long as sums
        of_input = gates if in_place else torch.empty_like(gates, dtype=dtype)
        of_state_new = state_new if in_place else torch.empty_like(state_new, dtype=dtype)
        of_start = torch.empty_like(states[0])
        kernels.load().gru_backward(
            outer.contiguous(), gates, weight, states, state_new, of_input, of_state_new, of_start
        )
        rows = (inputs, rounded[:-1].flatten(0, 1), of_input.flatten(0, 1), of_state_new.flatten(0, 1))
        return None, None, of_start, *_weight_gradients(*rows)


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return in float32 what a layer makes of x ``[B, inputs]``."""
    if x.dtype != torch.float32:
        return torch.addmm(bias.to(x.dtype), x, weight.to(x.dtype).t()).float()
    result: Tensor = kernels.load().mlp_last(x.unsqueeze(0), [weight], [bias])
    return result.squeeze(0)


def _weight_gradients(inputs: Tensor, states: Tensor, of_input: Tensor, of_state_new: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the GRU's parameters, for N inputs ``[N, X]`` and states ``[N, H]``.

    They come from those of W x + b, ``[N, 3 H]``, of which U h + c shares all but the last third: for that, ``[N, H]``.
    """
    if inputs.dtype == torch.float32:
        *weights, of_b, of_c = kernels.load().gru_weight_gradients(inputs, states, of_input, of_state_new)
        return *(of_weight.t() for of_weight in weights), of_b, of_c
    shared = 2 * states.shape[1]
    of_weights = torch.cat([of_input[:, :shared].t() @ states, of_state_new.t() @ states])
    of_b, of_new = (given.sum(0, dtype=torch.float32) for given in (of_input, of_state_new))
    return (of_input.t() @ inputs).float(), of_weights.float(), of_b, torch.cat([of_b[:shared], of_new])
