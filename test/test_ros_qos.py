# SPDX-License-Identifier: Apache-2.0
"""Ends that cannot hear each other are found in the graph, and no event of the middleware is ever taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from rclpy.duration import Duration
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from ros_graph import Graph
from std_msgs.msg import Float64

from tigr_ros import qos

BEST_EFFORT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
HURRIED = QoSProfile(depth=1, deadline=Duration(seconds=1.0), durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.parametrize(
    ("offered", "requested", "found"),
    [
        (qos.STATE, qos.STATE, ""),
        (qos.STATE, qos.SENSOR, ""),
        (qos.LATCHED, qos.COMMAND, ""),
        (BEST_EFFORT, qos.COMMAND, "incompatible QoS on /far/level: reliability"),
        (qos.STATE, HURRIED, "incompatible QoS on /far/level: deadline; incompatible QoS on /far/level: durability"),
    ],
)
@pytest.mark.parametrize("publishes", [True, False], ids=["as_publisher", "as_subscription"])
def test_what_does_not_fit_is_said_for_as_long_as_it_lasts(
    graph: Graph, offered: QoSProfile, requested: QoSProfile, found: str, publishes: bool
) -> None:
    me, other = graph.add_node("me", namespace="far"), graph.node

    def subscription(node: Any, topic: str) -> Any:
        return qos.create_subscription(node, Float64, topic, lambda message: None, requested)

    if publishes:
        qos.create_publisher(me, Float64, "level", offered)
        theirs = subscription(other, "far/level")
    else:
        subscription(me, "level")
        theirs = qos.create_publisher(other, Float64, "far/level", offered)
    count: Callable[[str], int] = me.count_subscribers if publishes else me.count_publishers
    graph.wait(lambda: count("level"), "the other end")
    assert qos.mismatches(me) == qos.mismatches(other) == found
    destroy = other.destroy_subscription if publishes else other.destroy_publisher
    assert destroy(theirs)
    graph.wait(lambda: not qos.mismatches(me), "their end")


def test_what_does_not_concern_a_node_is_not_its_fault(graph: Graph) -> None:
    bystander = graph.add_node("bystander")
    qos.create_subscription(bystander, Float64, "level", lambda message: None, qos.SENSOR)
    qos.create_publisher(graph.node, Float64, "level", BEST_EFFORT)
    qos.create_subscription(graph.node, Float64, "level", lambda message: None, qos.COMMAND)
    graph.wait(lambda: bystander.count_publishers("level") and bystander.count_subscribers("level") == 2, "three ends")
    assert qos.mismatches(bystander) == "" and "/level: reliability" in qos.mismatches(graph.node)


def test_no_events_are_waited_for(graph: Graph) -> None:
    publisher = qos.create_publisher(graph.node, Float64, "level", qos.STATE)
    subscription = qos.create_subscription(graph.node, Float64, "level", lambda message: None, qos.STATE)
    assert not publisher.event_handlers and not subscription.event_handlers
