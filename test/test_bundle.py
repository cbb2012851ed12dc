# SPDX-License-Identifier: Apache-2.0
"""Bundles, checkpoints and the files they are: nothing is lost, nothing damaged is loaded, nothing is executed."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import envs
from tigr_core.bundle import METADATA_KEY, Bundle, BundleInfo, Source, load_bundle
from tigr_core.checkpoint import load_checkpoint, save_checkpoint
from tigr_core.config import Config, ModelConfig
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.files import FolderLock, write_atomically
from tigr_core.model import TaskInferenceModel

ENV_ID = "tigr/PointRobotAxes-v0"


def make_bundle() -> Bundle:
    config = ModelConfig(num_components=4, latent_dim=2, policy_hidden=(8,), encoder_width=1.0)
    env = envs.make_vector(ENV_ID)
    robot = env.spec_robot
    torch.manual_seed(0)
    model = TaskInferenceModel(config, robot.obs_dim, robot.action_dim)
    model.normaliser.update(torch.randn(9, robot.obs_dim), torch.randn(9, robot.action_dim), torch.randn(9))
    info = BundleInfo(
        env_id=ENV_ID,
        robot=robot.to_dict(),
        base_tasks=list(env.task_set.names),
        task_units=["m"] * 4,
        component_to_task=[0, 1, 2, 3],
        model=config,
        latent_centre=[0.0, 0.0],
        latent_basis=[[1.0, 0.0], [0.0, 1.0]],
        source=Source(version="0", config=Config().model_dump(mode="json"), env_steps=1, sac_steps=2, evaluation={}),
    )
    return Bundle(model.eval(), info)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.tigr"
    make_bundle().save(path)
    return path


def act_once(model: TaskInferenceModel) -> tuple[np.ndarray, np.ndarray]:
    controller = Controller(model, 1)
    obs = np.full((1, model.obs_dim), 0.3)
    action = controller.act(obs)
    controller.observe(action, np.array([-0.5]), obs + 0.1)
    return controller.act(obs), controller.estimate.latent


def test_a_loaded_bundle_acts_and_infers_as_the_saved_one(saved: Path) -> None:
    original, loaded = make_bundle(), load_bundle(saved, env_id=ENV_ID)
    for first, second in zip(act_once(original.model), act_once(loaded.model), strict=True):
        assert np.array_equal(first, second)
    assert loaded.info.model_dump_json() == original.info.model_dump_json()
    assert loaded.robot == original.robot
    assert len(loaded.info.sha256) == 64


def test_saving_again_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    load_bundle(saved).save(tmp_path / "b.tigr")
    assert (tmp_path / "b.tigr").read_bytes() == saved.read_bytes()


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Change entries of a bundle's description in place."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"][METADATA_KEY] = json.dumps(json.loads(header["__metadata__"][METADATA_KEY]) | change)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no bundle at"),
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "damaged"),
        (lambda p: p.write_bytes(b"not a bundle"), "damaged"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: p.write_bytes(pickle.dumps({"weights": 1})), "damaged"),
        (lambda p: rewrite(p, {"schema_version": 99}), "schema 99"),
        (lambda p: rewrite(p, {"surprise": 1}), "surprise"),
        (lambda p: rewrite(p, {"robot": {"name": "x"}}), "damaged"),
        (lambda p: rewrite(p, {"component_to_task": [0, 1, 2]}), "component_to_task"),
        (lambda p: rewrite(p, {"component_to_task": [0, 1, 2, 9]}), "component_to_task"),
    ],
)
def test_a_bad_file_is_one_clear_error(saved: Path, damage: Any, message: str) -> None:
    damage(saved)
    with pytest.raises(UserError, match=message) as caught:
        load_bundle(saved)
    assert str(saved) in str(caught.value) and "fix:" in str(caught.value)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(saved: Path) -> None:
    bundle = make_bundle()
    with torch.no_grad():
        next(bundle.model.actor.parameters())[0, 0] = torch.nan
    bundle.save(saved)
    with pytest.raises(UserError, match=r"not finite: actor"):
        load_bundle(saved)
    rewrite(saved, {"model": bundle.info.model.model_copy(update={"latent_dim": 3}).model_dump(mode="json")})
    with pytest.raises(UserError, match="damaged"):
        load_bundle(saved)


def test_a_bundle_for_another_environment_is_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="was trained for tigr/PointRobotAxes-v0"):
        load_bundle(saved, env_id="tigr/HalfCheetahEight-v0")


def test_a_checkpoint_brings_back_what_was_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    state: dict[str, Any] = {"a": torch.arange(3), "nested": {"rng": rng.bit_generator.state, "list": [1, 2.5, None]}}
    save_checkpoint(tmp_path / "c.pt", state)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert torch.equal(loaded["a"], state["a"]) and loaded["nested"] == state["nested"]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "trapped",))

    torch.save({"schema_version": 1, "trap": Trap()}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "trapped").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill_the_disk(file: Any) -> None:
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="no space left on the disk"):
        write_atomically(path, fill_the_disk)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "file" / "below", lambda file: file.write(b"x"))
    with pytest.raises(UserError, match="cannot write"):
        FolderLock(tmp_path / "file" / "below")


def test_a_folder_serves_one_run_at_a_time(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "run")
    with pytest.raises(UserError, match="in use by another process"):
        FolderLock(tmp_path / "run")
    first.release()
    FolderLock(tmp_path / "run").release()
