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
        of_input = gates if dtype == gates.dtype else torch.empty_like(gates, dtype=dtype)  # memory costs as long
        of_state = torch.empty_like(of_input)
        of_start = torch.empty_like(states[0])
        kernels.load().gru_backward(outer.contiguous(), gates, weight, states, state_new, of_input, of_state, of_start)
        of_input, of_state = of_input.flatten(0, 1), of_state.flatten(0, 1)
        pairs = (inputs, of_input), (rounded[:-1].flatten(0, 1), of_state)
        weights, biases = zip(*(_layer_gradients(x, of_layer) for x, of_layer in pairs), strict=True)
        return None, None, of_start, *weights, *biases


def _layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return in float32 what a layer makes of x ``[B, inputs]``."""
    if x.dtype != torch.float32:
        return torch.addmm(bias.to(x.dtype), x, weight.to(x.dtype).t()).float()
    result: Tensor = kernels.load().mlp_last(x.unsqueeze(0), [weight], [bias])
    return result.squeeze(0)


def _layer_gradients(x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight ``[outputs, inputs]`` and bias of a layer that reads x ``[B, inputs]``."""
    if x.dtype != torch.float32:
        return (outer.t() @ x).float(), outer.sum(0, dtype=torch.float32)
    of_weight, of_bias = kernels.load().layer_gradients(x, outer)
    return of_weight.t(), of_bias
