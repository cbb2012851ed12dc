# SPDX-License-Identifier: Apache-2.0
"""Launch files name only what there is; where `launch` is installed, they start it, too."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import runpy
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import setuptools
from bundles import tiny_bundle
from conftest import ROOT

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from ros_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from tigr_ros import qos

FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODES = ("sim", "policy", "train")
COMMON = {"namespace", "use_sim_time", "log_level"}

# The folder launch/ makes `import launch` succeed in any case.
needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None, reason="launch and launch_ros come with a ROS 2 installation only"
)


def test_the_launch_files_are_there() -> None:
    assert {path.name.partition(".")[0] for path in FILES} == {*NODES, "demo", "view"}


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function of that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def literals(tree: ast.AST, name: str) -> list[tuple[str, ...]]:
    """The arguments of all calls of a function, as far as they are plain strings."""
    return [
        tuple(a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
        for call in calls(tree, name)
    ]


def keywords(tree: ast.AST, function: str) -> dict[str, Any]:
    """The keyword arguments of the one call of a function, as far as they are literal."""
    [call] = calls(tree, function)
    return {k.arg: k.value.value for k in call.keywords if k.arg and isinstance(k.value, ast.Constant)}


def assigned(tree: ast.Module, name: str) -> Any:
    """The literal value of a module's constant."""
    [value] = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name]
    return ast.literal_eval(value)


@pytest.fixture(params=FILES, ids=lambda path: path.name.partition(".")[0])
def launch_file(request: pytest.FixtureRequest) -> Path:
    return request.param


def tree_of(name: str) -> ast.Module:
    return ast.parse((ROOT / "launch" / f"{name}.launch.py").read_text())


@pytest.fixture(scope="module")
def executables() -> set[str]:
    """What `ros2 run tigr_ros` offers."""
    given: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
        runpy.run_path("setup.py")
    return {line.partition(" = ")[0] for line in given["entry_points"]["console_scripts"]}


@pytest.mark.parametrize("name", NODES)
def test_nodes_and_their_parameters_exist(name: str, executables: set[str]) -> None:
    tree = tree_of(name)
    node = keywords(tree, "LifecycleNode" if name == "policy" else "Node")
    assert node["package"] == "tigr_ros" and node["executable"] == node["name"] == f"{name}_node"
    assert node["executable"] in executables
    declared = {p.name for p in importlib.import_module(f"tigr_ros.{name}_node").PARAMETERS}
    parameters = assigned(tree, "PARAMETERS")
    assert set(parameters) <= declared and all(parameters.values())
    assert not set(parameters) & COMMON


def test_every_node_that_is_started_is_installed(executables: set[str]) -> None:
    trees = [ast.parse(path.read_text()) for path in (*FILES, ROOT / "tigr_ros/launching.py")]
    started = [call for tree in trees for kind in ("Node", "LifecycleNode") for call in calls(tree, kind)]
    given = [{word.arg: ast.unparse(word.value).strip("'") for word in call.keywords} for call in started]
    own = {words["executable"] for words in given if words["package"] in ("tigr_ros", "PACKAGE")}
    assert {"sim_node", "policy_node", "train_node", "view_node", "record_node"} == own <= executables
    others = {f"{words['package']}/{words['executable']}" for words in given} - {f"tigr_ros/{name}" for name in own}
    assert others - {"PACKAGE/record_node"} == {"tf2_ros/static_transform_publisher", "rviz2/rviz2"}


def test_files_that_are_named_exist(launch_file: Path) -> None:
    tree = ast.parse(launch_file.read_text())
    named = [("config", *names) for names in literals(tree, "parameter_arguments")] + literals(tree, "shipped")
    named += [("launch", *names) for names in literals(tree, "_include")]
    whole = [Path(*parts) for parts in named if len(parts) == 2]
    assert whole and all((ROOT / path).is_file() for path in whole)


