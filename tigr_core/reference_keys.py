# SPDX-License-Identifier: Apache-2.0
"""What becomes of each key of the configurations of TIGR's reference implementation (arXiv 2108.03718): `KEYS`.

One line a key. To support what is `only` supported with its default, make it `renamed` to our key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from envs import task_set

RENAMED, OPTION, SAME, IGNORED, UNSUPPORTED = "renamed", "option", "same", "ignored", "not supported"
TRAIN = "train"
SHOWCASES = ("showcase_all", "showcase_task_inference", "showcase_non_stationary_env")
ENVIRONMENTS = {  # of the reference, and ours
    "cheetah-multi-task": "tigr/HalfCheetah-v0",
    "cheetah-dir": "tigr/HalfCheetahDir-v0",
    "cheetah-vel": "tigr/HalfCheetahVel-v0",
    "ant-multi-task": "tigr/Ant-v0",
    "ant-dir": "tigr/AntDir-v0",
    "ant-goal": "tigr/AntGoal-v0",
    "humanoid-dir": "tigr/HumanoidDir-v0",
    "walker-rand-params": "tigr/WalkerRandParams-v0",
    "hopper-rand-params": "tigr/HopperRandParams-v0",
    "point-robot": "tigr/PointRobot-v0",
    "sparse-point-robot": "tigr/SparsePointRobot-v0",
    "metaworld-ml10": "tigr/MetaWorldML10-v0",
    "metaworld-ml45": "tigr/MetaWorldML45-v0",
}
WITH_VARIANTS = ("cheetah-multi-task", "ant-multi-task")  # environments of the reference that read task_variants
FIXED = {  # what the reference does and has no key for
    "model.context": "window",
    "model.own_next_obs_statistics": True,
    "training.reference_output": True,
}

Values = Mapping[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class Key:
    """What becomes of one key."""

    default: Any  # of the reference
    kind: str
    why: str = ""
    to: tuple[str, ...] = ()  # our keys
    by: Callable[[Any, Values], Any] = lambda value, values: value  # our value, from this one and all others

    def ours(self, value: Any, values: Values) -> dict[str, Any]:
        """Return our keys with their values; `by` gives one for all of them, or a dict where they differ."""
        result = self.by(value, values)
        return result if isinstance(result, dict) else dict.fromkeys(self.to, result)


def renamed(
    default: Any, *to: str, by: Callable[[Any, Values], Any] = lambda value, values: value, why: str = ""
) -> Key:
    """Return a key that is called `to` here."""
    return Key(default, RENAMED, why, to, by)


def option(default: Any, why: str) -> Key:
    """Return a key that is an option of the command here."""
    return Key(default, OPTION, why)


def ignored(default: Any, why: str) -> Key:
    """Return a key that has no meaning here."""
    return Key(default, IGNORED, why)


def only(default: Any, why: str) -> Key:
    """Return a key of which the reference's default alone is supported."""
    return Key(default, UNSUPPORTED, why)


def _base_tasks(value: list[str], values: Values) -> list[str] | None:
    return value if values["env_name"] in WITH_VARIANTS else None


def _episodes(value: int, values: Values) -> int:
    """Return how many episodes of a task it takes to make so many transitions."""
    return math.ceil(value / max(values["algo_params.max_path_length"], 1))


def _tasks_per_epoch(value: int, values: Values) -> int:
    return value * _episodes(values["algo_params.num_transitions_per_episode"], values)


def _distribution(value: str | None, values: Values) -> dict[str, Any]:
    return {"training.hard_tasks": value or "behind", "training.hard_task_share": 1.0 if value else 0.0}


def _imagined_share(value: int, values: Values) -> float:
    """Return the share of imagined steps where each epoch's are followed by as many in one of so many epochs."""
    return 1.0 / (1 + value) if value > 0 else 0.0


def _combination(value: str, values: Values) -> str:
    whole = values["algo_params.encoder_type"] == "mlp" and values["algo_params.encoding_mode"] == "trajectory"
    return "none" if whole else value


def _pcgrad(value: str, values: Values) -> str | None:
    groups = {"random_prob_task": "random_task"}.get(value, value)
    return groups if values["PCGrad_params.use_PCGrad"] else None


def _temperature(value: float, values: Values) -> float:
    return 1.0 if values["algo_params.automatic_entropy_tuning"] else value


def _supervision(value: float, values: Values) -> float:
    variants = _base_tasks(values["env_params.task_variants"], values)
    tasks = len(variants) if variants else task_set(ENVIRONMENTS[values["env_name"]]).num_known
    labelled = values["reconstruction_params.num_classes"] >= tasks
    return value if labelled and values["reconstruction_params.use_regularization_loss"] else 0.0


