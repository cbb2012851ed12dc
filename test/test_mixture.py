# SPDX-License-Identifier: Apache-2.0
"""The mixture over the latent task, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import generator

from tigr_core.mixture import MixturePosterior

LOGITS = [0.0, math.log(3.0)]  # weights 1/4 and 3/4


def mixture(mean: list[list[float]], std: list[list[float]], logits: list[float]) -> MixturePosterior:
    return MixturePosterior(torch.tensor(logits), torch.tensor(mean), torch.tensor(std))


def test_from_head_reads_mean_std_logit_component_by_component() -> None:
    one = math.log(math.e - 1.0)  # softplus(one) = log(1 + e - 1) = 1
    output = [1.0, 2.0, 0.0, one, LOGITS[0], 3.0, -4.0, one, 0.0, LOGITS[1]]
    posterior = MixturePosterior.from_head(torch.tensor(output), 2, 2)
    torch.testing.assert_close(posterior.mean, torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    torch.testing.assert_close(posterior.std, torch.tensor([[math.log(2.0), 1.0], [1.0, math.log(2.0)]]))
    torch.testing.assert_close(posterior.logits, torch.tensor(LOGITS))


def test_weights_latent_and_entropy() -> None:
    posterior = mixture([[1.0, 2.0], [3.0, -4.0]], [[1.0, 1.0], [1.0, 1.0]], LOGITS)
    torch.testing.assert_close(posterior.weights, torch.tensor([0.25, 0.75]))
    # 1/4 * 1 + 3/4 * 3 = 2.5; 1/4 * 2 - 3/4 * 4 = -2.5
    torch.testing.assert_close(posterior.latent, torch.tensor([2.5, -2.5]))
    assert posterior.entropy.item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert mixture([[1.0], [1.0]], [[1.0], [1.0]], [0.0, -1000.0]).entropy.item() == 0.0


def test_kl_to_the_prior_sums_over_components_and_dimensions() -> None:
    # KL(N(m, s^2) || N(0, 1)) = (s^2 + m^2 - 1 - ln s^2) / 2: 0.5 for (1, 1), (3 - ln 4) / 2 for (0, 2), 0 for (0, 1)
    posterior = mixture([[1.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [1.0, 1.0]], LOGITS)
    assert posterior.kl_to_prior().item() == pytest.approx(0.5 + (3.0 - math.log(4.0)) / 2.0)


def test_separation_sums_over_pairs_of_components() -> None:
    # squared distances: 3^2 + 4^2 = 25, 2^2 = 4, 3^2 + 2^2 = 13; summed std: 0.3, 0.5, 0.2
    posterior = mixture([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]], [[0.1, 0.2], [0.4, 0.1], [0.1, 0.1]], [0.0, 0.0, 0.0])
    assert posterior.separation().item() == pytest.approx(0.8 / 25.0 + 0.5 / 4.0 + 0.7 / 13.0)


def test_samples_have_the_mean_and_variance_of_the_weighted_sum() -> None:
    one = mixture([[1.0], [3.0]], [[2.0], [0.4]], LOGITS)
    mean, std = (values.expand(40_000, 2, 1) for values in (one.mean, one.std))
    z = MixturePosterior(one.logits.expand(40_000, 2), mean, std).sample(torch.randn(mean.shape, generator=generator()))
    # variance: (2 / 4)^2 + (3 / 4 * 0.4)^2 = 0.34; the mean of 40,000 has a std of 0.003
    assert z.mean().item() == pytest.approx(2.5, abs=0.012)
    assert z.var().item() == pytest.approx(0.34, rel=0.03)


def test_samples_are_reparameterised() -> None:
    posterior = mixture([[1.0], [3.0]], [[2.0], [0.4]], LOGITS)
    for tensor in (posterior.mean, posterior.std):
        tensor.requires_grad_()
    posterior.sample(torch.randn(posterior.mean.shape, generator=generator(5))).sum().backward()
    # z = sum_k w_k (mean_k + std_k noise_k): dz / dmean_k = w_k, dz / dstd_k = w_k noise_k
    noise = torch.randn((2, 1), generator=generator(5))
    torch.testing.assert_close(posterior.mean.grad, torch.tensor([[0.25], [0.75]]))
    torch.testing.assert_close(posterior.std.grad, torch.tensor([[0.25], [0.75]]) * noise)


def test_one_component_is_a_plain_gaussian() -> None:
    posterior = mixture([[1.0, -2.0]], [[0.5, 0.5]], [7.0])
    assert posterior.weights.tolist() == [1.0]
    assert posterior.latent.tolist() == [1.0, -2.0]
    assert posterior.entropy.item() == 0.0
    assert posterior.separation().item() == 0.0
