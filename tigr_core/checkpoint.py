# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything needed to go on bit for bit on the same machine, without executable pickles."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tigr_core.errors import UserError
from tigr_core.files import write_atomically

SCHEMA_VERSION = 2


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and plain values; the previous checkpoint stays until it is complete."""
    write_atomically(path, lambda file: torch.save({"schema_version": SCHEMA_VERSION, **state}, file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint back onto the CPU."""
    if not path.is_file():
        raise UserError(
            f"no checkpoint at {path}",
            expected="a run folder of `tigr train`",
            fix="check the path of --resume",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = state["schema_version"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged: {reason}", expected="a complete checkpoint", fix="start a new run"
        ) from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has checkpoint schema {version}",
            expected=f"schema {SCHEMA_VERSION}",
            fix="use the release that wrote it",
        )
    return dict(state)


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimiser but for its learning rates, which the configuration has, and for what suits its device."""
    kept = [{name: group[name] for name in ("lr", "fused", "capturable")} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, settings in zip(optimiser.param_groups, kept, strict=True):
        group |= settings


def rng_state(rng: np.random.Generator, generator: torch.Generator) -> dict[str, Any]:
    """Return the state of both random generators as plain values."""
    return {"numpy": rng.bit_generator.state, "torch": generator.get_state()}


def restore_rng(state: dict[str, Any], rng: np.random.Generator, generator: torch.Generator) -> None:
    """Set both random generators to a saved state."""
    rng.bit_generator.state = state["numpy"]
    generator.set_state(state["torch"])
