# SPDX-License-Identifier: Apache-2.0
"""C++ of the fast mode on a CPU, compiled for the processor at hand when it is first needed, and kept."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tigr_core.errors import UserError

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "kernels.cpp"
PYTORCH = Path(torch.__file__).parent  # where pip puts its headers and libraries
_failures: dict[Path, UserError] = {}  # a compiler is asked once by all who may be fast; another makes another library
FLAGS = ("-std=gnu++20", "-O3", "-march=native", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")


def compiler() -> str:
    """Return the name of the C++ compiler, which is that of PyTorch's compiled regions too."""
    return os.environ.get("CXX", "g++")


def compiler_found() -> bool:
    """Whether there is the C++ compiler that PyTorch would use."""
    return shutil.which(compiler()) is not None


def obstacle(device: torch.device) -> str | None:
    """Return what the fast mode lacks on a device, if anything: a C++ compiler, or one whose work can be used."""
    if not compiler_found():
        return "found no C++ compiler (g++, or what CXX names)"
    if device.type == "cpu":
        try:
            load()
        except UserError as error:
            return str(error)
    return None


def are_compiled() -> bool:
    """Whether the C++ has been compiled for this machine; otherwise that takes some ten seconds."""
    return _library().exists()


@cache
def load() -> Any:
    """Compile the C++, unless it has been for this machine, and return its functions.

    Raises:
        UserError: the compiler failed, or what it made cannot be loaded.
    """
    library = _library()
    if not library.exists():
        failure = _failures.get(library) or _compile(library)
        if failure is not None:
            _failures[library] = failure
            raise failure.with_traceback(None)
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        raise UserError(
            f"cannot load {library}: {error}",
            expected="what the compiler made, in a folder that programs may be run from",
            fix="delete the file, or name another folder with XDG_CACHE_HOME=...",
        ) from error
    return torch.ops.tigr


def _compile(library: Path) -> UserError | None:
    """Compile the C++; return how that failed, if it did."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:  # others may compile it at the same time
        made = Path(folder) / library.name
        command = [*_command(), "-o", str(made), "-ltorch_cpu", "-lc10"]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            failed, said = done.returncode != 0, done.stderr.strip()[-1000:]
        except OSError as error:  # there is no such program
            failed, said = True, str(error)
        if failed:
            return UserError(
                f"{compiler()} could not compile {SOURCE.name}:\n{said}",
                expected="a C++20 compiler with OpenMP, as g++ 10 and later",
                fix="install one and name it with CXX=..., or train with training.fast=false",
            )
        made.replace(library)
    return None


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
    """Return where the library for this processor, this PyTorch and these sources is, or will be."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.[ch]pp"))]
    made_for = "\n".join((torch.__version__, _instructions(), *sources, *_command()))
    return _cache_folder() / f"kernels-{hashlib.sha256(made_for.encode()).hexdigest()[:16]}.so"


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
