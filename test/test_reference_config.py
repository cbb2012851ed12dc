# SPDX-License-Identifier: Apache-2.0
"""JSON configurations of the reference: the same meaning here, every key accounted for, mistakes told by its keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_cli import tigr

from envs import env_ids
from tigr_core.config import load_config
from tigr_core.errors import UserError
from tigr_core.reference_config import Reference, read_reference
from tigr_core.reference_keys import ENVIRONMENTS, IGNORED, KEYS, OPTION, RENAMED, SAME, UNSUPPORTED

EIGHT = ["velocity_forward", "velocity_backward", "stand_back", "stand_front"]
EIGHT += ["goal_forward", "goal_backward", "flip_forward", "jump"]
PAPER: dict[str, Any] = {  # half-cheetah-eight as the reference's users have it
    "env_name": "cheetah-multi-task",
    "env_params": {"n_train_tasks": 80, "n_eval_tasks": 40, "task_variants": EIGHT},
    "inference_option": "true_gmm",
    "algo_params": {
        "encoder_type": "gru",
        "latent_size": 8,
        "num_train_epochs": 2001,
        "num_train_tasks_per_episode": 80,
        "time_steps": 64,
        "use_fixed_seeding": False,
    },
    "reconstruction_params": {"alpha_kl_z": 0.001, "beta_euclid": 0.0005, "gamma_sparsity": 0.001, "num_classes": 8},
    "PCGrad_params": {"use_PCGrad": False},
}


def read(tmp_path: Path, content: Any, name: str = "half-cheetah_ts~64.json") -> Reference:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_reference(path)


def mistake(tmp_path: Path, content: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content).config()
    return caught.value.found


def test_the_papers_file_means_the_papers_settings(tmp_path: Path) -> None:
    slower = ["inference.targets_per_sequence=32", "sac.draws_per_transition=1", "training.fast=false"]
    config, paper = read(tmp_path, PAPER).config(), load_config("half_cheetah_eight", slower)
    assert config.name == "half_cheetah_ts_64"
    assert (config.env.id, config.env.base_tasks) == ("tigr/HalfCheetah-v0", tuple(EIGHT)), "labels as in the file"
    assert config.model == paper.model.model_copy(update={"context": "window", "own_next_obs_statistics": True})
    assert config.inference == paper.inference and config.sac == paper.sac
    training = {"exploration_episodes": 1, "evaluate_every": 1, "reference_output": True}
    assert config.training == paper.training.model_copy(update=training)


def test_every_key_of_ours_is_reached_by_its_own_value(tmp_path: Path) -> None:
    algo: dict[str, Any] = {"time_steps": 7, "latent_size": 3, "sac_layer_size": 40, "max_replay_buffer_size": 9000}
    algo |= {"batch_size_policy": 5, "batch_size_reconstruction": 6, "seed": 11, "snapshot_gap": 12}
    algo |= {"num_train_epochs": 13, "num_training_steps_policy": 14, "num_training_steps_reconstruction": 15}
    algo |= {"target_entropy_factor": 0.5, "sac_alpha": 0.3, "test_evaluation_every": 0}
    algo |= {"num_train_tasks_per_episode": 16, "max_path_length": 100, "num_transitions_per_episode": 250}
    inference: dict[str, Any] = {
        "num_classes": 2,
        "lr_encoder": 1e-3,
        "lr_decoder": 2e-3,
        "alpha_kl_z": 0.1,
        "beta_euclid": 0.2,
    }
    inference |= {"gamma_sparsity": 0.3, "regularization_lambda": 0.4, "net_complex_enc_dec": 2, "eval_interval": 9}
    env = {"n_train_tasks": 21, "n_eval_tasks": 22, "task_variants": ["jump", "velocity"]}
    content = {"env_params": env, "algo_params": algo, "reconstruction_params": {**inference, "train_val_percent": 0.7}}
    config = read(tmp_path, content).config(["sac.discount=0.5"])
    assert (config.seed, config.env.num_train_tasks, config.env.num_test_tasks) == (11, 21, 22)
    assert (config.env.base_tasks, config.env.episode_steps) == (("jump", "velocity"), 100)
    model, learned, sac, training = config.model, config.inference, config.sac, config.training
    assert (model.context_length, model.latent_dim, model.num_components) == (7, 3, 2)
    assert (model.policy_hidden, model.encoder_width, model.decoder_width) == ((40, 40, 40), 2.0, 2.0)
    assert (learned.batch_size, learned.steps_per_epoch, learned.first_epoch_steps) == (6, 15, 15)
    assert (learned.encoder_learning_rate, learned.decoder_learning_rate) == (1e-3, 2e-3)
    assert (learned.kl_weight, learned.separation_weight, learned.sparsity_weight) == (0.1, 0.2, 0.3)
    assert (learned.supervision_weight, learned.validation_share, learned.rebalance_every) == (0.4, 0.3, 9)
    assert (sac.batch_size, sac.steps_per_epoch, sac.target_entropy_factor, sac.discount) == (5, 14, 0.5, 0.5)
    assert (sac.temperature, sac.learn_temperature) == (0.3, False)
    assert (training.replay_capacity, training.epochs, training.checkpoint_every) == (9000, 13, 12)
    assert training.evaluate_every == 13, "never before the end"
    assert (training.tasks_per_epoch, training.exploration_episodes) == (48, 3), "250 of 100 steps are three episodes"


@pytest.mark.parametrize(
    ("section", "key", "value", "ours", "wanted"),
    [
        ("reconstruction_params", "use_regularization_loss", False, "inference.supervision_weight", 0.0),
        ("reconstruction_params", "num_classes", 7, "inference.supervision_weight", 0.0),  # labels of 8 base tasks
        ("algo_params", "automatic_entropy_tuning", True, "sac.temperature", 1.0),  # its log begins at 0
    ],
)
def test_keys_that_change_what_another_means(
    tmp_path: Path, section: str, key: str, value: Any, ours: str, wanted: float
) -> None:
    assert read(tmp_path, {section: {key: value}}).settings()[ours] == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"algo_params": {"augmented_every": 0}}, {"sac.imagined_share": 0.0}),
        ({}, {"training.hard_task_share": 0.0, "training.replay_sampling": "even", "model.encoder": "gru"}),
        ({"PCGrad_params": {"PCGrad_option": "true_task"}}, {"inference.pcgrad": None, "sac.pcgrad": None}),
        (
            {"PCGrad_params": {"use_PCGrad": True, "PCGrad_option": "random_prob_task"}},
            {"inference.pcgrad": "random_task", "sac.pcgrad": "random_task"},
        ),
        ({"task_distribution": "best"}, {"training.hard_tasks": "best", "training.hard_task_share": 1.0}),
        ({"algo_params": {"sampling_mode": "linear"}}, {"training.replay_sampling": "linear"}),
        (
            {"algo_params": {"augmented_every": 4, "augmented_start_percentage": 0.5, "augmented_rollout_length": 3}},
            {"sac.imagined_share": 0.2, "sac.imagined_start": 0.5, "sac.imagined_horizon": 3},
        ),
        (
            {"algo_params": {"encoder_type": "conv", "timestep_combination": "network", "encoding_mode": "trajectory"}},
            {"model.encoder": "conv", "model.timestep_combination": "network", "model.context": "window"},
        ),
        (
            {"algo_params": {"encoder_type": "mlp", "encoding_mode": "trajectory"}},
            {"model.encoder": "mlp", "model.timestep_combination": "none"},
        ),
    ],
)
def test_options_of_the_reference(tmp_path: Path, content: Any, wanted: dict[str, Any]) -> None:
    reference = read(tmp_path, content)
    settings = reference.settings()
    assert {key: settings[key] for key in wanted} == wanted
    reference.config()
    assert not [note.key for note in reference.notes() if note.kind == UNSUPPORTED]


def test_other_environments_have_no_variants(tmp_path: Path) -> None:
    reference = read(tmp_path, {"env_name": "cheetah-vel", "reconstruction_params": {"num_classes": 1}})
    config = reference.config()
    assert (config.env.id, config.env.base_tasks) == ("tigr/HalfCheetahVel-v0", None)
    assert config.inference.supervision_weight == 0.1


def test_every_environment_of_the_table_is_ours() -> None:
    assert set(ENVIRONMENTS.values()) <= set(env_ids())


def test_each_key_of_a_file_is_told(tmp_path: Path) -> None:
    full: dict[str, Any] = {}
    for key, rule in KEYS.items():  # all keys there are, with the reference's defaults
        *section, leaf = key.split(".")
        (full.setdefault(section[0], {}) if section else full)[leaf] = rule.default
    notes = {note.key: note for note in read(tmp_path, full).notes()}
    assert notes.keys() == KEYS.keys()
    assert {note.kind for note in notes.values()} == {IGNORED, OPTION, RENAMED, SAME}, "all defaults are supported"
    assert all(note.why for note in notes.values() if note.kind in (IGNORED, OPTION))
    assert notes["algo_params.time_steps"].here == "model.context_length: 64"
    asked = {
        "algo_params": {"permute_samples": True, "augmented_of_a_later_version": 1},
        "path_to_weights": "somewhere",
    }
    told = {note.key: (note.kind, note.here) for note in read(tmp_path, asked).notes()}
    assert told["algo_params.permute_samples"] == (UNSUPPORTED, "false is used")
    assert told["algo_params.augmented_of_a_later_version"][0] == IGNORED
    assert told["path_to_weights"][0] == UNSUPPORTED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"algo_params": {"time_step": 3}},
            "algo_params.time_step: unknown key (did you mean 'algo_params.time_steps'?)",
        ),
        ({"time_steps": 3}, "time_steps: unknown key (did you mean 'algo_params.time_steps'?)"),
        ({"algo_parms": {"time_steps": 3}}, "algo_parms: unknown key (did you mean 'algo_params"),
        ({"algo_params.time_steps": 3}, "algo_params.time_steps: found a dot"),
        ({"algo_params": 3}, "algo_params: found 3, expected a group of keys"),
        ({"algo_params": {"time_steps": "64"}}, 'algo_params.time_steps: found "64", expected a whole number'),
        ({"algo_params": {"time_steps": True}}, "algo_params.time_steps: found true, expected a whole number"),
        ({"env_params": {"task_variants": "jump"}}, 'task_variants: found "jump", expected a list of texts'),
        ({"algo_params": {"time_steps": 0}}, "time_steps (here model.context_length): should be greater than or equal"),
        ({"algo_params": {"sac_layer_size": 0}}, "algo_params.sac_layer_size (here model.policy_hidden): should be"),
        ({"env_name": "cheetah-multi-tsk"}, "did you mean 'cheetah-multi-task'?"),
        ({"train_or_showcase": "showcase"}, "expected one of train, showcase_all"),
        ({"task_distribution": "bets"}, "found \"bets\" (did you mean 'best'?), expected one of null, worst, best"),
        ('{"algo_params": {"seed": 1,\n  "seed": 2}}', "key 'seed' is given twice"),
        ('{"algo_params": {\n  "seed": 1,,\n}}', "line 2, column 13: "),
        ('{"algo_params": {"seed": 1}', "line 1, column 28: "),
        ("[1]", "holds [1]"),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_file(tmp_path: Path, content: Any, said: str) -> None:
    assert said in mistake(tmp_path, content)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    said = mistake(tmp_path, {"seed": 1, "algo_params": {"tau": 0.1, "latent_size": 1.5}})
    assert "has 3 mistake(s)" in said and all(key in said for key in ("algo_params.seed", "tau", "latent_size"))


def test_convert_writes_what_the_file_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = read(tmp_path, PAPER)
    assert tigr(monkeypatch, "config", "convert", reference.path) == 0
    text = (tmp_path / "half_cheetah_ts_64.yaml").read_text()
    assert load_config("half_cheetah_ts_64.yaml") == reference.config()
    assert "context_length: 64  # algo_params.time_steps: 64\n" in text
    assert "num_components: 8  # reconstruction_params.num_classes: 8\n" in text
    assert "batch_size: 256  # algo_params.batch_size_policy: 256, the reference's default\n" in text
    assert "# algo_params.use_fixed_seeding: false  (not supported; true is used; runs are always seeded" in text
    assert "time_steps: 64 " in capsys.readouterr().out
    assert tigr(monkeypatch, "config", "convert", reference.path) == 2
    assert "half_cheetah_ts_64.yaml exists" in capsys.readouterr().err
