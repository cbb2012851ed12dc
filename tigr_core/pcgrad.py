# SPDX-License-Identifier: Apache-2.0
"""PCGrad (Yu et al., arXiv 2001.06782): gradients of groups of a batch that oppose each other are made orthogonal.

Groups are the base tasks, or the components of the mixture: the most likely one, or one drawn by the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tigr_core.config import PCGradGroups

TINY = 1e-12  # so that a gradient of zero opposes nothing


def groups_of(
    groups: PCGradGroups, base_task: Tensor, weights: Callable[[], Tensor], generator: torch.Generator
) -> Tensor:
    """Return the group of each element ``[B]``, from base tasks ``[B]`` or mixture weights ``[B, K]``."""
    if groups == "true_task":
        return base_task
    if groups == "most_likely_task":
        return weights().argmax(dim=-1)
    return torch.multinomial(weights(), 1, generator=generator).squeeze(-1)


def masks_of(group: Tensor) -> list[Tensor]:
    """Return for each group that there is which elements ``[B]`` are in it."""
    return [group == number for number in group.unique()]


def descend(losses: Iterable[Tensor], parameters: Iterable[Tensor], generator: torch.Generator) -> None:
    """Set the gradients of `parameters` to the sum of those of `losses`, none of them against another's direction."""
    parameters = list(parameters)
    flat = []
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        flat.append(torch.cat([gradient.flatten() for gradient in found]))
    order = torch.randperm(len(flat), generator=generator, device=generator.device)
    total = without_conflicts(torch.stack(flat)[order.to(flat[0].device)]).sum(dim=0)
    for parameter, gradient in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)


def without_conflicts(gradients: Tensor) -> Tensor:
    """Take from each gradient ``[N, P]``, in turn, what it has against the direction of each other one."""
    projected = gradients.clone()
    for other in gradients:
        against = (projected @ other).clamp_max(0.0) / (other @ other + TINY)
        projected -= against.unsqueeze(1) * other
    return projected
