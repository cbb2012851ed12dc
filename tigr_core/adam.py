# SPDX-License-Identifier: Apache-2.0
"""Adam (Kingma and Ba, arXiv 1412.6980) for steps of milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tigr_core.errors import UserError


class Adam(torch.optim.Adam):
    """PyTorch's fused Adam that also steps along gradients as they are given.

    `descend` leaves out what `step` looks up and checks anew each time, half of the time of a small step.

    Args:
        parameters: those that learn at the rate `lr`, or groups of them with rates of their own as PyTorch has them.
        capturable: whether its steps can be captured on a GPU.

    Raises:
        UserError: PyTorch has no fused Adam for the parameters' device, as before 2.4 on CPUs.
    """

    def __init__(self, parameters: Iterable[Any], lr: float = 0.0, *, capturable: bool = False) -> None:
        try:
            super().__init__(parameters, lr=lr, fused=True, capturable=capturable)
        except RuntimeError as error:
            raise UserError(
                f"PyTorch {torch.__version__} cannot train here: {error}",
                expected="2.4 or later, and a device for which it has fused Adam",
                fix="pip install 'torch>=2.4'",
            ) from error
        self._parts: tuple[list[Tensor], ...] | None = None

    @torch.no_grad()
    def descend(self, gradients: Sequence[Tensor]) -> None:
        """Do a step along gradients, one for each parameter in their order."""
        parameters, means, squares, steps = self.parts()
        # PyTorch's fused Adam reads memory in its order: gradients have to lie there as their parameters do.
        lying = [
            gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
        torch._foreach_add_(steps, 1)
        end = 0
        for group in self.param_groups:
            begin, end = end, end + len(group["params"])
            parts = (values[begin:end] for values in (parameters, lying, means, squares, [], steps))
            beta1, beta2 = group["betas"]
            torch._fused_adam_(
                *parts, amsgrad=False, lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"],
                maximize=False,
            )  # fmt: skip

    def parts(self) -> tuple[list[Tensor], ...]:
        """Return parameters, running means of their gradients and of these squared, and numbers of steps."""
        if self._parts is None:
            self._parts = self._begun()
        return self._parts

    def _begun(self) -> tuple[list[Tensor], ...]:
        parameters: list[Tensor] = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        return parameters, *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._parts = None
