# SPDX-License-Identifier: Apache-2.0
"""Draws from mixtures in the fast mode on a CPU without bfloat16: their loss terms and gradients in C++.

PyTorch passes over memory some fifty times for them, forward and backward. Here as many rows as fit a vector stay in
the nearest cache until they are done (`kernels/mixture.hpp`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tigr_core import kernels
from tigr_core.mixture import Draw


def compiled_draw(output: Tensor, noise: Tensor) -> Draw:
    """Return what `Draw.of` does of the mixtures that a head's output ``[B, K * (2 L + 1)]`` says."""
    return Draw(*_Draw.apply(output, noise))


class _Draw(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(output, noise)
        results: tuple[Tensor, ...] = kernels.load().mixture_forward(output, noise)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return kernels.load().mixture_backward(*(given.contiguous() for given in outer), *ctx.saved_tensors), None
