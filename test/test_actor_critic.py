# SPDX-License-Identifier: Apache-2.0
"""Policy density and twin critics against plain formulas and plain layers."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import generator
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from tigr_core.actor_critic import Actor, TwinCritic, TwinLayerNorm, TwinLinear, tanh_gaussian_log_prob


def constant_actor(mean: float, log_std: float) -> Actor:
    """An actor with one action whose outputs before clipping are these numbers."""
    actor = Actor(1, 1, 1, (4,))
    last = actor.net[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([mean, log_std])
    return actor


def log_prob(raw: float, mean: float, std: float) -> float:
    noise = torch.tensor([(raw - mean) / std])
    return tanh_gaussian_log_prob(torch.tensor([raw]), noise, torch.tensor([std]).log()).item()


def test_log_prob_by_hand() -> None:
    half_log_two_pi = 0.918939
    assert log_prob(0.0, 0.0, 1.0) == pytest.approx(-half_log_two_pi, abs=1e-5)
    # -1/2 - ln sqrt(2 pi) - ln(1 - tanh(1)^2), and 1 - 0.761594^2 = 0.419974
    assert log_prob(1.0, 0.0, 1.0) == pytest.approx(-0.5 - half_log_two_pi - math.log(0.419974), abs=1e-5)
    # far out 1 - tanh(u)^2 = 4 exp(-2 u): finite where tanh rounds to 1
    assert log_prob(20.0, 20.0, 1.0) == pytest.approx(-half_log_two_pi - math.log(4.0) + 40.0, abs=1e-4)


def test_log_prob_equals_torch_distributions_and_sums_over_actions() -> None:
    noise = torch.randn((50, 3), generator=generator(), dtype=torch.float64)
    mean, log_std = torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([-1.0, 0.3, 0.0]).double()
    raw = mean + log_std.exp() * noise
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    expected = reference.log_prob(torch.tanh(raw)).sum(dim=-1)
    torch.testing.assert_close(tanh_gaussian_log_prob(raw, noise, log_std), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("given", "clipped"), [(50.0, 2.0), (-50.0, -20.0), (0.7, 0.7)])
def test_log_std_is_clipped(given: float, clipped: float) -> None:
    _, log_std = constant_actor(0.0, given)(torch.zeros(1, 1), torch.zeros(1, 1))
    assert log_std.item() == pytest.approx(clipped)


def test_act_is_the_mode_without_and_what_it_picks_with_noise() -> None:
    actor, inputs, noise = constant_actor(0.3, math.log(0.5)), torch.zeros(3, 1), torch.tensor([[-1.0], [0.0], [2.0]])
    assert actor.act(inputs, inputs).flatten().tolist() == pytest.approx([math.tanh(0.3)] * 3)
    picked = [math.tanh(raw) for raw in (0.3 - 0.5, 0.3, 0.3 + 2.0 * 0.5)]
    assert actor.act(inputs, inputs, noise).flatten().tolist() == pytest.approx(picked)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_twin_critic_equals_two_plain_networks(layer_norm: bool) -> None:
    torch.manual_seed(0)
    critic = TwinCritic(2, 3, 1, (6, 5), layer_norm=layer_norm)
    for norm in critic.norms or []:
        for parameter in norm.parameters():
            nn.init.uniform_(parameter, -1.0, 1.0)
    obs, latent, action = torch.randn(4, 2), torch.randn(4, 3), torch.randn(4, 1)
    found = critic(obs, latent, action)
    assert found.shape == (2, 4)
    for twin in (0, 1):
        value: Tensor = torch.cat([obs, latent, action], dim=1)
        for index, layer in enumerate(critic.layers):
            value = plain_linear(layer, twin)(value)
            if index < 2:
                value = torch.relu(plain_norm(critic.norms[index], twin)(value) if critic.norms else value)
        torch.testing.assert_close(found[twin], value.squeeze(1))
    assert not torch.allclose(found[0], found[1])


def plain_linear(twins: nn.Module, which: int) -> nn.Linear:
    assert isinstance(twins, TwinLinear)
    layer = nn.Linear(*twins.weight.shape[1:])
    layer.weight.data, layer.bias.data = twins.weight[which].t(), twins.bias[which, 0]
    return layer


def plain_norm(twins: nn.Module, which: int) -> nn.LayerNorm:
    assert isinstance(twins, TwinLayerNorm)
    layer = nn.LayerNorm(twins.size)
    layer.weight.data, layer.bias.data = twins.weight[which, 0], twins.bias[which, 0]
    return layer
