# SPDX-License-Identifier: Apache-2.0
"""Small models and made-up episodes that several tests use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from envs import ENVIRONMENTS
from tigr_core.config import ModelConfig
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes

INSTALLED = [env_id for env_id, definition in ENVIRONMENTS.items() if not definition.missing_extra]


def tiny_model(obs_dim: int = 2, action_dim: int = 2, **settings: Any) -> TaskInferenceModel:
    """A model of a few hundred numbers, the same at every call; the normaliser is still the identity."""
    sizes = {"context_length": 3, "num_components": 2, "latent_dim": 2, "policy_hidden": (8,)}
    widths = {"encoder_width": 1.0, "decoder_width": 1.0}
    torch.manual_seed(0)
    return TaskInferenceModel(ModelConfig(**{**sizes, **widths, **settings}), obs_dim, action_dim)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def episodes_of(
    obs: np.ndarray, action: np.ndarray, reward: np.ndarray, base_task: Any, parameter: Any = 0.0, length: Any = None
) -> Episodes:
    """Episodes of one task each; `terminated` is set at the last step of those shorter than the arrays."""
    count, steps = reward.shape
    lengths = np.array([steps] * count if length is None else length)
    zeros = dict.fromkeys(("tracked_value", "tracked_target", "tracking_error"), np.zeros((count, steps), np.float32))
    zeros |= dict.fromkeys(("mixture_weights", "latent"), np.zeros((count, steps + 1, 2), np.float32))
    return Episodes(
        obs=obs.astype(np.float32),
        action=action.astype(np.float32),
        reward=reward.astype(np.float32),
        terminated=(np.arange(steps) == lengths[:, None] - 1) & (lengths[:, None] < steps),
        length=lengths,
        base_task=np.repeat(np.array(base_task)[:, None], steps, axis=1),
        parameter=np.ones((count, steps, 1), np.float32) * np.reshape(parameter, (-1, 1, 1)).astype(np.float32),
        quantities=np.zeros((count, steps, 1), np.float32),
        **zeros,
    )


def numbered_episodes(lengths: Sequence[int], *, steps: int, first: int = 0) -> Episodes:
    """Episodes that say where they are: step t of episode e has obs 100 e + t, action + 0.25 and reward + 0.5.

    Numbering starts at `first`; the base task is e modulo 2, the parameter e.
    """
    number = np.arange(first, first + len(lengths))
    place = 100.0 * number[:, None] + np.arange(steps + 1)
    now = place[:, :-1]
    return episodes_of(place[..., None], now[..., None] + 0.25, now + 0.5, number % 2, number, lengths)


def two_task_episodes(count: int, *, steps: int) -> Episodes:
    """Random walks in two dimensions; the reward is the first coordinate under task 0, minus it under task 1."""
    rng, base_task = np.random.default_rng(0), np.arange(count) % 2
    action, start = rng.uniform(-1.0, 1.0, (count, steps, 2)), rng.normal(size=(count, 1, 2))
    obs = np.concatenate([start, start + action.cumsum(axis=1)], axis=1)
    return episodes_of(obs, action, np.where(base_task == 0, 1.0, -1.0)[:, None] * obs[:, 1:, 0], base_task)
