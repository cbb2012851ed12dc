# SPDX-License-Identifier: Apache-2.0
"""Means of weights over the last epochs, which act better and hold stiller than the weights of any one epoch.

Actor and encoder of SAC keep moving about what they learned; their running mean does not (Polyak averaging; for deep
networks Izmailov et al., arXiv 1803.05407). Only what is evaluated and shipped is averaged: what collects and learns is
not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from tigr_core.model import TaskInferenceModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def running_mean(model: TaskInferenceModel, epochs: int) -> AveragedModel:
    """Return the CPU mean of a model's weights over about so many updates: plain at first, then exponential.

    Buffers, the normaliser's statistics among them, are those of the last update.
    """

    @torch.no_grad()
    def move(means: Tensors, newest: Tensors, updates: Tensor | int) -> None:
        torch._foreach_lerp_(list(means), list(newest), max(1.0 / epochs, 1.0 / (int(updates) + 1)))

    return AveragedModel(model, device=torch.device("cpu"), multi_avg_fn=move)
