# SPDX-License-Identifier: Apache-2.0
"""The fast mode of training: compiled regions where they pay, and matrix products in bfloat16 where the device has it.

Parameters, sums, losses and optimisers stay float32. Results differ from the exact ones in the third digit where
products are in bfloat16, in the last ones where they are not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch._dynamo.config as dynamo_config
from torch import Tensor

from tigr_core.encoder import Encoder

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")  # of processors, as PyTorch calls them
Step = Callable[..., None]
Function = TypeVar("Function", bound=Callable[..., Any])
Loss = Callable[..., tuple[Tensor, Tensor]]  # a loss, and what else it tells
Gradients = Callable[..., tuple[Tensor, Tensor, tuple[Tensor, ...]]]  # both, detached, and the loss's gradients


def compiler_found() -> bool:
    """Whether there is the C++ compiler that PyTorch would use."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


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
    """Return how to compile on a CPU: for any number of threads up to the present one, called without Python's lock."""
    if device.type != "cpu":
        return None
    return {"cpp_wrapper": True, "cpp.threads": torch.get_num_threads(), "cpp.dynamic_threads": True}


def fast_hidden_sequence(encoder: Encoder, device: torch.device) -> Callable[..., Tensor]:
    """Return the encoder's `hidden_sequence` with fast products and states in float32.

    PyTorch's own GRU keeps the states in bfloat16 too, on a CPU, where small changes of a state that holds long are
    lost in rounding: its gradients differ four times more from the exact ones, and it is no quicker.
    """
    if device.type != "cpu":
        return with_fast_products(encoder.hidden_sequence, device)
    options = _options(device)
    forward_step = torch.compile(_forward_step, options=options)
    backward_step = torch.compile(_backward_step, options=options)

    def hidden_sequence(x: Tensor, start: Tensor) -> Tensor:
        parameters = encoder.gru.parameters()
        states: Tensor = _GRU.apply(forward_step, backward_step, x.transpose(0, 1), start, *parameters)
        return states.transpose(0, 1)

    return hidden_sequence


def _gates(of_input: Tensor, of_state: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return reset, update and candidate of a GRU, and the state's part of the candidate, ``[B, H]`` each."""
    input_reset, input_update, input_new = of_input.float().chunk(3, dim=1)
    state_reset, state_update, state_new = (of_state.float() + bias).chunk(3, dim=1)
    reset, update = torch.sigmoid(input_reset + state_reset), torch.sigmoid(input_update + state_update)
    new = 1.0 - 2.0 / (1.0 + torch.exp(2.0 * (input_new + reset * state_new)))  # tanh, which takes twice as long
    return reset, update, new, state_new


def _forward_step(
    of_input: Tensor, of_state: Tensor, bias: Tensor, state: Tensor, next_state: Tensor, rounded: Tensor
) -> None:
    """Write the next state ``[B, H]``, in float32 and rounded."""
    _, update, new, _ = _gates(of_input, of_state, bias)
    result = new + update * (state - new)
    next_state.copy_(result)
    rounded.copy_(result)


def _backward_step(
    of_input: Tensor, of_state: Tensor, bias: Tensor, state: Tensor, outer: Tensor, direct: Tensor, through: Tensor
) -> None:
    """Overwrite both gates' inputs ``[B, 3 H]`` with their gradients, and `direct` with the state's past the gates.

    The gradient of the next state is the sum of three: from outside, past the gates and through them.
    """
    gradient = outer + direct + through
    reset, update, new, state_new = _gates(of_input, of_state, bias)
    of_new = gradient * (1.0 - update) * (1.0 - new * new)
    of_update = gradient * (state - new) * update * (1.0 - update)
    of_reset = of_new * state_new * reset * (1.0 - reset)
    direct.copy_(gradient * update)
    of_input.copy_(torch.cat([of_reset, of_update, of_new], dim=1))
    of_state.copy_(torch.cat([of_reset, of_update, of_new * reset], dim=1))


class _GRU(torch.autograd.Function):
    """A GRU over x ``[T, B, X]``: all states ``[T + 1, B, H]``. The gradient can be taken once."""

    @staticmethod
    def forward(
        ctx: Any, step: Step, backward_step: Step, x: Tensor, start: Tensor,
        weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor,
    ) -> Tensor:  # fmt: skip
        (steps, batch, _), hidden, dtype = x.shape, start.shape[1], product_dtype(x.device)
        inputs = x.to(dtype).reshape(steps * batch, -1)
        weight = weight_hh.to(dtype)
        of_input = torch.addmm(bias_ih.to(dtype), inputs, weight_ih.to(dtype).t()).view(steps, batch, 3 * hidden)
        of_state = torch.empty_like(of_input)
        states = start.new_empty(steps + 1, batch, hidden)
        rounded = torch.empty_like(states, dtype=dtype)
        states[0], rounded[0] = start, start
        for t in range(steps):
            torch.mm(rounded[t], weight.t(), out=of_state[t])  # `addmm` would first write the bias out row by row
            step(of_input[t], of_state[t], bias_hh, states[t], states[t + 1], rounded[t + 1])
        ctx.tensors, ctx.step = (inputs, of_input, of_state, bias_hh, states, rounded, weight), backward_step
        return states

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inputs, of_input, of_state, bias, states, rounded, weight = ctx.tensors
        del ctx.tensors
        direct, through = torch.zeros_like(states[0]), torch.zeros_like(rounded[0])
        for t in reversed(range(len(of_input))):
            ctx.step(of_input[t], of_state[t], bias, states[t], outer[t + 1], direct, through)
            torch.mm(of_state[t], weight, out=through)
        gradient = outer[0] + direct + through
        of_input, of_state = of_input.flatten(0, 1), of_state.flatten(0, 1)
        ones = of_input.new_ones(1, len(of_input))
        weights = of_input.t() @ inputs, of_state.t() @ rounded[:-1].flatten(0, 1)
        biases = (ones @ of_input).squeeze(0), (ones @ of_state).squeeze(0)
        return None, None, None, gradient, *(g.float() for g in (*weights, *biases))
