# SPDX-License-Identifier: Apache-2.0
"""Multi-layer perceptrons as PyTorch evaluates them, or in the fast mode on a CPU without bfloat16 in C++.

There (`kernels/mlp.hpp`), each thread takes its share of the rows through all layers, and back, with products made for
matrices of this size; bias and ReLU are applied to a tile while it is in registers. Results differ from PyTorch's in
the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """A ReLU network with linear output."""

    in_kernels = False

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(inputs, size), nn.ReLU()]
            inputs = size
        super().__init__(*layers, nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map x ``[..., inputs]`` to ``[..., outputs]``."""
        if not self.in_kernels:
            return super().forward(x)
        layers = [layer for layer in self if isinstance(layer, nn.Linear)]
        rows = x.reshape(1, -1, x.shape[-1])
        result = compiled_mlp(rows, [layer.weight for layer in layers], [layer.bias for layer in layers])
        return result.view(*x.shape[:-1], result.shape[-1])


def compiled_mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Return what E networks side by side make of x ``[E, B, inputs]``, with a ReLU after each layer but the last.

    Weights are ``[E, inputs, outputs]`` and biases ``[E, 1, outputs]``, or for one network PyTorch's
    ``[outputs, inputs]`` and ``[outputs]``; all are float32 on the CPU.
    """
    result: Tensor
    if torch.is_grad_enabled():
        result = _CompiledMLP.apply(x, *weights, *biases)
    else:
        result = torch.ops.tigr.mlp_last(x, weights, biases)
    return result


class _CompiledMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        layers = len(parameters) // 2
        *hidden, result = torch.ops.tigr.mlp_forward(x, parameters[:layers], parameters[layers:])
        ctx.save_for_backward(x, *parameters, *hidden)
        return result

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError("found create_graph=True, expected gradients of first order only")
        of_input, *of_parameters = ctx.needs_input_grad
        x, *rest = ctx.saved_tensors
        layers = len(of_parameters) // 2
        weights, biases, hidden = rest[:layers], rest[layers : 2 * layers], rest[2 * layers :]
        gradients = torch.ops.tigr.mlp_backward(outer.contiguous(), x, hidden, weights, biases, of_input)
        return tuple(gradients) if of_input else (None, *gradients)
