# SPDX-License-Identifier: Apache-2.0
"""A made-up bundle for tests of everything that acts with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import envs
from tigr_core.bundle import Bundle, BundleInfo, Source, load_bundle
from tigr_core.config import Config, ModelConfig
from tigr_core.model import TaskInferenceModel


def tiny_bundle(env_id: str, path: Path | None = None, **settings: Any) -> Bundle:
    """An untrained policy for an environment, the same at every call; one component stands for each base task.

    With a path the bundle is saved there and loaded again, so that it has a hash.
    """
    env = envs.make_vector(env_id)
    robot, task_set = env.spec_robot, env.task_set
    env.close()
    tasks = len(task_set.names)
    sizes = {"num_components": tasks, "latent_dim": 2, "policy_hidden": (16,), "encoder_width": 1.0}
    config = ModelConfig(**{**sizes, **settings})
    torch.manual_seed(0)
    model = TaskInferenceModel(config, robot.obs_dim, robot.action_dim)
    draws = (torch.randn(9, robot.obs_dim), torch.randn(9, robot.action_dim), torch.randn(9))
    model.normaliser.update(*draws)
    info = BundleInfo(
        env_id=env_id,
        robot=robot.to_dict(),
        base_tasks=list(task_set.names),
        task_units=[task.unit for task in task_set.base_tasks],
        component_to_task=[component % tasks for component in range(config.num_components)],
        model=config,
        latent_centre=[0.0] * config.latent_dim,
        latent_basis=torch.eye(config.latent_dim)[:3].tolist(),
        source=Source(version="0", config=Config().model_dump(mode="json"), env_steps=0, sac_steps=0, evaluation={}),
    )
    bundle = Bundle(model.eval().requires_grad_(False), info)
    if path is None:
        return bundle
    bundle.save(path)
    return load_bundle(path)
