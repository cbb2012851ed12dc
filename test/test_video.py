# SPDX-License-Identifier: Apache-2.0
"""Pictures and videos show the robot where it is, its target, and what was believed, in the colours of base tasks."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import tiny_bundle
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from mujoco_picture import ACROSS, POSTURE, UP, mujoco_picture, overlap
from PIL import Image

import envs
import tigr_core.cli
from envs.ant import Ant
from envs.half_cheetah import BASE_TASKS, HalfCheetah
from tigr_core import evaluation, run_report, video
from tigr_core.bundle import Bundle
from tigr_core.collector import LocalCollector
from tigr_core.colours import base_task_colour
from tigr_core.config import EnvConfig
from tigr_core.rollout import Episodes
from tigr_core.scene import Scene, outline
from tigr_core.targets import ARROW_M_PER_M_S, X, target_strokes, value_strokes

CENTRE = np.array([2.0, 0.0, 0.7])
TASKS = {task.name: task for task in BASE_TASKS}


def test_a_speed_is_an_arrow_as_long_as_it_is_fast_and_points_there() -> None:
    arrow, head = target_strokes(TASKS["velocity_backward"], (-4.0,), CENTRE)
    np.testing.assert_allclose(arrow[1] - arrow[0], [-4.0 * ARROW_M_PER_M_S, 0, 0])
    np.testing.assert_allclose(head[1], arrow[1])
    assert head[0][0] > arrow[1][0] and head[2][0] > arrow[1][0], "the head points the way it goes"


def test_a_goal_line_stands_at_the_goal_wherever_the_robot_is() -> None:
    for centre in (CENTRE, CENTRE + 9.0 * X):
        assert target_strokes(TASKS["goal_forward"], (12.0,), centre)[0][:, 0].tolist() == [12.0, 12.0]


def test_an_angle_ends_where_the_nose_should_be() -> None:
    arc, spoke = target_strokes(TASKS["stand_front"], (np.pi / 2,), CENTRE)
    np.testing.assert_allclose(arc[0][2], CENTRE[2])
    np.testing.assert_allclose(arc[-1][[0, 1]], CENTRE[:2], atol=1e-12)
    assert arc[-1][2] < CENTRE[2], "a positive pitch turns the nose down"
    np.testing.assert_allclose(spoke[[0, -1]], [CENTRE, arc[-1]])
    assert not value_strokes(TASKS["stand_front"], (1.0,), 0.3, CENTRE), "the robot itself shows its angle"


@pytest.mark.parametrize("name", TASKS)
def test_every_base_task_is_drawn_even_at_rest(name: str) -> None:
    task = TASKS[name]
    assert all(np.isfinite(stroke).all() for stroke in target_strokes(task, (task.high,), CENTRE))
    assert target_strokes(task, (task.high,), CENTRE)
    assert all(np.isfinite(stroke).all() for stroke in value_strokes(task, (task.high,), 0.0, CENTRE))


def test_an_outline_lies_its_radius_around_the_line() -> None:
    shape = outline(np.array([[0.0, 0.0], [3.0, 4.0]]), 0.5)
    along = shape @ np.array([0.6, 0.8])
    beside = np.abs(shape @ np.array([-0.8, 0.6]))
    assert (along.min(), along.max(), beside.max()) == pytest.approx((-0.5, 5.5, 0.5))


def test_the_ground_passes_below_a_robot_that_is_seen_from_above_and_aside() -> None:
    robot = Ant()
    start = robot.joint_positions(robot.initial_state(np.random.default_rng(0))[None])[0]
    pictures = []
    for place in (np.zeros(2), np.array([30.0, -40.0])):
        axes = Figure(figsize=(4, 2)).add_axes((0, 0, 1, 1))
        capsules = robot.capsules(np.concatenate([place, start[2:]]))
        Scene(axes, robot.view).show(capsules, [], [], (0.0, 0.0, 0.0))
        bodies, ground = (collection.get_paths() for collection in axes.collections[2:])
        edges = np.array([*axes.get_xlim(), *axes.get_ylim()]) - np.repeat(np.append(place, 0) @ robot.view.axes.T, 2)
        lines = np.array([path.vertices for path in ground])
        along = np.abs(np.linalg.solve(robot.view.axes[:, :2], lines.reshape(-1, 2).T)).round(9) % 1.0
        assert not along.any(), "lines are at whole metres of the ground"
        pictures.append((edges, len(bodies)))
    robot.close()
    np.testing.assert_allclose(pictures[0][0], pictures[1][0], atol=1e-9)
    assert pictures[0][1] == 13


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny_bundle("tigr/PointRobotAxes-v0")


@pytest.fixture(scope="module")
def record(bundle: Bundle) -> Episodes:
    with closing(LocalCollector(EnvConfig(id=bundle.info.env_id), num_threads=1)) as collector:
        tasks = evaluation.tasks_of(collector.env)
        pair = [tasks.task("goal_left", 0.5), tasks.task("goal_up", 1.0)]
        return evaluation.evaluate(collector, bundle.model, pair, seed=0, episode_steps=4)


def pixels(frame: np.ndarray, colour: tuple[float, float, float]) -> int:
    return int((np.abs(frame - 255 * np.array(colour)).max(axis=2) < 3).sum())


def test_frames_tell_the_true_task_by_its_colour(bundle: Bundle, record: Episodes) -> None:
    tasks = evaluation.tasks_of(EnvConfig(id=bundle.info.env_id))
    frames = list(video.draw_frames(record, [0, 1], bundle.info, tasks))
    assert len(frames) == 8 and len({frame.shape for frame in frames}) == 1
    left, up = base_task_colour(0), base_task_colour(2)
    upper = slice(0, frames[0].shape[0] // 2)  # above the chart: task and target
    assert pixels(frames[0][upper], left) > pixels(frames[4][upper], left)
    assert pixels(frames[4][upper], up) > pixels(frames[0][upper], up)


def test_what_comes_later_is_covered(bundle: Bundle, record: Episodes) -> None:
    tasks = evaluation.tasks_of(EnvConfig(id=bundle.info.env_id))
    frames = list(video.draw_frames(record, [0], bundle.info, tasks))
    height, width = frames[0].shape[:2]
    chart = slice(height // 2 + 10, round(0.8 * height)), slice(round(0.14 * width), None)
    coloured = [int((frame[chart].min(axis=2) < 128).sum()) for frame in frames]
    assert coloured == sorted(coloured) and coloured[0] < coloured[-1]


def test_a_gif_plays_at_the_robots_speed(bundle: Bundle, record: Episodes, tmp_path: Path) -> None:
    tasks = evaluation.tasks_of(EnvConfig(id=bundle.info.env_id))
    video.write_video(tmp_path / "deep" / "a.gif", record, [0], bundle.info, tasks)
    with Image.open(tmp_path / "deep" / "a.gif") as picture:
        assert getattr(picture, "n_frames", 0) == 4
        assert picture.info["duration"] == pytest.approx(1e3 * bundle.robot.control_dt)


def test_a_gif_has_the_colour_of_every_base_task_however_little_of_it(
    bundle: Bundle, record: Episodes, tmp_path: Path
) -> None:
    tasks = envs.task_set("tigr/HalfCheetah-v0")
    info = bundle.info.model_copy(update={"base_tasks": list(tasks.names)})
    labelled = replace(record, base_task=np.full_like(record.base_task, tasks.names.index("velocity_forward")))
    video.write_video(tmp_path / "a.gif", labelled, [0], info, tasks)
    with Image.open(tmp_path / "a.gif") as picture:
        frame = np.asarray(picture.convert("RGB"))
    assert min(pixels(frame, base_task_colour(i)) for i in range(len(tasks))) > 30, "in the legend, at least"


def test_an_mp4_has_every_step(bundle: Bundle, record: Episodes, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `video`")
    tasks = evaluation.tasks_of(EnvConfig(id=bundle.info.env_id))
    video.write_video(tmp_path / "a.mp4", record, [0, 1], bundle.info, tasks)
    frames, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert frames == 8 and seconds == pytest.approx(8 * bundle.robot.control_dt)


def test_the_longest_list_of_base_tasks_is_shown(record: Episodes) -> None:
    changing = record.select(np.array([0, 1, 0]))
    changing.base_task[1, 2:] = 0
    chosen, places = video.episodes_to_show(record, changing)
    assert chosen is changing and places == [1]
    assert video.episodes_to_show(record, None)[1] == [0, 1]


def test_the_report_shows_the_robot(bundle: Bundle, record: Episodes, tmp_path: Path) -> None:
    config = run_report.config_of(bundle).model_copy(update={"env": EnvConfig(id=bundle.info.env_id)})
    run_report.write_page(tmp_path / "a.html", run_report.Results(bundle, config, record, None), {})
    page = (tmp_path / "a.html").read_text()
    assert 'id="postures"' in page


def test_another_suffix_is_one_message_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tigr", "eval", "none.tigr", "--video", "a.avi"])
    with pytest.raises(SystemExit) as end:
        tigr_core.cli.main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "video a.avi" in error and ".mp4 or .gif" in error


def test_the_drawing_covers_what_the_simulator_renders(tmp_path: Path) -> None:
    rendered = mujoco_picture(tmp_path)
    robot = HalfCheetah()
    shown, drawn = robot.capsules(POSTURE), np.zeros_like(rendered)
    robot.close()
    for ends, radius in zip(shown.ends[:, :, [0, 2]], shown.radius, strict=True):
        drawn |= Polygon(outline(ends, radius)).contains_points(np.stack([ACROSS, UP], axis=1))
    assert overlap(drawn, rendered) > 0.95
