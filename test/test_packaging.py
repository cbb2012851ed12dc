# SPDX-License-Identifier: Apache-2.0
"""The project's files agree with each other, and imports point one way."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import setuptools
from conftest import ROOT

MAY_IMPORT: dict[str, set[str]] = {
    "envs": set(),
    "tigr_core": {"envs"},
    "tigr_ros": {"envs", "tigr_core"},
    "launch": {"tigr_ros"},
}
OWN = {"envs", "tigr_core", "tigr_ros"}
NO_WHEELS = {"launch", "launch_ros", "ros2launch", "tf2_msgs", "tf2_ros"}
APART = {"metaworld"}  # extras with an environment, and a file of versions, of their own
ROS_ONLY = {"rclpy", "launch", "launch_ros", "std_srvs"}
PINNED = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*)")

Modules = dict[str, tuple[Path, list[tuple[str, ...]]]]
"""Name of a module to its path and what it imports, as `imports` gives it."""


# ---- what setup.py, package.xml and the texts say ----


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    """What setup.py hands to setup()."""
    arguments: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        runpy.run_path("setup.py")
    return arguments


@pytest.fixture(scope="module")
def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    """Package name to version, of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    matches = [PINNED.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(matches), "every line of requirements.lock is name==version"
    pairs = [(m[1], m[2]) for m in matches if m]
    assert pairs == sorted(set(pairs)) and len(pairs) == len(dict(pairs)), "sorted, each package once"
    return dict(pairs)


def requirement_name(requirement: str) -> str:
    """Return the normalised name in a requirement: ``"ros-rclpy[fastrtps]>=9"`` gives ``"ros-rclpy"``."""
    return re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-")


def test_package_xml_agrees_with_setup(package_xml: ElementTree.Element, setup_arguments: dict[str, Any]) -> None:
    assert package_xml.get("format") == "3"
    assert package_xml.findtext("name") == setup_arguments["name"]
    assert package_xml.findtext("version") == setup_arguments["version"]
    assert package_xml.findtext("license") == setup_arguments["license"] == "Apache-2.0"
    assert package_xml.findtext("description") == setup_arguments["description"] + "."
    assert package_xml.findtext("export/build_type") == "ament_python"
    assert (ROOT / "resource" / setup_arguments["name"]).is_file()


def test_ros_dependencies_agree(package_xml: ElementTree.Element, setup_arguments: dict[str, Any]) -> None:
    keys = {element.text or "" for element in package_xml.iter("exec_depend")}
    wheels = {requirement_name(r) for r in setup_arguments["extras_require"]["ros"]}
    ros = {key for key in keys - NO_WHEELS if not key.startswith("python3-")}
    assert {f"ros-{key}".replace("_", "-") for key in ros} == wheels


def test_rosdep_keys_name_what_setup_requires(
    package_xml: ElementTree.Element, setup_arguments: dict[str, Any]
) -> None:
    keys = {element.text or "" for element in package_xml.iter("exec_depend")}
    declared = {re.sub(r"^python3-|-pip$", "", key) for key in keys if key.startswith("python3-")}
    required = {requirement_name(r).replace("pyyaml", "yaml") for r in setup_arguments["install_requires"]}
    assert required - declared == {"safetensors"}, "safetensors alone has no rosdep key"
    assert declared <= required


def test_everything_required_is_locked(lock: dict[str, str], setup_arguments: dict[str, Any]) -> None:
    extras = {extra: group for extra, group in setup_arguments["extras_require"].items() if extra not in APART}
    groups = [setup_arguments["install_requires"], *extras.values()]
    missing = {requirement_name(r) for group in groups for r in group} - set(lock)
    assert not missing


def test_texts_name_the_same_versions(lock: dict[str, str], setup_arguments: dict[str, Any]) -> None:
    newest = re.search(r"^(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)\n-+$", (ROOT / "CHANGELOG.rst").read_text(), re.MULTILINE)
    assert newest and newest[1] == setup_arguments["version"]
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"Version (\d+\.\d+\.\d+)", readme) == [setup_arguments["version"]]
    assert f"Python {setup_arguments['python_requires'].removeprefix('>=')}" in readme
    assert all(lock.get(name) == version for name, version in PINNED.findall(readme))


def test_every_python_file_names_its_licence(project_files: list[Path]) -> None:
    first = "# SPDX-License-Identifier: Apache-2.0"
    without = [p for p in project_files if p.suffix == ".py" and (ROOT / p).read_text().partition("\n")[0] != first]
    assert not without


def test_no_file_names_a_folder_of_some_machine(project_files: list[Path]) -> None:
    folder = re.compile(rb"(?<![\w.~$}-])/(?:home|root|work|farm|Users)/[\w.]")
    assert folder.search(b"see /" + b"home/me/x") and not folder.search(b"share/work/x")
    naming = [str(p) for p in project_files if folder.search((ROOT / p).read_bytes())]
    assert not naming


# ---- imports ----


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, ...]]:
    """Yield each imported name of a module in `package` as candidates, the most exact first.

    ``from a.b import c`` may mean the module ``a.b.c`` or a name in ``a.b``. What only type checkers read is
    left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(ast.Module([other], []), package)
        elif isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", base) for alias in node.names)
        else:
            yield from imports(node, package)


@pytest.fixture(scope="module")
def modules(project_files: list[Path]) -> Modules:
    """The modules of the three packages and the launch files."""
    found: Modules = {}
    for path in project_files:
        if path.suffix == ".py" and path.parts[0] in MAY_IMPORT:
            parts = path.with_suffix("").parts
            package = ".".join(parts[:-1])
            name = package if parts[-1] == "__init__" else f"{package}.{parts[-1]}"
            found[name] = (path, list(imports(ast.parse((ROOT / path).read_text()), package)))
    assert set(found) >= OWN
    return found


def test_import_reader() -> None:
    source = """
from __future__ import annotations
import a.b
if TYPE_CHECKING:
    import hidden
else:
    import shown
def f():
    from . import near
    from ..far import x
"""
    names = [candidates[0] for candidates in imports(ast.parse(source), "p.q")]
    assert names == ["__future__.annotations", "a.b", "shown", "p.q.near", "p.far.x"]


def may_import(path: Path, top: str) -> bool:
    """Tell whether the file at `path` may import from the top-level package `top`."""
    place = path.parts[0]
    if top in OWN:
        return top == place or top in MAY_IMPORT[place]
    if top in ROS_ONLY or top.endswith(("_interfaces", "_msgs")):
        return place in ("tigr_ros", "launch")
    if top == "ray":
        return path == Path("tigr_core/ray_collector.py")
    if top == "metaworld":
        return path == Path("envs/meta_world_simulator.py")
    return top != "mujoco" or place == "envs"


def test_imports_point_one_way(modules: Modules) -> None:
    wrong = [
        f"{path} imports {top}"
        for path, found in modules.values()
        for top in sorted({candidates[0].split(".")[0] for candidates in found})
        if not may_import(path, top)
    ]
    assert not wrong


def test_no_cycles_between_modules(modules: Modules) -> None:
    graph = {
        name: {next((c for c in candidates if c in modules), name) for candidates in found} - {name}
        for name, (_, found) in modules.items()
    }
    assert any(graph.values()), "found no imports at all"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")
