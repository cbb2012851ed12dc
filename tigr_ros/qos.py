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
``qos_overrides.<topic>.publisher.reliability`` and the like. Ends that do not fit together are counted in `QosFaults`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy
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


class QosFaults:
    """Counts the publishers and subscriptions of others that a topic's QoS keeps from hearing each other."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        """Say which topics, for a diagnostics message; empty if none."""
        return "; ".join(f"{what} ({count})" for what, count in sorted(self._counts.items()))

    def callback(self, topic: str) -> Callable[[Any], None]:
        """Return the event callback for a topic."""

        def count(event: Any) -> None:
            policy = QoSPolicyKind(event.last_policy_kind).name.lower()
            self._counts[f"incompatible QoS on {topic}: {policy}"] += event.total_count_change

        return count


def create_publisher(node: Node, kind: type, topic: str, profile: QoSProfile, faults: QosFaults) -> Publisher[Any]:
    """Create a publisher whose QoS can be overridden and whose mismatches are counted.

    Raises `UserError` for an override that is none.
    """
    callbacks = PublisherEventCallbacks(incompatible_qos=faults.callback(topic))
    return _overridable(node.create_publisher, kind, topic, profile, callbacks)


def create_subscription(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile, faults: QosFaults
) -> Subscription[Any]:
    """Create a subscription; otherwise as `create_publisher`."""
    callbacks = SubscriptionEventCallbacks(incompatible_qos=faults.callback(topic))

    def create(kind: type, topic: str, profile: QoSProfile, **options: Any) -> Subscription[Any]:
        return node.create_subscription(kind, topic, callback, profile, **options)

    return _overridable(create, kind, topic, profile, callbacks)


def _overridable(create: Callable[..., Any], kind: type, topic: str, profile: QoSProfile, callbacks: Any) -> Any:
    try:
        # rclpy writes the overrides into the profile it is given.
        return create(
            kind,
            topic,
            copy(profile),
            event_callbacks=callbacks,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
    except RuntimeError as error:
        raise UserError(
            f"qos_overrides of {topic}: {error}",
            expected="history: keep_last or keep_all, depth: a whole number, reliability: reliable or best_effort",
            fix="mend or remove the override",
        ) from None


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
