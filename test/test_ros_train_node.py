# SPDX-License-Identifier: Apache-2.0
"""A training on topics: what it tells, what it does when asked, and that nothing is lost however it ends."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import tiny_bundle
from helpers import episodes_of

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from ros_graph import STOP_S, Graph
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from test_trainer import TINY, learned, make_trainer, same
from visualization_msgs.msg import Marker, MarkerArray

from tigr_core.checkpoint import load_checkpoint
from tigr_core.colours import base_task_colour
from tigr_core.run_log import read_progress
from tigr_core.stop import Stop
from tigr_core.trainer import CHECKPOINT
from tigr_ros import messages, qos
from tigr_ros.markers import BALL, METRES, latent_cloud
from tigr_ros.training import Answer, Requests, TrainingProgress

ENDLESS = "training.epochs=100000"
ALL_ROWS = QoSProfile(depth=1000, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


# ---- without processes ----


def test_while_paused_a_save_is_answered_without_another_step() -> None:
    requests = Requests()
    requests.pause(True)
    first = requests.save()
    assert requests() == Stop.AT_STEP
    requests.stop()
    assert requests() == Stop.AT_ONCE, "stopping comes first"
    assert requests.serve(Answer(True, "saved")) is False
    assert first.result() == Answer(True, "saved")


def test_a_request_is_done_once() -> None:
    requests = Requests()
    assert requests() == Stop.NO
    requests.save()
    assert requests() == Stop.AT_STEP
    assert requests.serve(Answer(True, "saved")) is True
    assert requests() == Stop.NO


def test_whoever_asks_when_it_is_over_hears_how_it_ended() -> None:
    requests = Requests()
    waiting = requests.save()
    requests.close(Answer(False, "no space left"))
    assert waiting.result() == requests.save().result() == Answer(False, "no space left")


def test_pauses_do_not_count_for_the_time_left() -> None:
    lines: list[str] = []
    progress = TrainingProgress(lines.append, lambda row: None, lambda bundle, test: None)
    assert str(progress) == "starting" and progress.share_done == 0.0
    progress.start(10, 0)
    progress.epoch({"epoch": 0, "wall_s": 5.0})
    assert math.isnan(progress.time_left_s), "one epoch has no duration yet"
    progress.epoch({"epoch": 1, "wall_s": 25.0})
    progress.start(10, 2)  # after a pause
    progress.phase("sac", 3, 7)
    progress.epoch({"epoch": 2, "wall_s": 45.0})  # 20 s of training each
    assert progress.time_left_s == 160.0 and progress.share_done == 0.2
    assert str(progress) == "epoch 3 of 10, sac 3 of 7, 3 min left"
    assert len(lines) == 4, "the heading once, and a line for each epoch"


def test_the_latent_cloud_shows_the_last_estimates_of_each_task() -> None:
    info = tiny_bundle("tigr/PointRobotAxes-v0").info  # drawn along its two axes, from the origin
    test = episodes_of(
        np.zeros((3, 4, 2)), np.zeros((3, 3, 2)), np.zeros((3, 3)), base_task=[2, 0, 2], length=[3, 3, 2]
    )
    test.latent[0, 3], test.latent[2, 2], test.latent[2, 3] = [1.0, 2.0], [3.0, 4.0], [9.0, 9.0]  # the last: padding
    markers = latent_cloud(info, test, Time(sec=5)).markers
    (cloud,) = [m for m in markers if m.type == Marker.SPHERE_LIST and m.id == 2]
    np.testing.assert_allclose([(p.x, p.y, p.z) for p in cloud.points], METRES * np.array([[1, 2, 0], [3, 4, 0]]))
    red, green, blue = base_task_colour(2)
    assert [cloud.color.r, cloud.color.g, cloud.color.b] == pytest.approx([red, green, blue])
    (name,) = [m for m in markers if m.type == Marker.TEXT_VIEW_FACING and m.id == 2]
    place = (name.pose.position.x, name.pose.position.y)
    assert name.text == "goal_up" and place == pytest.approx((2.0 * METRES, 3.0 * METRES))
    assert {m.id for m in markers} == {0, 2}, "no cloud without an episode"
    assert cloud.scale.x < BALL and cloud.header.stamp.sec == 5


# ---- with processes ----


class Training:
    """A train_node in a process, and what is heard of it."""

    def __init__(self, graph: Graph, output: Path, *overrides: str, **parameters: Any) -> None:
        self.graph, self.output = graph, output
        graph.environment["OMP_NUM_THREADS"] = "1"  # as in the test's own process, for equal bits
        self.metrics = graph.listen(Float64MultiArray, "/train_node/metrics", ALL_ROWS)
        self.status = graph.listen(String, "/train_node/status", qos.LATCHED)
        new = {"config": "point_robot", "output": output} if "resume" not in parameters else {}
        changed = [*(TINY if new else []), *overrides]
        self.process = graph.start("train_node", **new, **parameters, **({"overrides": changed} if changed else {}))

    @property
    def folder(self) -> Path:
        (folder,) = self.output.glob("PointRobotAxes-v0/point_robot-seed0-*")
        return folder

    def rows(self) -> dict[str, list[float]]:
        return read_progress(self.folder / "progress.csv")

    def wait_for_epochs(self, count: int) -> None:
        """Wait until so many more rows are heard."""
        wanted = len(self.metrics) + count
        self.graph.wait(lambda: len(self.metrics) >= wanted, f"{count} more epochs")

    def wait_for_status(self, start: str) -> str:
        return str(self.graph.wait(lambda: [s.data for s in self.status if s.data.startswith(start)], start)[-1])

    def call(self, service: str, data: bool | None = None) -> Any:
        """Call a service and return its message."""
        kind, request = (Trigger, None) if data is None else (SetBool, SetBool.Request(data=data))
        response = self.graph.call(kind, f"/train_node/{service}", request)
        assert response.success, response.message
        return response.message

    def end(self) -> int:
        """Wait for the process to end by itself."""
        self.graph.wait(lambda: self.process.poll() is not None, "the end of the process")
        assert "Traceback" not in self.graph.output("train_node")
        return int(self.process.returncode)


def uninterrupted(folder: Path, epochs: int) -> dict[str, list[float]]:
    """Return what an undisturbed training in this process learns."""
    assert make_trainer(folder, f"training.epochs={epochs}").run()
    return learned(folder)


def test_it_tells_the_rows_and_the_latent_space_and_ends_complete(graph: Graph, tmp_path: Path) -> None:
    shares, clouds = (
        graph.listen(kind, f"/train_node/{topic}", qos.LATCHED)
        for kind, topic in ((Float64, "progress"), (MarkerArray, "latent_space"))
    )
    training = Training(graph, tmp_path, ENDLESS)
    training.wait_for_epochs(3)
    assert training.call("stop") == "saves and ends"
    assert training.end() == 0
    training.wait_for_status("stopped and saved")
    columns = read_progress(training.folder / "progress.csv")
    assert columns["epoch"][:3] == [0.0, 1.0, 2.0]
    for number, row in enumerate(training.metrics):
        assert messages.read_labels(row) == tuple(columns)
        np.testing.assert_array_equal(row.data, [values[number] for values in columns.values()])
    assert 0.0 < shares[-1].data < 1.0
    assert {marker.text for marker in clouds[-1].markers} >= {"goal_left", "goal_up"}

    # The run that goes on ends like one that was never stopped.
    epochs = len(columns["epoch"])
    again = Training(graph, tmp_path, f"training.epochs={epochs}", resume=training.folder)
    assert again.end() == 0
    assert same(learned(training.folder), uninterrupted(tmp_path / "reference", epochs))
    names = {file.name for file in training.folder.iterdir()}
    assert names >= {"config.yaml", "best.tigr", "last.tigr", "evaluation.npz", "report.html", "tensorboard"}
    assert "complete: report in" in graph.output("train_node")


def test_a_pause_stands_still_and_saves(graph: Graph, tmp_path: Path) -> None:
    said: list[DiagnosticArray] = graph.listen(DiagnosticArray, "/diagnostics")
    training = Training(graph, tmp_path, ENDLESS)
    training.wait_for_epochs(1)
    assert training.call("pause", True) == "pauses after the present step"
    training.wait_for_status("paused in epoch")

    said.clear()
    graph.wait(lambda: len(said) >= 3, "diagnostics while paused")
    assert {array.status[0].level for array in said} == {DiagnosticStatus.OK}
    steps = {(values["inference steps"], values["SAC steps"]) for values in map(values_of, said)}
    assert len(steps) == 1, "something ran in between"
    saved = load_checkpoint(training.folder / CHECKPOINT)
    assert steps == {(str(saved["inference"]["steps"]), str(saved["sac"]["steps"]))}
    assert training.call("save").startswith("saved in"), "all is saved already"

    heard = len(training.metrics)
    assert training.call("pause", False) == "goes on"
    training.wait_for_epochs(2)
    assert len(training.metrics) > heard
    training.call("pause", True)
    training.wait_for_status("paused in epoch")
    assert graph.end(training.process) == 0, "it also ends from a pause"


def values_of(array: DiagnosticArray) -> dict[str, str]:
    return {pair.key: pair.value for pair in array.status[0].values}


def test_save_answers_when_the_checkpoint_is_written(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path, ENDLESS, "training.checkpoint_every=100000")
    training.wait_for_epochs(3)
    file = training.folder / CHECKPOINT
    assert load_checkpoint(file)["epoch"] == 1, "saved once by itself, after the first evaluation"
    assert training.call("save") == f"saved in {file}"
    assert load_checkpoint(file)["epoch"] >= 3
    training.wait_for_epochs(1)
    assert graph.end(training.process) == 0


def test_a_killed_training_goes_on_as_if_nothing_had_happened(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path, ENDLESS, "training.checkpoint_every=3")
    training.wait_for_epochs(6)
    graph.end(training.process, signal.SIGKILL)
    rows = len(training.rows()["epoch"])
    assert load_checkpoint(training.folder / CHECKPOINT)["epoch"] <= rows
    again = Training(graph, tmp_path, f"training.epochs={rows + 1}", resume=training.folder)
    assert again.end() == 0
    assert same(learned(training.folder), uninterrupted(tmp_path / "reference", rows + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_even_amid_a_long_episode(graph: Graph, tmp_path: Path, number: signal.Signals) -> None:
    training = Training(graph, tmp_path, "env.episode_steps=20000", "training.replay_capacity=1000000")
    training.wait_for_status("epoch 0 of 2, evaluate 0 of 1")
    asked = time.monotonic()
    training.process.send_signal(number)
    assert graph.end(training.process, number) == 0
    assert time.monotonic() - asked < 10 * STOP_S
    assert load_checkpoint(training.folder / CHECKPOINT)["phase"] == "evaluate"
    said = graph.output("train_node")
    assert f"go on with the parameter resume:={training.folder}" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"config": "quik"}, "did you mean 'quick'?"),
        ({"overrides": "sac.discont=0.9"}, "did you mean 'discount'?"),
        ({"overrides": ["seed=1", "training.epochs=many"]}, "training.epochs"),
        ({"device": "tpu"}, "found 'tpu' for parameter 'device', expected one of cpu, cuda, auto"),
        ({"seed": -2}, "seed"),
        ({"resume": "nowhere"}, "no checkpoint at nowhere"),
    ],
)
def test_a_wrong_parameter_is_one_message_and_nothing_is_written(
    graph: Graph, tmp_path: Path, parameters: dict[str, Any], found: str
) -> None:
    process = graph.start("train_node", **{"output": tmp_path / "out", **parameters})
    assert process.wait(60) == 2
    said = graph.output("train_node")
    assert said.count("error: ") == 1 and found in said and "fix: " in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(graph: Graph, tmp_path: Path) -> None:
    training = Training(graph, tmp_path, ENDLESS)
    training.wait_for_epochs(2)
    second: subprocess.Popen[bytes] = graph.start("train_node", "-r", "__node:=second", resume=training.folder)
    assert second.wait(60) == 2
    graph.wait_until_said("train_node", "in use by another process")
    training.wait_for_epochs(1)
    assert graph.end(training.process, signal.SIGTERM) == 0
