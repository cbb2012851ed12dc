# SPDX-License-Identifier: Apache-2.0
"""Adam's short way gives what PyTorch's gives, bit for bit, and they may take turns."""

from __future__ import annotations

import pytest
import torch
from helpers import generator
from torch import Tensor

from tigr_core.adam import Adam
from tigr_core.errors import UserError

GRADIENTS = [[torch.randn(shape, generator=generator(i)) for shape in ((3, 2), (4,))] for i in range(6)]


def parameters() -> list[Tensor]:
    return [torch.ones(3, 2).requires_grad_(), torch.zeros(4).requires_grad_()]


def step(optimiser: torch.optim.Optimizer, gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(optimiser.param_groups[0]["params"], gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


def test_the_first_step_by_hand() -> None:
    (parameter,) = parameters()[1:]
    Adam([parameter], lr=0.1).descend([torch.tensor([2.0, -3.0, 1e-3, 0.0])])
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.1, 0.1, -0.1, 0.0]), rtol=1e-4, atol=0.0)


def test_groups_have_rates_of_their_own() -> None:
    first, second = parameters()
    gradients = [torch.ones(3, 2), torch.ones(4)]
    Adam([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.2}]).descend(gradients)
    torch.testing.assert_close(first.detach(), torch.full((3, 2), 0.9))
    torch.testing.assert_close(second.detach(), torch.full((4,), -0.2))


def test_a_pytorch_without_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("`fused=True` requires supported devices")

    monkeypatch.setattr(torch.optim.Adam, "__init__", refuse)
    with pytest.raises(UserError, match=r"cannot train here: `fused=True`.*\n?.*2\.4 or later"):
        Adam(parameters(), lr=0.1)


def test_gradients_lie_in_memory_as_they_like() -> None:
    found, expected = parameters()[:1], parameters()[:1]
    gradient = torch.arange(6.0).reshape(2, 3).t()
    Adam(found, lr=0.1).descend([gradient])
    Adam(expected, lr=0.1).descend([gradient.contiguous()])
    assert torch.equal(found[0], expected[0]) and found[0][0, 0] == 1.0


def test_both_ways_and_a_restored_one_are_pytorchs() -> None:
    expected, found = parameters(), parameters()
    pytorchs, ours = torch.optim.Adam(expected, lr=0.01, fused=True), Adam(found, lr=0.01)
    kept: list[Tensor] = []
    for number, gradients in enumerate(GRADIENTS):
        step(pytorchs, gradients)
        if number == 3:
            saved = ours.state_dict()
            ours = Adam(found, lr=0.5)
            ours.descend(GRADIENTS[0])  # what it knows is forgotten
            with torch.no_grad():
                for parameter, before in zip(found, kept, strict=True):
                    parameter.copy_(before)
            ours.load_state_dict(saved)
        if number == 1:
            step(ours, gradients)
        else:
            ours.descend(gradients)
        kept = [parameter.detach().clone() for parameter in found]
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
