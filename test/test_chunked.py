# SPDX-License-Identifier: Apache-2.0
"""Sums in chunks of rows: the numbers and gradients of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tigr_core.chunked import sum_chunks


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_give_the_sums_and_gradients_of_the_whole(chunk: int) -> None:
    torch.manual_seed(0)
    left, right = nn.Linear(2, 3), nn.Linear(2, 1)
    variable, constant = torch.randn(7, 2, requires_grad=True), torch.randn(7, 4)
    parameters = [*left.parameters(), *right.parameters()]

    def sums(rows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        assert len(rows) <= chunk or len(rows) == 7
        return left(rows).square().sum(dim=1).mul(scale[:, 0]).sum(), right(rows).exp().sum()

    def weighted(first: Tensor, second: Tensor) -> Tensor:  # what comes after has a gradient too
        return 2.0 * first * first - second

    whole = weighted(left(variable).square().sum(dim=1).mul(constant[:, 0]).sum(), right(variable).exp().sum())
    parts = weighted(*sum_chunks(sums, chunk, variable, (constant,), parameters))
    torch.testing.assert_close(parts, whole)
    expected = torch.autograd.grad(whole, (variable, *parameters))
    torch.testing.assert_close(torch.autograd.grad(parts, (variable, *parameters)), expected)
    with torch.no_grad():
        torch.testing.assert_close(weighted(*sum_chunks(sums, chunk, variable, (constant,), parameters)), whole)
