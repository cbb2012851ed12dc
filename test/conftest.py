# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one thread, temporary folders for what is written, the list of project files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from ros_graph import Graph

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # same bits on every machine, and quicker at these sizes


@pytest.fixture(autouse=True, scope="session")
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Send what libraries write of their own accord to a temporary folder, and keep ROS to this machine."""
    room = tmp_path_factory.mktemp("home")
    for name in ("COLCON_HOME", "MPLCONFIGDIR", "ROS_HOME", "ROS_LOG_DIR"):
        os.environ[name] = str(room / name.lower())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """Paths of the files that belong to the project, from its root: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture
def graph() -> Iterator[Graph]:
    """A ROS domain for this test, and whatever runs in it."""
    from ros_graph import Graph

    with Graph() as made:
        yield made
