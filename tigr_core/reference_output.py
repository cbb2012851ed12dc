# SPDX-License-Identifier: Apache-2.0
"""A run's numbers as TIGR's reference implementation (arXiv 2108.03718) calls them, where its plot scripts look.

Beside what every run writes, and only where `training.reference_output` is set:

    progress.csv       `ReferenceNames.columns`, after ours
    tensorboard/       the tags of `ReferenceNames.scalars`, at the reference's steps
    task_dict.json     name of each base task -> its label
    variant.json       the reference's configuration, where the run was started from one

Of what the reference tells of both critics we keep the mean alone, so that the columns of both are equal; its losses
are of one batch an epoch, ours are means over the epoch. docs/reference.md says what is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.tasks import Task, TaskSet
from tigr_core import analysis, evaluation
from tigr_core.collector import Collector
from tigr_core.config import Config
from tigr_core.files import write_atomically
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes

VARIANT, TASK_DICT = "variant.json", "task_dict.json"
NO_SUCCESS = -1.0  # what the reference writes where a task knows no success

_EVALUATED = {  # its tag in TensorBoard, and its columns: <set>_eval_<statistic>_reward<how>
    "train": ("train", "_deterministic"),
    "nd_test": ("test", "_non_deterministic"),
    "test": ("test", "_deterministic"),
}
_STATISTICS = {"average": "avg", "std": "std", "max": "max", "min": "min"}  # in a tag, in a column
_SAME = {  # column of the reference: ours
    "n_env_steps_total": "env_steps",
    "policy_train_steps_total": "sac_steps",
    "Q1 Predictions Mean": "sac/q_mean",
    "Q2 Predictions Mean": "sac/q_mean",
    "Alpha": "sac/temperature",
    "time_data_collection": "time/collect_s",
    "time_reconstruction_trainer": "time/inference_s",
    "time_policy_trainer": "time/sac_s",
    "time_evaluation": "time/evaluate_s",
    "time_total": "wall_s",
}
_COMPUTED = ("Mixture_steps", "QF1 Loss", "QF2 Loss", "Policy Loss", "Log Pis Mean", "time_epoch")
_INFERENCE_TAGS = {  # training/ti_mixture_<name>: our inference/<name>
    "loss": "loss",
    "elbo_loss": "loss",
    "state_losses": "state",
    "reward_losses": "reward",
    "klz_loss": "kl",
    "sparsity_loss": "sparsity",
    "euclid_loss": "separation",
    "regularization_loss": "supervision",
}


def _summary(returns: np.ndarray) -> tuple[float, ...]:
    """Return mean, standard deviation, largest and smallest, in the order of `_STATISTICS`."""
    return float(returns.mean()), float(returns.std()), float(returns.max()), float(returns.min())


def _column(kind: str, statistic: str) -> str:
    which, how = _EVALUATED[kind]
    return f"{which}_eval_{statistic}_reward{how}"


class ReferenceNames:
    """Adds the reference's columns and tags to a `RunLog`."""

    columns: Sequence[str] = (
        *_SAME,
        *_COMPUTED,
        *(_column(kind, statistic) for kind in _EVALUATED for statistic in _STATISTICS.values()),
        "train_eval_success_rate",
        "test_eval_success_rate",
    )

    def __init__(self, config: Config) -> None:
        self.config = config

    def evaluate(
        self,
        collector: Collector,
        model: TaskInferenceModel,
        tasks: Sequence[Task],
        *,
        train: Episodes,
        test: Episodes,
    ) -> dict[str, float]:
        """Return the columns of an evaluation; test `tasks` are run once more with actions drawn from the policy."""
        drawn = evaluation.evaluate(collector, model, tasks, seed=self.config.seed, explore=True)
        success = evaluation.success_column(self.config.env.id)
        columns = {
            f"{which}_eval_success_rate": NO_SUCCESS
            if success is None
            else float(analysis.successful(episodes, success).mean())
            for which, episodes in (("train", train), ("test", test))
        }
        for kind, episodes in {"train": train, "nd_test": drawn, "test": test}.items():
            for statistic, value in zip(_STATISTICS.values(), _summary(episodes.returns), strict=True):
                columns[_column(kind, statistic)] = value
        return columns

    def cells(self, row: dict[str, float]) -> dict[str, float]:
        """Return the columns that follow from a row of ours; those of `evaluate` are in it already."""
        cells = {theirs: row[ours] for theirs, ours in _SAME.items() if ours in row}
        cells["time_epoch"] = sum(value for name, value in row.items() if name.startswith("time/"))
        if "inference/loss" in row:
            inference = self.config.inference
            steps = inference.first_epoch_steps if row["epoch"] == 1 else inference.steps_per_epoch
            cells["Mixture_steps"] = steps
        if "sac/critic_loss" in row:
            cells["QF1 Loss"] = cells["QF2 Loss"] = row["sac/critic_loss"] / 2.0
        if "sac/actor_loss" in row:
            log_pi = -row["sac/entropy"]
            cells["Log Pis Mean"] = log_pi
            # The column weighs the entropy by 1, whatever the loss does; the tag rl/policy_loss is the loss.
            cells["Policy Loss"] = row["sac/actor_loss"] + (1.0 - row["sac/temperature"]) * log_pi
        return cells

    def scalars(self, row: dict[str, float]) -> dict[str, tuple[float, int]]:
        """Return TensorBoard tags, each with its value and step: environment, policy or inference steps."""
        of_evaluation = {
            f"evaluation/{kind}/{tag}_reward": _column(kind, statistic)
            for kind in _EVALUATED
            for tag, statistic in _STATISTICS.items()
        } | {f"evaluation/{kind}/success_rate": f"{which}_eval_success_rate" for kind, (which, _) in _EVALUATED.items()}
        of_policy = {"rl/alpha": "sac/temperature", "rl/policy_loss": "sac/actor_loss"}
        of_policy |= {"rl/qf1_loss": "QF1 Loss", "rl/qf2_loss": "QF2 Loss"}
        of_inference = {f"training/ti_mixture_{tag}": f"inference/{ours}" for tag, ours in _INFERENCE_TAGS.items()}
        groups = {"env_steps": of_evaluation, "sac_steps": of_policy, "inference_steps": of_inference}
        scalars = {
            tag: (row[column], int(row[counter]))
            for counter, tags in groups.items()
            for tag, column in tags.items()
            if column in row
        }
        if "inference/loss" in row:
            scalars["training/ti_mixture_clustering_losses"] = (self._clustering(row), int(row["inference_steps"]))
        return scalars

    def _clustering(self, row: dict[str, float]) -> float:
        """Return all of the loss but the reconstruction."""
        inference = self.config.inference
        weights = {
            "kl": inference.kl_weight,
            "separation": inference.separation_weight,
            "sparsity": inference.sparsity_weight,
            "supervision": inference.supervision_weight,
            "anchor": inference.anchor_weight,
        }
        return sum(weight * row[f"inference/{name}"] for name, weight in weights.items())


