# SPDX-License-Identifier: Apache-2.0
"""Layers in C++ give what PyTorch's give, and the same gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import generator
from torch import Tensor

from tigr_core import kernels
from tigr_core.fast import use_kernels
from tigr_core.mlp import MLP, compiled_mlp

pytestmark = pytest.mark.skipif(not kernels.compiler_found(), reason="there is no C++ compiler: install g++")


@pytest.fixture(autouse=True)
def loaded() -> None:
    kernels.load()


def by_pytorch(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.baddbmm(bias, x, weight).relu()
    return torch.baddbmm(biases[-1], x, weights[-1])


def network(networks: int, *sizes: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and biases of networks side by side."""
    source = generator()
    shapes = [((networks, i, o), (networks, 1, o)) for i, o in itertools.pairwise(sizes)]
    parts = [[torch.randn(shape, generator=source).requires_grad_() for shape in pair] for pair in shapes]
    return [weight for weight, _ in parts], [bias for _, bias in parts]


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_two_networks_of_one_row_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]], requires_grad=True)
    hidden = torch.tensor([[[1.0, -1.0], [1.0, 0.0]], [[0.5, 0.0], [0.0, 1.0]]], requires_grad=True)
    last = torch.tensor([[[2.0], [5.0]], [[1.0], [1.0]]], requires_grad=True)
    biases = [torch.zeros(2, 1, 2, requires_grad=True), torch.tensor([[[1.0]], [[0.0]]], requires_grad=True)]
    value = compiled_mlp(x, [hidden, last], biases)
    assert value.flatten().tolist() == [2.0 * 3.0 + 1.0, 0.5 + 2.0]  # the first one's second unit is off
    of_x, of_hidden, of_last = torch.autograd.grad(value.sum(), (x, hidden, last))
    assert of_x.tolist() == [[[2.0, 2.0]], [[0.5, 1.0]]]
    assert of_hidden.tolist() == [[[2.0, 0.0], [4.0, 0.0]], [[1.0, 1.0], [2.0, 2.0]]]
    assert of_last.flatten().tolist() == [3.0, 0.0, 0.5, 2.0]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("networks", "rows", "sizes"),
    [
        (1, 1, (3, 2)),
        (2, 37, (5, 17, 33, 1)),  # of no size that fits registers
        (2, 256, (7, 32, 32, 12)),
        (1, 131, (6, 30, 5)),  # more threads than networks, and rows that they cannot share evenly
        (3, 300, (40, 50, 3)),  # more rows than at once, more networks than threads
        (1, 0, (4, 8, 2)),
    ],
)
def test_values_and_gradients_are_pytorchs(networks: int, rows: int, sizes: tuple[int, ...], threads: int) -> None:
    weights, biases = network(networks, *sizes)
    x = torch.randn(networks, rows, sizes[0], generator=generator()).requires_grad_()
    wanted, before = [x, *weights, *biases], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, expected = compiled_mlp(x, weights, biases), by_pytorch(x, weights, biases)
        assert_near(found, expected)
        outer = torch.randn(expected.shape, generator=generator())
        for a, b in zip(*(torch.autograd.grad(y, wanted, outer) for y in (found, expected)), strict=True):
            assert_near(a, b)
    finally:
        torch.set_num_threads(before)


def test_rows_with_gaps_are_refused_where_they_would_be_packed() -> None:
    weights, biases = network(1, 3, 4, 1)
    value = compiled_mlp(torch.ones(1, 3, 2).transpose(1, 2), weights, biases).sum()
    with pytest.raises(RuntimeError, match="expected rows without gaps"):
        torch.autograd.grad(value, weights)


def test_what_is_no_number_stays_none() -> None:
    weights, biases = network(1, 3, 20, 2)
    x = torch.tensor([[[1.0, 2.0, 3.0], [1.0, torch.nan, 3.0], [torch.inf, 0.0, 0.0]]], requires_grad=True)
    found, expected = compiled_mlp(x, weights, biases), by_pytorch(x, weights, biases)
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found[0, 0].isfinite().all() and found[0, 1].isnan().all()
    assert torch.autograd.grad(found.sum(), weights[0])[0].isnan().any()


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        ((2, 3), (2, 3, 1), (2, 1, 1), "expected .networks, rows, size"),
        ((2, 4, 3), (2, 5, 1), (2, 1, 1), "2 networks with 3 inputs"),
        ((2, 4, 3), (1, 3), (1,), "2 networks with 3 inputs"),
        ((1, 4, 3), (1, 3, 2), (1, 1, 1), "a bias of"),
    ],
)
def test_shapes_that_do_not_fit_are_told(
    x: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        compiled_mlp(torch.ones(x), [torch.ones(weight)], [torch.ones(bias)])


def test_second_order_is_refused() -> None:
    weights, biases = network(1, 3, 4, 1)
    value = compiled_mlp(torch.ones(1, 2, 3), weights, biases).sum()
    with pytest.raises(NotImplementedError, match="first order only"):
        torch.autograd.grad(value, weights, create_graph=True)


def test_networks_use_it_when_asked_to() -> None:
    torch.manual_seed(0)
    network, x = MLP(5, (24, 24), 4), torch.randn(2, 9, 5)  # any leading dimensions
    exact = network(x)
    use_kernels(network)
    assert network.in_kernels and network(torch.ones(0, 5)).shape == (0, 4)
    fast = network(x)
    assert_near(fast, exact)
    assert not torch.equal(fast, exact)
