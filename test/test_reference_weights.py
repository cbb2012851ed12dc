# SPDX-License-Identifier: Apache-2.0
"""Weights of the reference: the same latents and actions for the same inputs, and nothing executed on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_networks import ReferenceRun
from test_cli import tigr

import envs
from tigr_core.bundle import load_bundle
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.model import TaskInferenceModel
from tigr_core.reference_weights import import_bundle, read_variant, read_weights

HALF_CHEETAH = (20, 6)  # observations, actions
VARIANTS = ["goal_backward", "jump"]
VARIANT: dict[str, Any] = {
    "env_name": "cheetah-multi-task",
    "exp_name": "2021_05_10_17_35_02_cheetah_true_gmm",
    "env_params": {"n_train_tasks": 4, "n_eval_tasks": 2, "task_variants": VARIANTS},
    "algo_params": {"time_steps": 5, "latent_size": 3, "sac_layer_size": 12, "max_path_length": 12},
    "reconstruction_params": {"num_classes": 2, "net_complex_enc_dec": 0.5},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ReferenceRun(*HALF_CHEETAH).save(tmp_path / "run", VARIANT)
    return tmp_path / "run"


def imported(folder: Path, iteration: int = 20) -> TaskInferenceModel:
    robot = envs.make_vector("tigr/HalfCheetah-v0").spec_robot
    return read_weights(folder, iteration, read_variant(folder), robot)


class PaperRun(ReferenceRun):
    """The sizes of half-cheetah-eight."""

    TIME_STEPS, CLASSES, LATENT, LAYER, COMPLEXITY = 64, 8, 8, 300, 5.0


def compare(run: ReferenceRun, model: TaskInferenceModel, steps: int = 9) -> None:
    """Act with both along the same transitions: the empty context, a growing and a full one."""
    rng, controller = np.random.default_rng(3), Controller(model, 1)
    for _ in range(steps):
        obs, next_obs = rng.normal(0.0, 3.0, (2, 1, run.policy._hidden[0].in_features - run.LATENT))
        obs[:, 18] = next_obs[:, 18] = 0.0  # the half-cheetah's torso_y
        latent, action = run.act(obs)
        np.testing.assert_allclose(controller.estimate.latent, latent, rtol=0.0, atol=1e-6)
        np.testing.assert_allclose(controller.act(obs), action, rtol=0.0, atol=1e-6)
        reward = rng.normal(size=1)
        controller.observe(action, reward, next_obs)
        run.observe(obs, action, reward, next_obs)


@pytest.mark.parametrize("numbered", [False, True])
def test_same_inputs_give_the_same_latents_and_actions(tmp_path: Path, numbered: bool) -> None:
    run = ReferenceRun(*HALF_CHEETAH, numbered=numbered)
    run.save(tmp_path, VARIANT)
    compare(run, imported(tmp_path))


def test_networks_of_the_papers_sizes_do_the_same(tmp_path: Path) -> None:
    run = PaperRun(*HALF_CHEETAH)
    run.save(tmp_path, {"env_name": "cheetah-multi-task"})  # all else by default
    compare(run, imported(tmp_path), steps=70)


def test_entries_that_never_vary_are_divided_as_the_reference_does(tmp_path: Path) -> None:
    run = ReferenceRun(*HALF_CHEETAH)
    for part in ("observations", "next_observations"):
        run.stats[part]["mean"][18], run.stats[part]["std"][18] = 1e-10, 0.0  # 0 is -0.1 after the reference's division
    run.save(tmp_path, VARIANT)
    compare(run, imported(tmp_path))


def test_without_normalisation_networks_read_what_they_read_there(tmp_path: Path) -> None:
    run = ReferenceRun(*HALF_CHEETAH)
    run.save(tmp_path, {**VARIANT, "algo_params": {**VARIANT["algo_params"], "use_data_normalization": False}})
    for part in run.stats.values():
        part["mean"], part["std"] = [0.0] * len(part["mean"]), [1.0] * len(part["std"])
    compare(run, imported(tmp_path))


def test_the_decoder_predicts_the_same_in_units_of_the_data(tmp_path: Path) -> None:
    run = ReferenceRun(*HALF_CHEETAH, clip=17)
    run.stats["next_observations"]["std"][3] = 1e-8
    run.save(tmp_path, VARIANT)
    model, rng = imported(tmp_path), np.random.default_rng(0)
    obs, action, latent = rng.normal(size=(4, 20)), rng.uniform(-1.0, 1.0, (4, 6)), torch.randn(4, run.LATENT)
    x = torch.cat([run.normalised("observations", obs), run.normalised("actions", action), latent], dim=1)
    ours = model.normaliser.transition(*(torch.tensor(a).float() for a in (obs, action, np.zeros(4), obs)))
    state, reward = model.decoder(ours[:, :20], ours[:, 20:26], latent)
    np.testing.assert_allclose(reward.detach(), run.decoder.net_reward_decoder(x).squeeze(1).detach(), atol=1e-5)
    said = run.decoder.net_state_decoder(x).detach().numpy() * (np.array(run.stats["next_observations"]["std"])[:17])
    std = model.normaliser.var[-20:].sqrt().clamp_min(1e-6).numpy()
    np.testing.assert_allclose(state.detach().numpy()[:, :17] * std[:17], said, atol=1e-5)
    assert np.abs(state.detach().numpy()[:, 17:]).max() == 0.0, "clipped entries are said to be at their mean"


def test_the_command_makes_a_bundle_that_evaluates(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "progress.csv").write_text("epoch,n_env_steps_total,policy_train_steps_total\n10,1,1\n20,16000,40960\n")
    assert tigr(monkeypatch, "import-weights", folder, "--iteration", "20") == 0
    said = capsys.readouterr().out
    bundle = load_bundle(folder / "itr_20.tigr", env_id="tigr/HalfCheetah-v0")
    assert f"test return {bundle.info.source.evaluation['test_return']:.1f}" in said
    assert bundle.info.base_tasks == VARIANTS and bundle.info.component_to_task == [0, 1]
    assert (bundle.info.source.env_steps, bundle.info.source.sac_steps) == (16000, 40960)
    assert (bundle.info.model.context, bundle.info.model.context_length) == ("window", 5)
    compare(ReferenceRun(*HALF_CHEETAH), bundle.model)
    assert tigr(monkeypatch, "eval", folder / "itr_20.tigr") == 0
    assert f"{bundle.info.source.evaluation['test_return']:.1f}" in capsys.readouterr().out


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("trapped",))


def rewrite(name: str, change: Any) -> Any:
    """Return what changes a state dictionary of a run."""

    def apply(folder: Path) -> None:
        path = folder / "weights" / f"{name}_itr_20.pth"
        torch.save(change(torch.load(path, weights_only=True)), path)

    return apply


def change_json(name: str, change: Any) -> Any:
    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return apply


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (rewrite("policy", lambda state: {**state, "trap": Trap()}), ".mkdir); refused, and nothing"),
        (rewrite("policy", lambda state: [1, 2]), "holds list"),
        (rewrite("encoder", lambda state: {k: v * float("nan") for k, v in state.items()}), "not finite"),
        (rewrite("encoder", lambda state: {k: v for k, v in state.items() if "mixture" not in k}), "Missing key"),
        (rewrite("encoder", lambda state: {**state, "shared_encoder.conv_layer": torch.ones(1)}), "another encoder"),
        (rewrite("policy", lambda state: {**state, "last_fc.weight": torch.ones(2, 12)}), "do not fit"),
        (lambda folder: (folder / "weights/decoder_itr_20.pth").write_bytes(b"no"), "is damaged"),
        (lambda folder: (folder / "weights/policy_itr_20.pth").unlink(), "no file"),
        (lambda folder: (folder / "weights/encoder_itr_20.pth").rename(folder / "encoder_itr_3.pth"), "no weights of"),
        (lambda folder: (folder / "variant.json").unlink(), "no variant.json"),
        (change_json("weights/stats_dict.json", lambda stats: stats["actions"]["std"].pop()), "stats_dict.json"),
        (change_json("weights/stats_dict.json", lambda stats: stats.pop("rewards")), "'rewards'"),
        (change_json("variant.json", lambda v: v["algo_params"].update(encoder_type="mlp")), 'encoder_type is "mlp"'),
        (change_json("variant.json", lambda v: v["env_params"].update(task_variants=["jmp"])), "did you mean 'jump'?"),
        (change_json("variant.json", lambda v: v["reconstruction_params"].update(num_classes=3)), "do not fit"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_executed(
    folder: Path, spoil: Any, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(folder)
    with pytest.raises(UserError) as caught:
        import_bundle(folder, 20)
    assert said in str(caught.value)
    assert not (tmp_path / "trapped").exists() and not list(folder.glob("*.tigr"))
