# SPDX-License-Identifier: Apache-2.0
"""The fast mode of training: networks, mixtures and SAC's steps in C++ on a CPU without bfloat16, elsewhere compiled
regions and matrix products in bfloat16, where the device has it.

Parameters, sums, losses and optimisers stay float32. Results differ from the exact ones in the third digit where
products are in bfloat16, in the last ones where they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch._dynamo.config as dynamo_config
from torch import Tensor, nn

from tigr_core import kernels
from tigr_core.compiled_gru import compiled_hidden_sequence
from tigr_core.encoder import Encoder
from tigr_core.mlp import MLP

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # of processors, as PyTorch calls them
Function = TypeVar("Function", bound=Callable[..., Any])
Loss = Callable[..., tuple[Tensor, Tensor]]  # a loss, and what else it tells
Gradients = Callable[..., tuple[Tensor, Tensor, tuple[Tensor, ...]]]  # both, detached, and the loss's gradients


def product_dtype(device: torch.device) -> torch.dtype:
    """Return what matrix products are computed in: bfloat16 where the device multiplies it, else float32.

    A processor without instructions for it takes fifty times as long (AVX2, PyTorch 2.13), and many a desktop has none.
    """
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        has_bfloat16 = any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def has_kernels(device: torch.device) -> bool:
    """Whether the fast mode's networks are C++ of our own: on a CPU, where products are in float32."""
    return device.type == "cpu" and product_dtype(device) == torch.float32


def use_kernels(*networks: nn.Module) -> None:
    """Have the networks' layers evaluated in C++ from now on."""
    kernels.load()
    for part in (part for network in networks for part in network.modules()):
        if isinstance(part, MLP):
            part.in_kernels = True


def with_fast_products(function: Function, device: torch.device) -> Function:
    """Return a function of tensors with its matrix products in `product_dtype`."""
    dtype = product_dtype(device)
    if dtype == torch.float32:
        return function

    def fast(*arguments: Any) -> Any:
        with torch.autocast(device.type, dtype=dtype):
            return function(*arguments)

    return fast  # type: ignore[return-value]


def gradients_of(loss_of: Loss, parameters: Sequence[Tensor]) -> Gradients:
    """Return a function of what `loss_of` reads that gives its loss, what else it tells and the gradients."""

    def gradients(*arguments: Any) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        loss, told = loss_of(*arguments)
        return loss.detach(), told.detach(), torch.autograd.grad(loss, parameters)

    return gradients


def compiled_gradients(loss_of: Loss, parameters: Sequence[Tensor], device: torch.device) -> Gradients:
    """As `gradients_of` with fast products: loss and gradients are one compiled region.

    Takes 20 s or so at its first call and needs a C++ compiler. Where PyTorch is too old to compile gradients, the
    loss alone is compiled.
    """
    if not hasattr(dynamo_config, "trace_autograd_ops"):
        return with_fast_products(
            gradients_of(torch.compile(loss_of, fullgraph=True, dynamic=False), parameters), device
        )
    dynamo_config.trace_autograd_ops = True
    compiled = torch.compile(gradients_of(loss_of, parameters), fullgraph=True, dynamic=False, options=_options(device))
    return with_fast_products(compiled, device)


def _options(device: torch.device) -> dict[str, Any] | None:
    """Return how to compile on a CPU: to be called without Python's lock, with any number of threads up to the present
    one, and without checks of sizes, which take longer than some of the products."""
    if device.type != "cpu":
        return None
    threads = {"cpp.threads": torch.get_num_threads(), "cpp.dynamic_threads": True}
    return {"cpp_wrapper": True, "size_asserts": False, **threads}


def fast_hidden_sequence(encoder: Encoder, device: torch.device) -> Callable[..., Tensor]:
    """Return the encoder's `hidden_sequence` with fast products and, on a CPU, states in float32.

    PyTorch's own GRU keeps the states in bfloat16 too, on a CPU, where small changes of a state that holds long are
    lost in rounding: its gradients differ four times more from the exact ones, and it is no quicker.
    """
    if device.type != "cpu":
        return with_fast_products(encoder.hidden_sequence, device)
    return compiled_hidden_sequence(encoder, product_dtype(device))
