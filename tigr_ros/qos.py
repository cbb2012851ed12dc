# SPDX-License-Identifier: Apache-2.0
"""Quality of service of all topics, by the conventions of ROS 2 robots (REP-2003, draft).

| profile       | for                                        | reliability | depth | durability      |
|---------------|--------------------------------------------|-------------|-------|-----------------|
| STATE         | publishing states; both ends in lock-step  | reliable    | 10    | volatile        |
| SENSOR        | subscribing to states in real time         | best effort | 5     | volatile        |
| COMMAND       | commands, both ends                        | reliable    | 1     | volatile        |
| LATCHED       | what a late joiner has to know             | reliable    | 1     | transient local |
| LATCHED_STATE | states that a late joiner has to know      | reliable    | 10    | transient local |

History, depth and reliability of every topic can be changed with the standard parameters
``qos_overrides.<topic>.publisher.reliability`` and the like. Ends that do not fit together are found by `mismatches`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from itertools import product
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from tigr_core.errors import UserError

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

STATE = QoSProfile(depth=10)
SENSOR = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
COMMAND = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
LATCHED_STATE = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)

# Fast DDS may lock a process up for good while rclpy takes an event, and its defaults would take some.
NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)

FLUSH = Duration(seconds=0.3)  # how long the last message may take to arrive
POLICIES = ("reliability", "durability", "deadline", "liveliness", "liveliness_lease_duration")


def create_publisher(node: Node, kind: type, topic: str, profile: QoSProfile) -> Publisher[Any]:
    """Create a publisher whose QoS can be overridden; raises `UserError` for an override that is none."""

    def create(profile: QoSProfile, **options: Any) -> Publisher[Any]:
        return node.create_publisher(kind, topic, profile, event_callbacks=NO_PUBLISHER_EVENTS, **options)

    return _overridable(create, topic, profile)


def create_subscription(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile
) -> Subscription[Any]:
    """Create a subscription; otherwise as `create_publisher`."""

    def create(profile: QoSProfile, **options: Any) -> Subscription[Any]:
        return node.create_subscription(
            kind, topic, callback, profile, event_callbacks=NO_SUBSCRIPTION_EVENTS, **options
        )

    return _overridable(create, topic, profile)


def _overridable(create: Callable[..., Any], topic: str, profile: QoSProfile) -> Any:
    try:
        # rclpy writes the overrides into the profile it is given.
        return create(copy(profile), qos_overriding_options=QoSOverridingOptions.with_default_policies())
    except RuntimeError as error:
        raise UserError(
            f"qos_overrides of {topic}: {error}",
            expected="history: keep_last or keep_all, depth: a whole number, reliability: reliable or best_effort",
            fix="mend or remove the override",
        ) from None


def flush(publisher: Publisher[Any]) -> None:
    """Wait until the last message has arrived where it is heard: who leaves earlier takes it away with him."""
    publisher.wait_for_all_acked(FLUSH)


def mismatches(node: Node) -> str:
    """Say on which of the node's topics, and by which policies, QoS keeps ends from hearing each other at present.

    For a diagnostics message; empty if there is none.
    """
    own = node.get_namespace(), node.get_name()
    found = set()
    for topic in {publisher.topic_name for publisher in node.publishers} | {s.topic_name for s in node.subscriptions}:
        ends = product(node.get_publishers_info_by_topic(topic), node.get_subscriptions_info_by_topic(topic))
        for publisher, subscription in ends:
            offered, requested = publisher.qos_profile, subscription.qos_profile
            if own in _nodes([publisher, subscription]) and not _fit(offered, requested):
                found |= {f"incompatible QoS on {topic}: {policy}" for policy in _unmet(offered, requested)}
    return "; ".join(sorted(found))


def _unmet(offered: QoSProfile, requested: QoSProfile) -> list[str]:
    """Return the policies by which a subscription asks for more than a publisher offers."""

    def alone(profile: QoSProfile, policy: str) -> QoSProfile:
        return QoSProfile(depth=1, **{policy: getattr(profile, policy)})

    return [policy for policy in POLICIES if not _fit(alone(offered, policy), alone(requested, policy))]


def _fit(offered: QoSProfile, requested: QoSProfile) -> bool:
    return bool(qos_check_compatible(offered, requested)[0] != QoSCompatibility.ERROR)


def listeners(node: Node, publishers: Sequence[Publisher[Any]], answer_topic: str) -> frozenset[bytes]:
    """Return the ends on `answer_topic` of nodes that publish there and hear all of `publishers`.

    Empty while discovery, which connects topics one by one, still goes on: what is published then may be lost. Another
    set means that somebody came or went, a node that started again under the old name included.
    """
    answers = node.get_publishers_info_by_topic(node.resolve_topic_name(answer_topic))
    partners = _nodes(answers)
    for publisher in publishers:
        ends = node.get_subscriptions_info_by_topic(publisher.topic_name)
        partners &= _nodes(ends)
        if publisher.get_subscription_count() < len(ends):
            return frozenset()
    return frozenset(bytes(end.endpoint_gid) for end in answers if _nodes([end]) & partners)


def _nodes(ends: Sequence[Any]) -> set[tuple[str, str]]:
    """Return the nodes that a topic's ends belong to, as far as they are known already."""
    return {(end.node_namespace, end.node_name) for end in ends if end.node_name != "_NODE_NAME_UNKNOWN_"}