def arguments_of(name: str) -> set[str]:
    """All arguments that a launch file declares."""
    tree = tree_of(name)
    declared = {names[0] for names in literals(tree, "DeclareLaunchArgument")} | COMMON
    declared |= {"record", "recording"} if list(calls(tree, "recorder")) else set()
    return declared | ({"params_file", *assigned(tree, "PARAMETERS")} if name in NODES else set())


def test_arguments_that_are_read_are_declared(launch_file: Path) -> None:
    read = {names[0] for names in literals(ast.parse(launch_file.read_text()), "LaunchConfiguration") if names}
    assert read and read <= arguments_of(launch_file.name.partition(".")[0])


def test_every_argument_is_described(launch_file: Path) -> None:
    tree = ast.parse(launch_file.read_text())
    assert list(calls(tree, "common_arguments"))
    for call in calls(tree, "DeclareLaunchArgument"):
        described = {k.arg: k.value for k in call.keywords}
        assert isinstance(described["description"], ast.Constant) and described["description"].value


def test_what_the_demo_passes_on_exists_there() -> None:
    [demo] = [n for n in tree_of("demo").body if isinstance(n, ast.FunctionDef) and n.name.startswith("generate")]
    passed = {
        ast.unparse(n.targets[0]): {k.value for k in n.value.keys if isinstance(k, ast.Constant)}
        for n in demo.body
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Dict)
    }
    assert passed["simulator"] <= arguments_of("sim") and passed["policy"] <= arguments_of("policy")
    assert {"env", "task_change"} <= passed["simulator"] and {"bundle", "autostart"} <= passed["policy"]


# ---- with the real launch ----


def launch(graph: Graph, name: str, *arguments: str) -> Any:
    return graph.run([shutil.which("ros2") or "ros2", "launch", "tigr_ros", f"{name}.launch.py", *arguments], name)


@needs_launch
def test_every_argument_is_shown(launch_file: Path, graph: Graph) -> None:
    name = launch_file.name.partition(".")[0]
    assert launch(graph, name, "--show-args").wait(60) == 0
    assert all(f"'{argument}':" in graph.output(name) for argument in arguments_of(name))


@needs_launch
def test_arguments_win_over_the_file(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("/**:\n  ros__parameters: {env: tigr/PointRobotAxes-v0, task: goal_up, seed: 3}\n")
    task: list[String] = graph.listen(String, "far/task", qos.LATCHED)
    given = (f"params_file:={tmp_path}/p.yaml", "namespace:=far", "task:=goal_left", "parameter:=0.5")
    process = launch(graph, "sim", *given)
    graph.wait(lambda: task, "the task")
    assert task[0].data == "goal_left(0.5)"
    assert graph.end(process, signal.SIGINT) == 0
    assert "process has finished cleanly" in graph.output("sim")


@needs_launch
def test_simulator_and_policy_work_together(graph: Graph, tmp_path: Path) -> None:
    tiny_bundle("tigr/PointRobotAxes-v0", tmp_path / "a.tigr")
    states: list[JointState] = graph.listen(JointState, "joint_states")
    commands: list[Float64MultiArray] = graph.listen(Float64MultiArray, "commands")
    process = launch(graph, "demo", f"bundle:={tmp_path}/a.tigr")
    graph.wait(lambda: len(states) > 20 and len(commands) > 20, "20 states and commands")
    assert graph.end(process, signal.SIGINT) == 0
    assert graph.output("demo").count("process has finished cleanly") == 2


@needs_launch
def test_a_policy_is_recorded_when_asked_to(graph: Graph, tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra `record`")
    tiny_bundle("tigr/PointRobotAxes-v0", tmp_path / "a.tigr")
    given = (f"bundle:={tmp_path}/a.tigr", "record:=true", f"recording:={tmp_path}/a.mcap")
    process = launch(graph, "policy", *given)
    graph.wait_until_said("policy", "hearing /policy_node/spec")
    assert graph.end(process, signal.SIGINT) == 0
    assert graph.output("policy").count("process has finished cleanly") == 2
    assert b"/policy_node/spec" in (tmp_path / "a.mcap").read_bytes()
