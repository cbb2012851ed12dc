# SPDX-License-Identifier: Apache-2.0
"""What the policy reads of an observation."""

from __future__ import annotations

import io
import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model

from envs import make_vector
from tigr_core.checks import check_shifted
from tigr_core.collector import LocalCollector
from tigr_core.config import load_config
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.progress import make_progress
from tigr_core.trainer import Trainer


def test_angles_that_turn_are_read_within_half_a_turn_and_as_sine_and_cosine() -> None:
    model = tiny_model(obs_dim=3, turning=[1])
    model.normaliser.update(torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 4.0]]), torch.randn(2, 2), torch.randn(2))
    obs = torch.tensor([[1.0, math.pi / 2, 4.0], [3.0, 5.0 * math.pi, 2.0]])
    expected = [[0.0, math.pi / 2 - 1.0, 1.0, 1.0, 0.0], [2.0, math.pi - 1.0, 0.0, 0.0, -1.0]]  # of mean 1, 1, 2
    torch.testing.assert_close(model.policy_obs(obs), torch.tensor(expected), atol=1e-5, rtol=0.0)
    assert model.policy_obs_dim == 5 and model.actor.net[0].in_features == 5 + 2
    assert obs[1, 1] == 5.0 * math.pi, "what came in is left alone"


def test_without_them_it_is_the_normalised_observation() -> None:
    model, obs = tiny_model(), torch.randn(4, 2, generator=generator())
    assert torch.equal(model.policy_obs(obs), model.normaliser.obs(obs)) and model.policy_obs_dim == 2


def test_a_turn_later_the_robot_does_the_same() -> None:
    model = tiny_model(turning=[0])
    controllers = [Controller(model, 1) for _ in range(2)]
    now, later = (c.act(np.array([[4.0 + t, 0.5]])) for c, t in zip(controllers, (0.0, 2.0 * math.pi), strict=True))
    np.testing.assert_allclose(later, now, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("model.turning=[0]", "model.turning names entry 0 .*x_position in m"),
        ("model.turning=[9]", "model.turning names entry 9 .*beyond the last one"),
        ("sac.shifted=[9]", "sac.shifted names entry 9 .*beyond the last one"),
        ("sac.unshifted_tasks=[jump]", "sac.unshifted_tasks names jump"),
    ],
)
def test_entries_and_tasks_that_do_not_fit_are_refused(setting: str, found: str, tmp_path: Path) -> None:
    config = load_config("point_robot", [setting])
    collector = LocalCollector(config.env, num_threads=1)
    with pytest.raises(UserError, match=found):
        Trainer(config, tmp_path, collector=collector, progress=make_progress(io.StringIO()))


def test_settings_may_speak_of_base_tasks_that_are_left_out() -> None:
    config = load_config("half_cheetah_eight_told", ["env.base_tasks=[flip_forward]"])
    with closing(make_vector(config.env.id, 1)) as env:
        check_shifted(config, env.spec_robot.observation)
