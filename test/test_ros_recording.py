# SPDX-License-Identifier: Apache-2.0
"""What is recorded can be read by others, inferred again to the last bit, reported, and learned from."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from bundles import tiny_bundle
from test_cli import SETTINGS, tigr

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")
mcap_reader = pytest.importorskip("mcap.reader", reason="needs the extra `record`")
pytest.importorskip("mcap_ros2", reason="needs the extra `record`")

from ros_graph import Graph
from std_msgs.msg import Float64MultiArray

from tigr_core.bundle import Bundle, load_bundle
from tigr_core.checkpoint import load_checkpoint
from tigr_core.errors import UserError
from tigr_core.recording import Answer, Heard, Recording, _partners, infer_again, read_recording, to_episodes
from tigr_core.trainer import CHECKPOINT
from tigr_ros.record_node import NOTHING_LOST, topics
from tigr_ros.start import record_arguments

ENV_ID = "tigr/PointRobotAxes-v0"
EPISODE_STEPS, ANSWERS = 6, 40
ESTIMATES = [f"/policy_node/{name}" for name in ("latent", "task_probabilities", "transition")]


@dataclass(frozen=True)
class Recorded:
    file: Path
    bundle_file: Path
    bundle: Bundle
    heard: list[Float64MultiArray]  # transitions, as the test heard them itself

    def from_an_episode_on(self) -> Recording:
        """The recording without the episode in whose midst the recorder found the last topic."""
        recording = read_recording(self.file)
        begin = next(i for i, answer in enumerate(recording.answers) if answer.context_length == 0)
        return replace(recording, answers=recording.answers[begin:])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record a simulator and a policy at work, each in a process of its own."""
    room = tmp_path_factory.mktemp("recording")
    bundle = tiny_bundle(ENV_ID, room / "a.tigr")
    file = room / "deep" / "a.mcap"
    with Graph() as graph:
        recorder = graph.start("record_node", output=file)
        change = {"task_change": "every_steps:4", "episode_steps": EPISODE_STEPS}
        simulator = graph.start("sim_node", env=ENV_ID, lock_step=True, **change)
        policy = graph.start("policy_node", bundle=room / "a.tigr", lock_step=True, autostart=True, soft_start_s=0.0)
        # In lock-step both may have done much before the recorder has found them: what counts comes after that, so
        # the test listens from then on.
        for topic in ("/joint_states", "/reward", "/commands", "/task_info", *ESTIMATES):
            graph.wait_until_said("record_node", f"hearing {topic}")
        heard = graph.listen(Float64MultiArray, "policy_node/transition", NOTHING_LOST)
        enough = ANSWERS + 4 * EPISODE_STEPS
        graph.wait(lambda: len(heard) >= enough, f"{ANSWERS} answers and some at either end")
        for process in (policy, simulator, recorder):
            assert graph.end(process, signal.SIGINT) == 0
        assert "recorded" in graph.output("record_node")
    return Recorded(file, room / "a.tigr", bundle, heard)


def test_independent_readers_find_every_topic(recorded: Recorded) -> None:
    rosbags = pytest.importorskip("rosbags.highlevel", reason="needs rosbags")
    typestore = pytest.importorskip("rosbags.typesys")
    known = typestore.get_typestore(typestore.Stores.ROS2_HUMBLE)
    names = {name if name.startswith("/") else f"/{name}" for name in topics("policy_node")}
    with recorded.file.open("rb") as stream:
        summary = mcap_reader.make_reader(stream).get_summary()
    assert {channel.topic for channel in summary.channels.values()} == names
    count, values = 0, []
    with rosbags.AnyReader([recorded.file], default_typestore=known) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            count += 1
            if connection.topic == "/policy_node/transition":
                values.append(message.data)
    assert count == summary.statistics.message_count
    places = {bytes(value): i for i, value in enumerate(values) if np.isfinite(value).all()}  # episodes all begin alike
    ours = [bytes(message.data) for message in recorded.heard[-ANSWERS - EPISODE_STEPS :]]
    both = [places[value] for value in ours if value in places]  # on a busy machine, each may miss what the other has
    assert len(both) > ANSWERS // 2 and both == sorted(both)


def test_the_same_bundle_infers_the_same_to_the_last_bit(recorded: Recorded) -> None:
    recording = recorded.from_an_episode_on()
    assert recording.spec["sha256"] == recorded.bundle.info.sha256
    result = infer_again(recording, recorded.bundle)
    assert result.first is None and set(result.largest.values()) == {0.0}
    assert result.compared >= ANSWERS and result.skipped == 0