_VARIANTS = ["velocity_forward", "velocity_backward", "stand_back", "stand_front"]
_VARIANTS += ["goal_forward", "goal_backward", "flip_forward", "jump"]
_IMAGINED = "each batch is imagined anew, as sac.imagined_share and sac.imagined_horizon say"
_UNREAD = "the reference does not read it"

KEYS: dict[str, Key] = {
    "env_name": renamed("cheetah-multi-task", "env.id", by=lambda value, values: ENVIRONMENTS[value]),
    "path_to_weights": option(None, "what a showcase shows"),
    "train_or_showcase": option(TRAIN, "train, or an evaluation"),
    "showcase_itr": option(10, "iteration of the reference's weights; our runs keep their best bundle"),
    "inference_option": only("true_gmm", "there is one kind of inference, a mixture of Gaussians"),
    "task_distribution": renamed(None, "training.hard_tasks", "training.hard_task_share", by=_distribution),
    "exp_name": ignored("", "the reference's own name of a run"),
    "env_params.n_train_tasks": renamed(80, "env.num_train_tasks"),
    "env_params.n_eval_tasks": renamed(40, "env.num_test_tasks"),
    "env_params.use_normalized_env": only(True, "actions are always in [-1, 1] and rescaled to the actuators' range"),
    "env_params.scripted_policy": renamed(
        False, "training.scripted_share", by=lambda value, values: float(value), why="1 for true: of all episodes"
    ),
    "env_params.state_reconstruction_clip": only(None, "the decoder predicts the whole next observation"),
    "env_params.task_variants": renamed(_VARIANTS, "env.base_tasks", by=_base_tasks),
    "util_params.base_log_dir": option("output", "--output, where that is not given"),
    "util_params.use_gpu": option(True, "--device: auto, or cpu where this is false"),
    "util_params.use_multiprocessing": option(False, "--workers: num_workers where this is true"),
    "util_params.num_workers": option(2, "--workers, where use_multiprocessing is true"),
    "util_params.gpu_id": ignored(0, "the environment variable CUDA_VISIBLE_DEVICES chooses a GPU"),
    "util_params.debug": ignored(False, "every epoch is told"),
    "util_params.plot": ignored(False, "report.html has the pictures"),
    "util_params.tb_log_interval": ignored(100, "TensorBoard gets means, once an epoch"),
    "util_params.exp_name": ignored("", "the reference's own name of a run"),
    "algo_params.use_data_normalization": only(True, "transitions are always normalised"),
    "algo_params.sampling_mode": renamed(
        None, "training.replay_sampling", by=lambda value, values: value or "even", why="by episodes, not transitions"
    ),
    "algo_params.use_fixed_seeding": only(True, "runs are always seeded; --seed chooses another seed"),
    "algo_params.seed": renamed(0, "seed"),
    "algo_params.encoding_mode": renamed(
        "transitionSharedY", why="model.timestep_combination; follows from encoder_type for all but mlp, there too"
    ),
    "algo_params.encoder_type": renamed("gru", "model.encoder"),
    "algo_params.timestep_combination": renamed(
        "multiplication", "model.timestep_combination", by=_combination, why="none for an mlp of a whole trajectory"
    ),
    "algo_params.batch_size_rollout": ignored(512, "all tasks of an epoch are stepped at once"),
    "algo_params.batch_size_policy": renamed(256, "sac.batch_size"),
    "algo_params.batch_size_reconstruction": renamed(4096, "inference.batch_size"),
    "algo_params.time_steps": renamed(64, "model.context_length"),
    "algo_params.latent_size": renamed(8, "model.latent_dim"),
    "algo_params.sac_layer_size": renamed(300, "model.policy_hidden", by=lambda value, values: [value] * 3),
    "algo_params.max_replay_buffer_size": renamed(10_000_000, "training.replay_capacity"),
    "algo_params.permute_samples": only(False, "transitions are read in the order in which they happened"),
    "algo_params.num_train_epochs": renamed(501, "training.epochs"),
    "algo_params.num_training_steps_policy": renamed(2048, "sac.steps_per_epoch"),
    "algo_params.num_training_steps_reconstruction": renamed(
        128, "inference.steps_per_epoch", "inference.first_epoch_steps"
    ),
    "algo_params.num_train_tasks_per_episode": renamed(100, "training.tasks_per_epoch", by=_tasks_per_epoch),
    "algo_params.num_transitions_per_episode": renamed(
        200, "training.exploration_episodes", by=_episodes, why="this over max_path_length; in each epoch, too"
    ),
    "algo_params.max_path_length": renamed(200, "env.episode_steps"),
    "algo_params.augmented_every": renamed(
        0, "sac.imagined_share", by=_imagined_share, why="of every batch, not more steps in some epochs; 0 for 0"
    ),
    "algo_params.augmented_start_percentage": renamed(0.2, "sac.imagined_start"),
    "algo_params.augmented_rollout_length": renamed(5, "sac.imagined_horizon"),
    "algo_params.augmented_rollout_batch_size": ignored(1024, _IMAGINED),
    "algo_params.num_eval_trajectories": only(1, "one episode of each task is evaluated"),
    "algo_params.test_evaluation_every": renamed(
        1, "training.evaluate_every", by=lambda value, values: value or values["algo_params.num_train_epochs"]
    ),
    "algo_params.num_showcase": ignored(16, "`tigr eval RUN --video FILE` makes videos"),
    "algo_params.policy_nets_lr": only(
        3e-4, f"{_UNREAD} and learns with 3e-4; see sac.actor_learning_rate and sac.critic_learning_rate"
    ),
    "algo_params.target_entropy_factor": renamed(1.0, "sac.target_entropy_factor"),
    "algo_params.automatic_entropy_tuning": renamed(False, "sac.learn_temperature"),
    "algo_params.sac_alpha": renamed(0.2, "sac.temperature", by=_temperature, why="1 to begin with where it is tuned"),
    "algo_params.snapshot_gap": renamed(10, "training.checkpoint_every"),
    "reconstruction_params.use_state_diff": only(False, f"{_UNREAD}: it predicts next observations, as is done here"),
    "reconstruction_params.num_classes": renamed(8, "model.num_components"),
    "reconstruction_params.lr_encoder": renamed(3e-4, "inference.encoder_learning_rate"),
    "reconstruction_params.lr_decoder": renamed(3e-4, "inference.decoder_learning_rate"),
    "reconstruction_params.alpha_kl_z": renamed(1e-3, "inference.kl_weight"),
    "reconstruction_params.beta_euclid": renamed(5e-4, "inference.separation_weight"),
    "reconstruction_params.gamma_sparsity": renamed(1e-3, "inference.sparsity_weight"),
    "reconstruction_params.use_regularization_loss": renamed(True, why="inference.supervision_weight; 0 for false"),
    "reconstruction_params.regularization_lambda": renamed(
        0.1, "inference.supervision_weight", by=_supervision, why="0 where there are fewer classes than base tasks"
    ),
    "reconstruction_params.net_complex_enc_dec": renamed(5.0, "model.encoder_width", "model.decoder_width"),
    "reconstruction_params.train_val_percent": renamed(
        0.8, "inference.validation_share", by=lambda value, values: round(1.0 - value, 12)
    ),
    "reconstruction_params.eval_interval": renamed(50, "inference.rebalance_every"),
    "reconstruction_params.early_stopping_threshold": ignored(
        500, "the reference never stops early; inference.early_stopping_steps does"
    ),
    "reconstruction_params.temp_folder": ignored(".temp_cemrl", "no such files are needed"),
    "PCGrad_params.use_PCGrad": renamed(False, why="inference.pcgrad and sac.pcgrad; null for false"),
    "PCGrad_params.PCGrad_option": renamed("true_task", "inference.pcgrad", "sac.pcgrad", by=_pcgrad),
}
SECTIONS = {key.split(".")[0] for key in KEYS if "." in key}
CHOICES: dict[str, tuple[str | None, ...]] = {
    "env_name": tuple(ENVIRONMENTS),
    "train_or_showcase": (TRAIN, *SHOWCASES),
    "task_distribution": (None, "worst", "best"),
    "algo_params.sampling_mode": (None, "linear"),
    "algo_params.encoder_type": ("gru", "mlp", "conv", "transformer"),
    "algo_params.encoding_mode": ("transitionSharedY", "trajectory"),
    "algo_params.timestep_combination": ("multiplication", "network"),
    "PCGrad_params.PCGrad_option": ("true_task", "most_likely_task", "random_prob_task"),
}


def rule_of(key: str) -> Key:
    """Return what becomes of a key; raises KeyError for one that is not known.

    Of roll-outs from the decoder there were more keys in some versions. Files for Meta-World have a key of their own.
    """
    if key == "env_params.ml10or45":
        return ignored(None, "env_name says so")
    return ignored(None, _IMAGINED) if key not in KEYS and key.startswith("algo_params.augmented_") else KEYS[key]
