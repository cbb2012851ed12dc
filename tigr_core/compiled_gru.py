# SPDX-License-Identifier: Apache-2.0
"""The GRU of the fast mode on a CPU: each thread runs its share of the sequences from end to end.

In PyTorch's GRU all threads share every product, and wait for each other a dozen times a step. Here they wait for each
other once a sequence, and between two products one loop does what is to be done (`gru.cpp`). It is compiled for the
processor at hand when it is first needed, and kept.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tigr_core.encoder import Encoder
from tigr_core.errors import UserError

SOURCE = Path(__file__).with_name("gru.cpp")
PYTORCH = Path(torch.__file__).parent  # where pip puts its headers and libraries
FLAGS = ("-std=gnu++20", "-O3", "-march=native", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")


def compiler() -> str:
    """Return the name of the C++ compiler, which is that of PyTorch's compiled regions too."""
    return os.environ.get("CXX", "g++")


def compiled_hidden_sequence(encoder: Encoder, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the encoder's `hidden_sequence` with products in `dtype`, float32 or bfloat16, and states in float32.

    Raises:
        UserError: the compiler failed.
    """
    kernels = _kernels()

    def hidden_sequence(x: Tensor, start: Tensor) -> Tensor:
        states: Tensor = _GRU.apply(kernels, dtype, x.transpose(0, 1), start, *encoder.gru.parameters())
        return states.transpose(0, 1)

    return hidden_sequence


class _GRU(torch.autograd.Function):
    """A GRU over x ``[T, B, X]``: all states ``[T + 1, B, H]``. The gradient can be taken once."""

    @staticmethod
    def forward(
        ctx: Any, kernels: Any, dtype: torch.dtype, x: Tensor, start: Tensor,
        weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor,
    ) -> Tensor:  # fmt: skip
        (steps, batch, _), hidden = x.shape, start.shape[1]
        inputs, weight = x.flatten(0, 1).to(dtype), weight_hh.to(dtype)
        gates = torch.addmm(bias_ih.to(dtype), inputs, weight_ih.to(dtype).t()).float().view(steps, batch, 3 * hidden)
        states, state_new = start.new_empty(steps + 1, batch, hidden), start.new_empty(steps, batch, hidden)
        rounded = states if dtype == states.dtype else torch.empty_like(states, dtype=dtype)
        states[0], rounded[0] = start, start
        kernels.forward(gates, weight, bias_hh, states, rounded, state_new)
        ctx.kernels, ctx.tensors = kernels, (inputs, gates, weight, states, rounded, state_new)
        return states

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        inputs, gates, weight, states, rounded, state_new = ctx.tensors
        del ctx.tensors
        dtype = weight.dtype
        of_input = gates if dtype == gates.dtype else torch.empty_like(gates, dtype=dtype)  # memory costs as long
        of_state = torch.empty_like(of_input)
        of_start = torch.empty_like(states[0])
        ctx.kernels.backward(outer.contiguous(), gates, weight, states, state_new, of_input, of_state, of_start)
        of_input, of_state = of_input.flatten(0, 1), of_state.flatten(0, 1)
        weights = of_input.t() @ inputs, of_state.t() @ rounded[:-1].flatten(0, 1)
        biases = of_input.sum(0, dtype=torch.float32), of_state.sum(0, dtype=torch.float32)
        return None, None, None, of_start, *(weight.float() for weight in weights), *biases


def is_compiled() -> bool:
    """Whether `gru.cpp` has been compiled for this machine; otherwise that takes some ten seconds."""
    return _library().exists()


@cache
def _kernels() -> Any:
    """Compile `gru.cpp`, unless it has been for this machine, and return its functions."""
    library = _library()
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:  # others may compile it at the same time
            made = Path(folder) / library.name
            command = [*_command(), "-o", str(made), "-ltorch_cpu", "-lc10"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise UserError(
                    f"{compiler()} could not compile {SOURCE.name}:\n{done.stderr.strip()[-1000:]}",
                    expected="a C++20 compiler with OpenMP, as g++ 10 and later",
                    fix="install one and name it with CXX=..., or train with training.fast=false",
                )
            made.replace(library)
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise UserError(
            f"cannot load {library}: {error}",
            expected="what the compiler made, in a folder that programs may be run from",
            fix="delete the file, or name another folder with XDG_CACHE_HOME=...",
        ) from error
    return torch.ops.tigr_gru


def _command() -> list[str]:
    return [
        compiler(),
        *FLAGS,
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-I{PYTORCH / 'include'}",
        f"-L{PYTORCH / 'lib'}",
        str(SOURCE),
        *(str(path) for path in (PYTORCH / "lib").glob("libgomp*")),  # another OpenMP would not know of its threads
    ]


def _library() -> Path:
    """Return where the library for this processor, this PyTorch and this source is, or will be."""
    made_for = (torch.__version__, _instructions(), SOURCE.read_text(encoding="utf-8"), *_command())
    return _cache_folder() / f"gru-{hashlib.sha256(chr(10).join(made_for).encode()).hexdigest()[:16]}.so"


def _instructions() -> str:
    """Return what tells processors apart: the folder may be one of several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.node()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.node())


@cache
def _cache_folder() -> Path:
    """Return where compiled code is kept, or a folder of this process where that cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tigr"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # the latter without a home
        pass
    return Path(tempfile.mkdtemp(prefix="tigr-"))
