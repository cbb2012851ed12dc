# SPDX-License-Identifier: Apache-2.0
"""Configurations: what ships, what is refused and how that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs import task_set
from tigr_core.config import Config, load_config, make_config, override_config, parse_yaml, shipped_configs
from tigr_core.errors import UserError


def read(tmp_path: Path, text: str, overrides: list[str] | None = None) -> Config:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), overrides)


def mistake(tmp_path: Path, text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text, overrides)
    return caught.value.found


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configuration_loads_and_fits_its_environment(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.description
    tasks = task_set(config.env.id, config.env.base_tasks)
    assert config.model.num_components == (tasks.num_known if config.model.method == "tigr" else 1)


def test_half_cheetah_eight_has_the_settings_of_the_paper() -> None:
    config = load_config("half_cheetah_eight")
    env, model, inference, sac, training = config.env, config.model, config.inference, config.sac, config.training
    assert (env.num_train_tasks, env.num_test_tasks, env.episode_steps) == (80, 40, 200)
    assert (model.num_components, model.latent_dim, model.context_length, model.encoder_width) == (8, 8, 64, 5.0)
    assert (model.decoder_width, model.policy_hidden, model.critic_layer_norm) == (5.0, (300, 300, 300), False)
    assert (inference.steps_per_epoch, inference.batch_size, inference.rebalance_every) == (128, 4096, 50)
    assert (inference.kl_weight, inference.separation_weight, inference.sparsity_weight) == (1e-3, 5e-4, 1e-3)
    assert (inference.supervision_weight, inference.anchor_weight, inference.validation_share) == (0.1, 0.0, 0.2)
    assert (sac.steps_per_epoch, sac.batch_size, sac.discount, sac.target_rate) == (2048, 256, 0.99, 0.005)
    assert (sac.temperature, sac.learn_temperature, sac.actor_every) == (0.2, False, 1)
    rates = {inference.encoder_learning_rate, inference.decoder_learning_rate, sac.actor_learning_rate}
    assert rates | {sac.critic_learning_rate} == {3e-4}
    assert (training.epochs, training.tasks_per_epoch, training.replay_capacity) == (2001, 80, 10_000_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sac: {tempreture: 1.0}", "sac.tempreture: unknown key (did you mean 'temperature'?)"),
        ("traning: {epochs: 1}", "traning: unknown key (did you mean 'training'?)"),
        ("training: {epochs: '3'}", "training.epochs: should be a valid integer, found '3'"),
        ("training: {epochs: 2.5}", "training.epochs: should be a valid integer, found 2.5"),
        ("seed: true", "seed: should be a valid integer, found True"),
        ("sac: 3", "sac: should be a valid dictionary or instance of SACConfig, found 3"),
        ("sac: {discount: 1.0}", "sac.discount: should be less than 1, found 1.0"),
        ("sac: {temperature: .inf}", "sac.temperature: should be a finite number, found inf"),
        ("model: {policy_hidden: [300, 0]}", "model.policy_hidden.1: should be greater than or equal to 1, found 0"),
        ("model: {context: steam}", "model.context: should be 'stream' or 'window', found 'steam'"),
        ("schema_version: 2", "schema_version: should be 1, found 2"),
        ("training: {replay_capacity: 100}", "training.replay_capacity is 100, less than one episode"),
        ("sac: {min_temperature: 0.5}", "sac.min_temperature 0.5 is above sac.temperature 0.2"),
        (
            "sac: {imagined_share: 0.5, critic_sees_task: true}",
            "sac.imagined_share 0.5 with sac.critic_sees_task or sac.told_share needs inference.anchor_weight above 0",
        ),
        (
            "sac: {imagined_share: 0.5}\ninference: {steps_per_epoch: 0, first_epoch_steps: 0}",
            "sac.imagined_share 0.5 needs inference.steps_per_epoch above 0",
        ),
        ("model: {reward_changes: true, context: window}", "model.reward_changes needs model.context stream"),
        ("sac: {imagined_share: 0.5}\nmodel: {method: pearl}", "sac.imagined_share is 0.5; model.method pearl needs 0"),
    ],
)
def test_mistake_is_told_by_key(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistake(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    said = mistake(tmp_path, "env: {num_train_tasks: 0}\ninference: {kl_weight: -1.0}\nsac: {rate: 1}\n")
    assert "mine.yaml has 3 mistake(s)" in said
    assert all(key in said for key in ("env.num_train_tasks", "inference.kl_weight", "sac.rate"))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("seed: 1\nname: a\nseed: 2\n", "line 3, column 1", "'seed' is given twice"),
        ("sac:\n  batch_size: 3\n  batch_size: 4\n", "line 3, column 3", "'batch_size' is given twice"),
        ("seed: 1\nsac: {batch_size: 3]\n", "line 2, column 20", "expected ',' or '}'"),
        ("sac:\n\tbatch_size: 3\n", "line 2, column 1", "cannot start any token"),
    ],
)
def test_malformed_yaml_is_told_by_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    found = mistake(tmp_path, text)
    assert f"mine.yaml, {place}: " in found
    assert said in found


def test_numbers_in_scientific_notation_are_numbers() -> None:
    values = parse_yaml("[3e-4, 1E5, -2.5e3, 1e+2, .5, 3., 7, 1.2.3, e4, 10e]", "here")
    assert values == [3e-4, 1e5, -2500.0, 100.0, 0.5, 3.0, 7, "1.2.3", "e4", "10e"]


def test_overrides(tmp_path: Path) -> None:
    settings = ["sac.actor_learning_rate=3e-4", "model.policy_hidden=[8, 4]", "env.base_tasks=[jump]", "name=other"]
    config = read(tmp_path, "name: mine\nsac: {batch_size: 7}\n", settings)
    assert config.sac.actor_learning_rate == 3e-4
    assert config.model.policy_hidden == (8, 4)
    assert config.env.base_tasks == ("jump",)
    assert (config.name, config.sac.batch_size) == ("other", 7)
    assert override_config(config, ["sac.batch_size=9", "seed=4"]).sac.batch_size == 9
    assert config.sac.batch_size == 7


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sac.batch_size", "--set sac.batch_size"),
        ("=3", "--set =3"),
        ("seed.deep=3", "'seed' is no section"),
        ("sac.batch_size=[1", "--set sac.batch_size=[1, line 1, column"),
        ("sac.batch_sise=1", "did you mean 'batch_size'?"),
        ("sac.batch_size=", "sac.batch_size: should be a valid integer, found None"),
    ],
)
def test_bad_override_is_told(tmp_path: Path, override: str, said: str) -> None:
    assert said in mistake(tmp_path, "seed: 1\n", [override])


@pytest.mark.parametrize(
    ("text", "said"), [("seed: 1\n", "--set has 1 mistake"), ("seed: -1\n", "mine.yaml with --set has 2 mistake")]
)
def test_what_is_wrong_is_looked_for_where_it_stands(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistake(tmp_path, text, ["training.greedy_share=1.5"])
    assert read(tmp_path, text, ["seed=3"]).seed == 3, "what is mended in the end is no mistake"


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_yaml_round_trip(name: str) -> None:
    config = override_config(load_config(name), ["sac.critic_learning_rate=1e-5", "inference.sparsity_weight=2.5e-12"])
    assert make_config(parse_yaml(config.to_yaml(), "here"), "here") == config