def write_description(folder: Path, task_set: TaskSet, variant: dict[str, Any] | None) -> None:
    """Write task_dict.json, and variant.json where there is one."""
    write_json(folder / TASK_DICT, {name: label for label, name in enumerate(task_set.names)})
    if variant is not None:
        write_json(folder / VARIANT, variant, indent=2, sort_keys=True)


def write_json(path: Path, content: Any, **style: Any) -> None:
    """Write a JSON file, complete or not at all."""
    write_atomically(path, lambda file: file.write(json.dumps(content, **style).encode()))


def transitions(episodes: Episodes) -> list[list[dict[str, Any]]]:
    """Return episodes as the reference writes them for showcase_all and showcase_non_stationary_env."""
    paths = []
    for index, steps in enumerate(episodes.length):
        path = [
            {
                **_true_task(episodes, index, step),
                "image": None,
                "observation": episodes.obs[index, step].tolist(),
                "action": episodes.action[index, step].tolist(),
                "reward": [float(episodes.reward[index, step])],
                "z": episodes.latent[index, step].tolist(),
            }
            for step in range(steps)
        ]
        paths.append(path)
    return paths


def rollouts(episodes: Episodes) -> list[dict[str, Any]]:
    """Return episodes as the reference writes them for showcase_task_inference."""
    paths = []
    for index, steps in enumerate(episodes.length):
        latent = episodes.latent[index, :steps].tolist()
        path = {
            "observations": episodes.obs[index, :steps].tolist(),
            "task_indicators": latent,
            "actions": episodes.action[index, :steps].tolist(),
            "rewards": episodes.reward[index, :steps, None].tolist(),
            "next_observations": episodes.obs[index, 1 : steps + 1].tolist(),
            "next_task_indicators": latent,  # the reference repeats z
            "terminals": episodes.terminated[index, :steps, None].tolist(),
            "agent_infos": [{}] * steps,
            "env_infos": [{}] * steps,
            "true_tasks": [[_true_task(episodes, index, step)] for step in range(steps)],
        }
        paths.append(path)
    return paths


def _true_task(episodes: Episodes, index: int, step: int) -> dict[str, Any]:
    parameter = episodes.parameter[index, step].tolist()
    specification = parameter[0] if len(parameter) == 1 else parameter
    return {"base_task": int(episodes.base_task[index, step]), "specification": specification}
