# SPDX-License-Identifier: Apache-2.0
"""rviz shows the robot as it stands, its present target, and nothing that is over; its configuration fits the nodes."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bundles import tiny_bundle
from conftest import ROOT

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from builtin_interfaces.msg import Time
from marker_picture import LATENT, Picture, quaternion_matrix, xyz
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mujoco_picture import ACROSS, POSTURE, UP, mujoco_picture, overlap
from ros_graph import Graph
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

import envs
from envs.half_cheetah import BASE_TASKS, HalfCheetah
from envs.point_robot import PointRobot
from envs.tasks import BaseTask, TaskSet
from tigr_core.colours import base_task_colour
from tigr_core.controller import Controller
from tigr_core.scene import Scene
from tigr_core.targets import Stroke, target_strokes
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
    places = np.stack([ACROSS - shown.centre[0], UP], axis=1)  # the view goes along with the robot
    assert overlap(picture.covers(places, "robot", "robot_ends"), mujoco_picture(tmp_path)) > 0.95


@pytest.mark.parametrize("base_task", BASE_TASKS[:8], ids=lambda task: task.name)
def test_targets_are_drawn_where_videos_have_them(robot: HalfCheetah, base_task: BaseTask) -> None:
    task, shown, picture = TASKS.task(base_task.name, base_task.high), robot.capsules(POSTURE), Picture()
    picture.take(RobotScene(robot.view, TASKS).draw(shown, task, None, STAMP))
    figure = Figure(figsize=(8.0, 4.0), dpi=50)
    scene, canvas = Scene(figure.add_axes((0, 0, 1, 1)), robot.view), FigureCanvasAgg(figure)

    def pixels(strokes: list[Stroke]) -> np.ndarray:
        scene.show(shown, strokes, [], base_task_colour(task.index))
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3] / 255

    video = pixels(target_strokes(base_task, task.parameter, shown.centre))
    differs = np.abs(video - pixels([])).max(axis=2) > 0.1
    assert np.abs(video[differs] - base_task_colour(task.index)).max(axis=1).min() < 0.01, "in the same colour"
    row, column = np.indices(differs.shape)
    metre = len(differs) / (robot.view.high - robot.view.low)
    places = np.stack([(column - differs.shape[1] / 2) / metre, robot.view.high - row / metre], axis=2)
    in_video, flat = places[differs], places.reshape(-1, 2)
    in_markers, hidden = flat[picture.covers(flat, "target")], flat[picture.covers(flat, "robot", "robot_ends")]

    def farthest(these: np.ndarray, those: np.ndarray) -> float:
        """How far any of these places is from the nearest of those, m."""
        return float(np.linalg.norm(these[:, None] - those, axis=2).min(axis=1).max())

    assert farthest(in_video, in_markers) < 0.06, "lines are of different width, no more"
    assert farthest(in_markers, np.concatenate([in_video, hidden])) < 0.06, "in the video the robot hides some of it"


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


def test_the_view_is_placed_in_the_world_so_that_markers_are_where_the_robot_is(robot: HalfCheetah) -> None:
    seen: list[tuple[Any, np.ndarray]] = [(robot, POSTURE), (PointRobot(), np.array([0.3, 0.8]))]
    for shown, positions in seen:
        scene, capsules, picture = RobotScene(shown.view, TASKS), shown.capsules(positions), Picture()
        picture.take(scene.draw(capsules, None, None, STAMP))
        moved = scene.transform(capsules, STAMP)
        assert (moved.header.frame_id, moved.child_frame_id) == ("world", FRAME)
        ends = np.array([xyz(end) for end in picture.shown["robot_ends", 0].points])
        there = ends @ quaternion_matrix(moved.transform.rotation).T + xyz(moved.transform.translation)
        np.testing.assert_allclose(there, capsules.ends.reshape(-1, 3), atol=1e-12)


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
    described: list[String] = graph.listen(String, "robot_description", qos.LATCHED)

    def seen() -> Any:
        place = np.array([0.1, 0.2])
        states.publish(messages.joint_state(spec, place, np.zeros(2), np.zeros(2), STAMP))
        return next((m for m in heard if any(marker.ns == "target" for marker in m.markers if marker.points)), None)

    picture = Picture()
    picture.take(graph.wait(seen, "the robot and its target"))
    assert picture.shown["task", 0].text == "task: goal left 0.5 m"
    graph.wait(lambda: described, "the description, which was published before anybody listened")
    assert '<robot name="point_robot">' in described[0].data
    assert graph.end(process) == 0


@pytest.mark.skipif(find_spec("tf2_msgs") is None, reason="tf2_msgs comes with a ROS 2 installation only")
def test_the_node_tells_where_all_links_are(graph: Graph) -> None:
    from tf2_msgs.msg import TFMessage

    states = graph.publisher(JointState, "joint_states", qos.STATE)
    heard: list[TFMessage] = graph.listen(TFMessage, "/tf")
    process = graph.start("view_node", env="tigr/PointRobotAxes-v0")

    def links() -> Any:
        place, still = np.array([0.1, 0.2]), np.zeros(2)
        states.publish(messages.joint_state(PointRobot.spec, place, still, still, STAMP))
        moved = heard[0].transforms if heard else []
        return {t.child_frame_id: (t.header.frame_id, *xyz(t.transform.translation)) for t in moved}

    found = graph.wait(links, "transforms")
    assert found == {"point_x": ("world", 0.1, 0, 0), "point": ("point_x", 0, 0.2, 0), FRAME: ("world", 0, 0, 0)}
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
    *pictures, model = rviz["Displays"]
    topics = {display["Topic"]["Value"] for display in pictures}
    assert topics == published == {"/policy_node/markers", "/view_node/markers"}
    assert {display["Class"] for display in pictures} == {"rviz_default_plugins/MarkerArray"}
    policies = {"Reliability Policy": "Reliable", "Durability Policy": "Volatile", "History Policy": "Keep Last"}
    assert all(policies.items() <= display["Topic"].items() for display in pictures)
    assert model["Class"] == "rviz_default_plugins/RobotModel" and model["Description Source"] == "Topic"
    assert model["Description Topic"]["Value"] == "/robot_description"
    assert {**policies, "Durability Policy": "Transient Local"}.items() <= model["Description Topic"].items()


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
