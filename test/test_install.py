# SPDX-License-Identifier: Apache-2.0
"""colcon and pip install everything that belongs to the package, from a copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

PACKAGES = ("envs", "tigr_core", "tigr_ros")
COLCON = Path(sys.executable).with_name("colcon")
WHERE = f"import {', '.join(PACKAGES)}; print(*(m.__file__ for m in ({', '.join(PACKAGES)})), sep='\\n')"


@pytest.fixture
def sources(tmp_path: Path, project_files: list[Path]) -> Path:
    """A copy of the project's files: builds write beside them."""
    copy = tmp_path / "sources"
    for path in project_files:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path)
    return copy


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run a command in `folder` and return its output; fail with everything it said."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def shared_files(project_files: list[Path]) -> set[Path]:
    """What share/tigr_ros has to hold."""
    folders = {"launch": ".launch.py", "config": ""}
    kept = {p for p in project_files if len(p.parts) == 2 and p.name.endswith(folders.get(p.parts[0], "\0"))}
    return kept | {Path("package.xml")}


def package_files(project_files: list[Path]) -> set[Path]:
    """What the three packages have to hold, data files included."""
    return {p for p in project_files if p.parts[0] in PACKAGES}


def missing(folder: Path, files: set[Path]) -> list[Path]:
    return sorted(p for p in files if not (folder / p).is_file())


@pytest.mark.parametrize("options", [(), ("--symlink-install",)], ids=["copied", "symlinked"])
def test_colcon_build(tmp_path: Path, sources: Path, project_files: list[Path], options: tuple[str, ...]) -> None:
    bases = [f"--{base}-base={tmp_path / base}" for base in ("build", "install")]
    said = run([COLCON, f"--log-base={tmp_path / 'log'}", "build", "--base-paths", ".", *bases, *options], sources)
    assert "1 package finished" in said

    prefix = tmp_path / "install" / "tigr_ros"
    for name in ("tigr", "tigr-demo", "sim_node", "policy_node", "train_node", "view_node", "record_node"):
        assert os.access(prefix / "lib/tigr_ros" / name, os.X_OK)
    assert (prefix / "share/ament_index/resource_index/packages/tigr_ros").is_file()
    assert not missing(prefix / "share/tigr_ros", shared_files(project_files))

    sourced = ["sh", "-c", f'. "{tmp_path}/install/local_setup.sh" && exec "$@"', "sh"]
    assert "train" in run([*sourced, prefix / "lib/tigr_ros/tigr", "--help"], tmp_path)
    said = run([*sourced, sys.executable, "-c", WHERE], tmp_path)
    places = [Path(line).parent for line in said.splitlines()]
    assert [place.name for place in places] == list(PACKAGES)
    for place in places:
        assert tmp_path in place.parents, "imported from the build, not from the environment of the tests"
        assert not missing(place.parent, {p for p in package_files(project_files) if p.parts[0] == place.name})
    if options:  # an edit of the sources is seen without another build
        assert all((place / "__init__.py").resolve().is_relative_to(sources) for place in places)


def test_pip_install(tmp_path: Path, sources: Path, project_files: list[Path]) -> None:
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", target, "."], sources)
    assert not missing(target, package_files(project_files))
    assert not missing(target / "share/tigr_ros", shared_files(project_files))
    assert (target / "share/ament_index/resource_index/packages/tigr_ros").is_file()
    assert os.access(target / "bin/tigr", os.X_OK)
    others = {p.name for p in target.iterdir() if not p.name.endswith(".dist-info")} - {
        *PACKAGES,
        "share",
        "bin",
    }
    assert not others, "nothing else is installed"
    places = run([sys.executable, "-c", WHERE], tmp_path, PYTHONPATH=str(target)).splitlines()
    assert [Path(place).parent for place in places] == [target / name for name in PACKAGES]
