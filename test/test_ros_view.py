# SPDX-License-Identifier: Apache-2.0
"""rviz shows the robot as it stands, its present target, and nothing that is over; its configuration fits the nodes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bundles import tiny_bundle
from conftest import ROOT

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from builtin_interfaces.msg import Time
from marker_picture import LATENT, Picture, xyz
from matplotlib.path import Path as Polygon
from mujoco_picture import ACROSS, POSTURE, UP, mujoco_picture, overlap
from ros_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

import envs
from envs.half_cheetah import BASE_TASKS, HalfCheetah
from envs.point_robot import PointRobot
from envs.tasks import TaskSet
from tigr_core.colours import base_task_colour
from tigr_core.controller import Controller
from tigr_core.scene import outline
from tigr_ros import messages, qos
from tigr_ros.markers import LatentSpace
from tigr_ros.robot_markers import FRAME, RobotScene

STAMP = Time(sec=3)
TASKS = TaskSet(BASE_TASKS)


@pytest.fixture(scope="module")
def robot() -> HalfCheetah:
    return HalfCheetah()


def test_the_robot_is_drawn_as_the_simulator_renders_it(robot: HalfCheetah, tmp_path: Path) -> None:
    picture = Picture()
    shown = robot.capsules(POSTURE)
    picture.take(RobotScene(robot.view, TASKS).draw(shown, None, None, STAMP))
    drawn = np.zeros(len(ACROSS), dtype=bool)
    for ends, radius in picture.bodies("robot"):
        shape = outline(ends + np.array([shown.centre[0], 0.0]), radius)  # the view goes along with the robot
        drawn |= Polygon(shape).contains_points(np.stack([ACROSS, UP], axis=1))
    assert overlap(drawn, mujoco_picture(tmp_path)) > 0.95


def test_a_change_of_task_replaces_the_target_and_leaves_nothing(robot: HalfCheetah) -> None:
    picture, scene = Picture(), RobotScene(robot.view, TASKS)
    capsules = robot.capsules(POSTURE)
    picture.take(scene.draw(capsules, TASKS.task("velocity_forward", 3.0), 1.0, STAMP))
    arrow = len(picture.shown["target", 0].points)
    assert ("value", 0) in picture.shown
    picture.take(scene.draw(capsules, TASKS.task("stand_front", 1.0), 0.5, STAMP))
    target = picture.shown["target", 0]
    assert len(target.points) != arrow and ("value", 0) not in picture.shown
    colour = base_task_colour(TASKS.names.index("stand_front"))
    assert (target.color.r, target.color.g, target.color.b) == pytest.approx(colour)
    assert picture.shown["task", 0].text == "task: stand front 1.0 rad"
    picture.take(scene.draw(capsules, None, None, STAMP))
    assert ("target", 0) not in picture.shown and picture.shown["task", 0].text == "no task known"


def test_a_robot_that_runs_stays_in_the_picture_and_the_ground_passes(robot: HalfCheetah) -> None:
    scene, numbers = RobotScene(robot.view, TASKS), []
    for place in (0.2, 123.4):
        picture = Picture()
        picture.take(scene.draw(robot.capsules(np.array([place, *np.zeros(8)])), None, None, STAMP))
        middle = np.mean([ends.mean(axis=0) for ends, _ in picture.bodies("robot")], axis=0)
        assert abs(middle[0]) < 0.5
        metres = {m.text: m.pose.position.x for (name, _), m in picture.shown.items() if name == "metres"}
        numbers.append(len(picture.shown))
        nearest = f"{round(place)} m"
        assert metres[nearest] == pytest.approx(round(place) - place)
    assert numbers[0] == numbers[1], "every picture has the same markers"


def test_a_robot_on_a_plane_is_seen_from_above() -> None:
    point, tasks = PointRobot(), envs.task_set("tigr/PointRobotAxes-v0")
    scene, picture = RobotScene(point.view, tasks), Picture()
    picture.take(scene.draw(point.capsules(np.array([0.3, 0.8])), tasks.task("goal_up", 1.0), None, STAMP))
    ball = xyz(picture.shown["robot_ends", 0].points[0])
    assert ball[[0, 2]] == pytest.approx([0.3, 0.8])
    goal = np.mean([xyz(place) for place in picture.shown["target", 0].points], axis=0)
    assert goal[[0, 2]] == pytest.approx([0.0, 1.0])


def test_the_trail_begins_anew_with_an_empty_context() -> None:
    bundle = tiny_bundle("tigr/PointRobotAxes-v0")
    controller = Controller(bundle.model)
    space, empty = LatentSpace(bundle.info, controller.estimate.latent[0]), controller.estimate.latent[0]
    picture = Picture()
    for latent in (empty, empty + 1.0, empty + 2.0):
        space.add(latent)
    picture.take(space.draw(controller.estimate, STAMP))
    assert len(picture.shown["trail", 0].points) == 3
    space.add(empty)
    picture.take(space.draw(controller.estimate, STAMP))
    assert len(picture.shown["trail", 0].points) == 1


def test_the_node_draws_only_for_somebody(graph: Graph) -> None:
    spec = PointRobot.spec
    states = graph.publisher(JointState, "joint_states", qos.STATE)
    task = graph.publisher(String, "task", qos.LATCHED)
    process = graph.start("view_node", env="tigr/PointRobotAxes-v0")
    graph.wait(states.get_subscription_count, "the view's subscription")
    task.publish(String(data="goal_left(0.5)"))
    heard = graph.listen(MarkerArray, "view_node/markers")

    def seen() -> Any:
        place = np.array([0.1, 0.2])
        states.publish(messages.joint_state(spec, place, np.zeros(2), np.zeros(2), STAMP))
        return next((m for m in heard if any(marker.ns == "target" for marker in m.markers if marker.points)), None)

    picture = Picture()
    picture.take(graph.wait(seen, "the robot and its target"))
    assert picture.shown["task", 0].text == "task: goal left 0.5 m"
    assert graph.end(process) == 0


def test_an_environment_that_does_not_exist_is_one_message(graph: Graph) -> None:
    assert graph.start("view_node", env="tigr/HalfCheeta-v0").wait(120) == 2
    assert "did you mean" in graph.output("view_node") and "Traceback" not in graph.output("view_node")


# ---- what rviz is told ----


@pytest.fixture(scope="module")
def rviz() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config/tigr.rviz").read_text())["Visualization Manager"]


def test_displays_exist_and_listen_to_topics_that_nodes_publish(rviz: dict[str, Any]) -> None:
    published = {
        f"/{name}/{topic}"
        for name in ("policy_node", "view_node")
        for topic in re.findall(r"`~/(\w+)`[^\n]*MarkerArray, out", (ROOT / f"tigr_ros/{name}.py").read_text())
    }
    topics = {display["Topic"]["Value"] for display in rviz["Displays"]}
    assert topics == published == {"/policy_node/markers", "/view_node/markers"}
    assert {display["Class"] for display in rviz["Displays"]} == {"rviz_default_plugins/MarkerArray"}
    policies = {"Reliability Policy": "Reliable", "Durability Policy": "Volatile", "History Policy": "Keep Last"}
    assert all(policies.items() <= display["Topic"].items() for display in rviz["Displays"])


def test_the_camera_looks_at_the_frame_that_the_robot_is_drawn_in(rviz: dict[str, Any]) -> None:
    assert rviz["Global Options"]["Fixed Frame"] == FRAME
    view = rviz["Views"]["Current"]
    assert view["Class"] == "rviz_default_plugins/Orbit" and view["Target Frame"] == FRAME
    assert view["Yaw"] == pytest.approx(1.5 * np.pi) and view["Pitch"] == 0, "from the side, x to the right"


def test_the_launch_file_puts_the_latent_space_where_the_pictures_were_looked_at() -> None:
    tree = ast.parse((ROOT / "launch/view.launch.py").read_text())
    [place] = [ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign)]
    turn, offset = LATENT
    assert place["--frame-id"] == FRAME and float(place["--z"]) == offset[2]
    roll = float(place["--roll"])
    np.testing.assert_allclose([turn[1, 2], turn[2, 1]], [-np.sin(roll), np.sin(roll)], atol=1e-6)
