# SPDX-License-Identifier: Apache-2.0
"""The fast mode of training: matrix products in bfloat16, and compiled regions where that pays.

Parameters, sums, losses and optimisers stay float32. Results differ from the exact ones in the third digit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def with_bfloat16(function: Function, device: torch.device) -> Function:
    """Return a function of tensors with its matrix products in bfloat16."""

    def fast(*arguments: Any) -> Any:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return function(*arguments)

    return fast  # type: ignore[return-value]


def compiled_with_bfloat16(function: Function, device: torch.device) -> Function:
    """As `with_bfloat16`, as one compiled region: takes 20 s or so at its first call and needs a C++ compiler."""
    compiled: Function = torch.compile(function, fullgraph=True, dynamic=False)  # type: ignore[assignment]
    return with_bfloat16(compiled, device)
