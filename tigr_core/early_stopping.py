# SPDX-License-Identifier: Apache-2.0
"""When to end an epoch of task inference before its last step."""

from __future__ import annotations

import math
from typing import Any


class EarlyStopping:
    """Ends an epoch once its lowest validation loss lies more than `patience` steps back; 0: never."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.begin(0)

    def begin(self, step: int) -> None:
        """Begin an epoch: nothing is known of its loss yet."""
        self.lowest, self.lowest_step, self.reached = math.inf, step, False

    def update(self, step: int, loss: float) -> None:
        """Take the validation loss after so many steps."""
        if loss < self.lowest:
            self.lowest, self.lowest_step = loss, step
        self.reached = 0 < self.patience < step - self.lowest_step

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"lowest": self.lowest, "lowest_step": self.lowest_step, "reached": self.reached}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        self.lowest, self.lowest_step, self.reached = state["lowest"], state["lowest_step"], state["reached"]
