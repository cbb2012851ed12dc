# SPDX-License-Identifier: Apache-2.0
"""Draws from mixtures in C++ are PyTorch's, and so are their gradients."""

from __future__ import annotations

import pytest
import torch
from helpers import generator
from torch import Tensor

from tigr_core import kernels
from tigr_core.compiled_mixture import compiled_draw
from tigr_core.mixture import Draw, MixturePosterior

pytestmark = pytest.mark.skipif(not kernels.compiler_found(), reason="there is no C++ compiler: install g++")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def drawn(output: Tensor, noise: Tensor, *, compiled: bool) -> tuple[Draw, Tensor]:
    """Return a draw, and the gradient of the output of a sum in which each number has a weight of its own."""
    output = output.clone().requires_grad_()
    if compiled:
        draw = compiled_draw(output, noise)
    else:
        draw = Draw.of(MixturePosterior.from_head(output, *noise.shape[1:]), noise)
    weights = (normal(*part.shape, seed=2 + k) for k, part in enumerate(draw))
    total = torch.stack([(weight * part).sum() for weight, part in zip(weights, draw, strict=True)]).sum()
    return Draw(*(part.detach() for part in draw)), torch.autograd.grad(total, output)[0]


@pytest.mark.parametrize("size", [1, 37])
@pytest.mark.parametrize(("components", "latent_dim"), [(1, 1), (3, 2), (8, 8), (2, 17)])
def test_draws_and_gradients_are_pytorchs(size: int, components: int, latent_dim: int) -> None:
    output, noise = 2.0 * normal(size, components * (2 * latent_dim + 1)), normal(size, components, latent_dim, seed=1)
    (found, of_output), (expected, gradient) = (drawn(output, noise, compiled=compiled) for compiled in (True, False))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(of_output, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pre_std", [-80.0, -50.0, -10.0, 10.0, 50.0])
def test_deviations_of_all_sizes(pre_std: float) -> None:
    output, noise = normal(9, 2 * 5), normal(9, 2, 2, seed=1)
    output[:, 2:4] = pre_std
    (found, of_output), (expected, gradient) = (drawn(output, noise, compiled=compiled) for compiled in (True, False))
    torch.testing.assert_close(found.kl, expected.kl)
    torch.testing.assert_close(of_output, gradient, rtol=1e-4, atol=1e-4)


def test_one_of_many_logits_that_is_far_above_the_others() -> None:
    output = normal(9, 3 * 3)
    output[:, 5] = 200.0
    draw, _ = drawn(output, torch.zeros(9, 3, 1), compiled=True)
    torch.testing.assert_close(draw.latent[:, 0], output[:, 3])


def test_what_is_no_number_stays_none() -> None:
    output, noise = normal(20, 2 * 5), normal(20, 2, 2)
    output[11, 3] = torch.nan
    draw, gradient = drawn(output, noise, compiled=True)
    for values in (draw.latent, draw.kl, draw.separation, gradient):
        wrong = values.reshape(20, -1).isnan().any(dim=1)
        assert wrong.nonzero().flatten().tolist() == [11]


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(RuntimeError, match="expected 80"):
        compiled_draw(normal(8, 9), normal(8, 2, 2))
    with pytest.raises(RuntimeError, match="found an output of shape"):
        compiled_draw(normal(16, 5), normal(8, 2, 2))
