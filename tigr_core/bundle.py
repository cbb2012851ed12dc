# SPDX-License-Identifier: Apache-2.0
"""The bundle: one file with everything that a controller needs, and where it came from.

A safetensors file (no pickle) whose metadata holds one JSON document, `BundleInfo`. Loading is strict: schema, names
and shapes of all tensors, finite values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from envs.spec import RobotSpec
from tigr_core.config import ModelConfig
from tigr_core.errors import UserError
from tigr_core.files import write_atomically
from tigr_core.model import TaskInferenceModel

SCHEMA_VERSION = 1
METADATA_KEY = "tigr_bundle"
T = TypeVar("T")


class Source(BaseModel):
    """Where a bundle came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    config: dict[str, Any]
    env_steps: int
    sac_steps: int
    evaluation: dict[str, float]


class BundleInfo(BaseModel):
    """The JSON part of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: int = SCHEMA_VERSION
    env_id: str
    robot: dict[
        str, Any
    ]  # envs.spec.RobotSpec: observation and actuators in order, with units and limits; control period
    base_tasks: list[str]  # in label order
    task_units: list[str]
    component_to_task: list[int]  # [K], label of the base task that a component stands for
    model: ModelConfig
    latent_centre: list[float]  # [L]
    latent_basis: list[list[float]]  # [up to 3, L], fixed directions to draw the latent space along
    source: Source
    sha256: Annotated[str, Field(exclude=True)] = ""  # of the file, set when loaded

    @model_validator(mode="after")
    def _fits_together(self) -> BundleInfo:
        sizes = {
            "component_to_task": (len(self.component_to_task), self.model.num_components),
            "task_units": (len(self.task_units), len(self.base_tasks)),
            "latent_centre": (len(self.latent_centre), self.model.latent_dim),
        }
        wrong = [
            f"{name} has {found} entries, expected {wanted}"
            for name, (found, wanted) in sizes.items()
            if found != wanted
        ]
        if not all(0 <= task < len(self.base_tasks) for task in self.component_to_task):
            wrong.append(
                f"component_to_task {self.component_to_task} names more than {len(self.base_tasks)} base tasks"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


@dataclass(frozen=True)
class Bundle:
    """A model ready to act, and its description."""

    model: TaskInferenceModel
    info: BundleInfo

    @property
    def robot(self) -> RobotSpec:
        """Observation layout, actuators and control period."""
        return RobotSpec.from_dict(self.info.robot)

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        data = to_safetensors(tensors, metadata={METADATA_KEY: self.info.model_dump_json()})
        write_atomically(path, lambda file: file.write(data))


def load_bundle(path: str | Path, *, env_id: str | None = None) -> Bundle:
    """Load a bundle, optionally for one environment; whatever is wrong with it is said in a `UserError`."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"no bundle at {path}",
            expected="a .tigr file",
            fix="check the path; a run folder holds best.tigr",
        )
    tensors, document, digest = _read(path)
    info = _parse_info(path, document).model_copy(update={"sha256": digest})
    if env_id is not None and info.env_id != env_id:
        raise UserError(
            f"{path} was trained for {info.env_id}",
            expected=f"a bundle for {env_id}",
            fix="choose the matching bundle",
        )
    robot = _damaged_on_error(path, lambda: RobotSpec.from_dict(info.robot))
    model = TaskInferenceModel(info.model, len(robot.observation), len(robot.actuators))
    _damaged_on_error(path, lambda: model.load_state_dict(tensors, strict=True))
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{path}: not finite: {', '.join(broken)}", expected="finite weights", fix="train again")
    return Bundle(model.eval().requires_grad_(False), info)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], str | None, str]:
    try:
        with safe_open(str(path), framework="pt") as file:
            document = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return tensors, document, hashlib.sha256(path.read_bytes()).hexdigest()
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _parse_info(path: Path, document: str | None) -> BundleInfo:
    if document is None:
        raise UserError(
            f"{path} holds no bundle description",
            expected="a bundle written by `tigr train`",
            fix="choose another file",
        )
    version = _damaged_on_error(path, lambda: json.loads(document).get("schema_version"))
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path} has bundle schema {version}",
            expected=f"schema {SCHEMA_VERSION}",
            fix="use the release that wrote it",
        )
    return _damaged_on_error(path, lambda: BundleInfo.model_validate_json(document))


def _damaged_on_error(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (ValidationError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(
        f"{path} is damaged or no bundle: {reason}",
        expected="a complete .tigr file",
        fix="copy or train it again",
    )
