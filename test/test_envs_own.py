# SPDX-License-Identifier: Apache-2.0
"""What docs/environments.md tells users to write does what it says: a task is a row, a robot a file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CHECK = """
import sys, numpy as np, envs
from gymnasium.utils.env_checker import check_env
env_id, *names = sys.argv[1:]
assert envs.__file__.startswith(sys.path[0]), envs.__file__
assert set(names) <= set(envs.task_set(env_id).names), envs.task_set(env_id).names
check_env(envs.make_env(env_id, base_tasks=names))
env = envs.make_vector(env_id, 4, base_tasks=names, task_change={"every_steps": 3})
env.reset(seed=0)
for _ in range(20):
    obs, reward, *_ = env.step(env.action_space.sample())
assert np.isfinite(obs).all() and np.isfinite(reward).all() and len(set(reward)) == 4
robot = envs.ENVIRONMENTS[env_id].make_robot(1)
assert len(robot.capsules(env.joint_positions[0]).names) > 1 and len(robot.links) > 1
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the package, for a user to change."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def written(heading: str) -> str:
    """Return the code under a heading of the page."""
    page = (ROOT / "docs/environments.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page.split(f"## {heading}\n")[1].split("\n## ")[0], re.DOTALL)
    return code


def check(folder: Path, *arguments: str) -> None:
    (folder / "check.py").write_text(CHECK)
    command = [sys.executable, "check.py", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_task_is_a_row(own: Path) -> None:
    file = own / "envs/half_cheetah.py"
    table = re.search(r"BASE_TASKS = \(\n.*?\n\)\n", file.read_text(), re.DOTALL)
    assert table is not None
    [row] = [line for line in written("Your own task").splitlines() if "BaseTask(" in line]
    changed = table[0].removesuffix(")\n") + row + "\n)\n"
    file.write_text(file.read_text().replace(table[0], changed))
    check(own, "tigr/HalfCheetah-v0", "velocity_forward", "lean")


def test_a_robot_is_a_file(own: Path) -> None:
    (own / "envs/pendulum.py").write_text(written("Your own robot"))
    check(own, "my/Pendulum-v0", "balance_at", "move_at")
