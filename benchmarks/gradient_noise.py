# SPDX-License-Identifier: Apache-2.0
"""How noisy the gradients of an inference step are, by how its batch is drawn.

    python benchmarks/gradient_noise.py inference.decoded_per_target=1 inference.decoded_per_target=16
    python benchmarks/gradient_noise.py inference.targets_per_sequence=32 inference.targets_per_sequence=100

Trains inference a little on random actions, then prints, for each setting, the standard deviation of the gradient over
batches and the norm of its mean. Where the numbers agree, what costs more time buys nothing.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import envs
from tigr_core import evaluation
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import Config, load_config, override_config
from tigr_core.errors import UserError
from tigr_core.inference_learner import InferenceLearner
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer


class Subject:
    """A model, and replay of random actions."""

    def __init__(self, config: Config) -> None:
        self.config, self.rng, self.generator = config, np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.tasks = evaluation.tasks_of(config.env)
        train_tasks, _ = evaluation.split_tasks(config)
        spec = envs.make_vector(config.env.id).spec_robot
        self.model = TaskInferenceModel(config.model, spec.obs_dim, spec.action_dim)
        request = Request(train_tasks, list(range(len(train_tasks))), noise_seed=0, random_actions=True)
        episodes = LocalCollector(config.env, num_threads=1).collect(self.model, request)
        self.replay = ReplayBuffer(config.training.replay_capacity, config.env.episode_steps)
        self.replay.add(episodes, self.rng)
        obs, action, reward = (torch.from_numpy(a) for a in (episodes.obs[:, :-1], episodes.action, episodes.reward))
        self.model.normaliser.update(obs.flatten(0, 1), action.flatten(0, 1), reward.flatten())

    def learner(self, setting: str) -> InferenceLearner:
        """Return a learner with one ``key=value`` changed."""
        config = override_config(self.config, [setting]).inference
        return InferenceLearner(self.model, config, self.tasks, rng=self.rng, generator=self.generator)

    def gradients(self, setting: str, batches: int) -> dict[str, torch.Tensor]:
        """Return the gradients ``[batches, parameters]`` of encoder and decoder."""
        learner = self.learner(setting)
        found: dict[str, list[torch.Tensor]] = {"encoder": [], "decoder": []}
        for _ in range(batches):
            self.model.zero_grad()
            learner.loss(self.replay)[0].backward()
            for name, rows in found.items():
                parameters = self.model.get_submodule(name).parameters()
                rows.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        return {name: torch.stack(rows) for name, rows in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--config", default="half_cheetah_eight")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--steps", type=int, default=150, help="of training before")
    arguments = parser.parse_args()
    try:
        subject = Subject(load_config(arguments.config))
        for setting in arguments.settings:
            subject.learner(setting)
    except UserError as error:
        sys.exit(str(error))
    learner = subject.learner("inference.decoded_per_target=2")
    for _ in range(arguments.steps):
        learner.step(subject.replay)
    table = Table("setting", "network", "std of the gradient", "norm of its mean")
    for setting in arguments.settings:
        for name, rows in subject.gradients(setting, arguments.batches).items():
            mean = rows.mean(dim=0)
            spread = (rows - mean).square().sum(dim=1).mean().sqrt()
            table.add_row(setting, name, f"{float(spread):.4f}", f"{float(mean.norm()):.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