def test_another_bundle_differs_and_says_where(recorded: Recorded, tmp_path: Path) -> None:
    recording = recorded.from_an_episode_on()
    tiny_bundle(ENV_ID, tmp_path / "b.tigr")
    other = load_bundle(tmp_path / "b.tigr")
    for value in other.model.encoder.head.parameters():
        value.mul_(1.5)
    result = infer_again(recording, other)
    assert result.first == 0 and result.largest["latent"] > 0.0


def test_a_context_from_before_the_recording_is_left_out(recorded: Recorded) -> None:
    recording = recorded.from_an_episode_on()
    late = replace(recording, answers=recording.answers[2:])
    result = infer_again(late, recorded.bundle)
    assert result.first is None and result.skipped == EPISODE_STEPS - 1  # an episode has one more state than steps


def test_episodes_are_what_the_simulator_did(recorded: Recorded) -> None:
    episodes = to_episodes(recorded.from_an_episode_on())
    assert (episodes.length[:3] == EPISODE_STEPS).all()
    assert (np.diff(episodes.base_task[:3, [0, 3]], axis=1) == 0).all(), "the task changes after step 4"
    # PointRobot moves by a tenth of the action.
    moved = np.diff(episodes.obs[:3], axis=1)
    np.testing.assert_allclose(moved, 0.1 * episodes.action[:3], atol=1e-6)
    np.testing.assert_allclose(episodes.reward[:3], -episodes.tracking_error[:3], atol=1e-6)
    np.testing.assert_array_equal(episodes.quantities[:3, :, :2], episodes.obs[:3, 1:])


def test_replay_and_report_as_commands(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert tigr(monkeypatch, "replay", recorded.file, "--bundle", recorded.bundle_file) == 0
    assert "the same to the last bit" in capsys.readouterr().out
    assert tigr(monkeypatch, "replay", recorded.file) == 2
    assert "--bundle" in capsys.readouterr().err
    assert tigr(monkeypatch, "report", recorded.file, "--output", tmp_path / "a.html") == 0
    page = (tmp_path / "a.html").read_text()
    assert recorded.bundle.info.sha256[:12] in page and "state to command" in page


def test_a_recording_joins_the_replay_data_of_a_run(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert tigr(monkeypatch, "train", "point_robot", *SETTINGS, "--output", tmp_path) == 0
    (run,) = tmp_path.glob("*/*")
    before = load_checkpoint(run / CHECKPOINT)["replay"]["num_added"]
    assert tigr(monkeypatch, "import-bag", recorded.file, run) == 0
    assert "added" in capsys.readouterr().out
    assert load_checkpoint(run / CHECKPOINT)["replay"]["num_added"] > before
    assert tigr(monkeypatch, "train", "--resume", run, "--set", "training.epochs=2") == 0


def test_a_message_that_was_not_recorded_is_not_replaced_by_one_of_another_episode() -> None:
    transitions = [Heard(0, 10, None), Heard(0, 50, None)]
    (late,) = states = [Heard(0, 48, None)]
    assert _partners(transitions, states) == {1: late}
    assert _partners(transitions, [Heard(0, 9, None), late]) == {0: Heard(0, 9, None), 1: late}


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "no recording at"), (b"", "is damaged"), (b"\x89MCAP0\r\n and then nothing", "is damaged")],
)
def test_a_bad_file_is_one_message(content: bytes | None, found: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(UserError, match=found):
        read_recording(tmp_path / "a.mcap")


def test_a_bundle_for_other_tasks_is_refused() -> None:
    answers: list[Answer] = []
    recording = Recording(Path("a.mcap"), {"env_id": "tigr/PointRobot-v0", "base_tasks": ["goal"]}, answers)
    with pytest.raises(UserError, match=r"recorded with env_id 'tigr/PointRobot-v0'"):
        infer_again(recording, tiny_bundle(ENV_ID))


def test_a_file_that_exists_is_not_overwritten(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"precious")
    assert graph.start("record_node", output=tmp_path / "a.mcap").wait(120) == 2
    assert "exists" in graph.output("record_node") and (tmp_path / "a.mcap").read_bytes() == b"precious"


def test_the_command_takes_a_file_and_ros_arguments() -> None:
    given = ["a.mcap", "--policy", "other", "--ros-args", "-r", "__ns:=/robot"]
    expected = ["-p", "output:=a.mcap", "-p", "policy:=other", "-r", "__ns:=/robot"]
    assert record_arguments(given) == ["--ros-args", *expected]
    assert record_arguments([]) == ["--ros-args", "-p", "policy:=policy_node"]
