# SPDX-License-Identifier: Apache-2.0
"""The same bundle, task and seed give the same trajectory over topics as in one process, to the last bit.

In lock-step; soft start and rate limit, which training does not have, are neutral.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from bundles import tiny_bundle
from rclpy.qos import QoSHistoryPolicy, QoSProfile
from ros_graph import Graph
from ros_policy import Policy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String

import envs
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import EnvConfig
from tigr_core.rollout import Episodes
from tigr_ros import messages, qos

ENV_ID = "tigr/HalfCheetahEight-v0"
STEPS, SEED = 200, 7
TASK, PARAMETER = "velocity_forward", 3.0
EVERYTHING = QoSProfile(depth=1, history=QoSHistoryPolicy.KEEP_ALL)


def in_one_process(context: str, change_every: int | None) -> Episodes:
    bundle = tiny_bundle(ENV_ID, context=context, context_length=16)
    task = envs.task_set(ENV_ID).task(TASK, PARAMETER)
    request = Request(
        tasks=[task],
        seeds=[SEED],
        task_change=None if change_every is None else {"every_steps": change_every},
        episode_steps=STEPS,
    )
    collector = LocalCollector(EnvConfig(id=ENV_ID), num_threads=1)
    episodes = collector.collect(bundle.model, request)
    collector.close()
    return episodes


def by_stamp(heard: list[Any], period_ns: int) -> dict[int, np.ndarray]:
    """Values of labelled arrays by the step of the first episode whose state they answer."""
    values: dict[int, np.ndarray] = {}
    for message in heard:
        values.setdefault((messages.stamp_in(message) or 0) // period_ns - 1, np.array(message.data))
    return values


@pytest.mark.parametrize(("context", "change_every"), [("stream", None), ("window", 60)])
def test_the_trajectory_over_topics_is_that_of_one_process(
    graph: Graph, tmp_path: Path, context: str, change_every: int | None
) -> None:
    bundle = tiny_bundle(ENV_ID, tmp_path / "a.tigr", context=context, context_length=16)
    robot, period_ns = bundle.robot, round(bundle.robot.control_dt * 1e9)
    states = graph.listen(JointState, "joint_states", EVERYTHING)
    rewards = graph.listen(Float64, "reward", EVERYTHING)
    commands = graph.listen(Float64MultiArray, "commands", EVERYTHING)
    latents = graph.listen(Float64MultiArray, "policy_node/latent", EVERYTHING)
    # Announced in this order, heard in this order: who is heard on the last topics is heard on all.
    task, spec = graph.listen(String, "task", qos.LATCHED), graph.listen(String, "policy_node/spec", qos.LATCHED)
    graph.start(
        "sim_node",
        env=ENV_ID,
        lock_step=True,
        task=TASK,
        parameter=PARAMETER,
        seed=SEED,
        episode_steps=STEPS,
        **({"task_change": f"every_steps:{change_every}"} if change_every else {}),
    )
    graph.wait(lambda: task, "the simulator")
    policy = Policy(graph, tmp_path / "a.tigr", lock_step=True)
    assert policy.change("configure")
    graph.wait(lambda: spec, "the policy")
    assert policy.change("activate")
    graph.wait(lambda: len(states) > STEPS and len(latents) > STEPS and len(commands) > STEPS, f"{STEPS} steps")

    wanted = in_one_process(context, change_every)
    reader = messages.JointStateReader(robot)
    obs = np.array([robot.observe(*reader.read(message)) for message in states[: STEPS + 1]])
    assert [messages.to_nanoseconds(m.header.stamp) // period_ns for m in states[:3]] == [1, 2, 3]
    assert np.array_equal(obs.astype(np.float32), wanted.obs[0])
    assert np.array_equal(np.array([m.data for m in rewards[:STEPS]], dtype=np.float32), wanted.reward[0])
    sent, z = by_stamp(commands, period_ns), by_stamp(latents, period_ns)
    for step in range(STEPS):
        effort = robot.action_to_effort(wanted.action[0, step].astype(np.float64))
        assert np.array_equal(sent[step], effort), f"command {step}"
        assert np.array_equal(np.float32(z[step]), wanted.latent[0, step]), f"latent {step}"
    assert np.array_equal(np.float32(z[STEPS]), wanted.latent[0, STEPS])
    if change_every:
        assert len(set(wanted.base_task[0].tolist())) > 1, "the task did change"
