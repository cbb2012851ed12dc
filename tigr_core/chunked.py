# SPDX-License-Identifier: Apache-2.0
"""Sums over the rows of a batch too large for a processor's cache, with their gradients, a chunk of rows at a time.

A network applied to tens of thousands of rows passes activations of tens of megabytes through memory at every layer,
forward and again backward. Here a chunk's gradients are formed while its activations are still in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Sums = Callable[..., tuple[Tensor, ...]]  # (rows of the variable, rows of each constant) -> scalars


def sum_chunks(
    sums: Sums, chunk: int, variable: Tensor, constants: Sequence[Tensor], parameters: Iterable[Tensor]
) -> tuple[Tensor, ...]:
    """Return ``sums(variable, *constants)``, which adds up over rows: the scalars of all chunks of rows added up.

    Gradients reach `variable` and `parameters`, which have to be all that `sums` uses. They are formed at once, where
    gradients are wanted at all.
    """
    if torch.is_grad_enabled() and chunk < len(variable):
        return _SumChunks.apply(sums, chunk, tuple(constants), variable, *parameters)
    parts = zip(*(t.split(chunk) for t in (variable, *constants)), strict=True)
    return tuple(torch.stack(values).sum() for values in zip(*(sums(*part) for part in parts), strict=True))


class _SumChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, sums: Sums, chunk: int, constants: tuple[Tensor, ...], variable: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        totals: list[Tensor] = []
        of_rows: list[list[Tensor]] = []  # by scalar, then by chunk
        of_parameters: list[list[Tensor]] = []  # by scalar, then by parameter
        for part, *rest in zip(*(t.split(chunk) for t in (variable.detach(), *constants)), strict=True):
            part.requires_grad_()
            with torch.enable_grad():
                values = sums(part, *rest)
            gradients = [
                torch.autograd.grad(v, (part, *parameters), retain_graph=v is not values[-1], materialize_grads=True)
                for v in values
            ]
            if not totals:
                totals, of_rows = [v.detach() for v in values], [[g[0]] for g in gradients]
                of_parameters = [list(g[1:]) for g in gradients]
                continue
            for index, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
                totals[index] += value.detach()
                of_rows[index].append(gradient[0])
                torch._foreach_add_(of_parameters[index], gradient[1:])
        ctx.gradients = [(torch.cat(r), *p) for r, p in zip(of_rows, of_parameters, strict=True)]
        return tuple(totals)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        totals = (
            sum((o * g for o, g in zip(outer, gradients, strict=True)), start=outer[0].new_zeros(()))
            for gradients in zip(*ctx.gradients, strict=True)
        )
        return None, None, None, *totals
