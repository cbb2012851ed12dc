# SPDX-License-Identifier: Apache-2.0
"""Means of learner metrics over an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Metrics = Mapping[str, Tensor | float]


class MetricMeans:
    """Running means of learner metrics, kept on their device so that adding one never waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, prefix: str, metrics: Metrics, steps: int = 1) -> None:
        """Count the metrics of a step, or the means of several."""
        for name, value in metrics.items():
            key = f"{prefix}/{name}"
            total = self._sums.get(key)
            if total is None:
                self._sums[key] = (value.double() if isinstance(value, Tensor) else value) * steps
            elif isinstance(value, Tensor):  # what a checkpoint held is on the CPU: a sum is not changed in place
                self._sums[key] = torch.add(torch.as_tensor(total, dtype=torch.float64), value, alpha=steps)
            else:
                self._sums[key] = total + value * steps
            self._counts[key] = self._counts.get(key, 0) + steps

    def pop(self) -> dict[str, float]:
        """Return the means and start anew."""
        means = {key: float(value) / self._counts[key] for key, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the sums for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
