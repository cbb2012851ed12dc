# SPDX-License-Identifier: Apache-2.0
"""Parameters of the nodes: their files agree with what is declared, and wrong values are refused with a reason."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from conftest import ROOT

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from ros_graph import Graph

from tigr_core.errors import UserError
from tigr_ros.parameters import Parameter, Parameters, declare

FILES = sorted((ROOT / "config").glob("*_node.yaml"))

TABLE = (
    Parameter("gain", 1.0, "how much", low=0.0, high=10.0),
    Parameter("count", 3, "how many", low=1, high=5),
    Parameter("mode", "slow", "which", choices=("slow", "fast")),
    Parameter("place", 0.0, "where", or_list=True),
    Parameter("on", False, "whether"),
    Parameter("fixed", "a", "what stays", read_only=True),
)


def fast_needs_gain(values: Mapping[str, Any]) -> None:
    if values["mode"] == "fast" and values["gain"] < 1.0:
        raise ValueError("fast needs a gain of 1 or more")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_hold_every_parameter_with_its_default(path: Any) -> None:
    table = importlib.import_module(f"tigr_ros.{path.stem}").PARAMETERS
    # Only "/**": a node's own section after it would make command lines lose.
    assert yaml.safe_load(path.read_text()) == {"/**": {"ros__parameters": {p.name: p.default for p in table}}}


def test_there_is_a_file_for_each_node() -> None:
    assert {path.stem for path in FILES} == {"sim_node", "policy_node", "train_node"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_parameter_is_described_and_its_default_allowed(path: Any) -> None:
    for parameter in importlib.import_module(f"tigr_ros.{path.stem}").PARAMETERS:
        assert parameter.description and parameter.parse(parameter.default) == parameter.default


@pytest.fixture
def node(graph: Graph) -> Node:
    return graph.node


def set_one(node: Node, name: str, value: Any) -> str:
    """Set a parameter as tools do; return the reason of the refusal, empty if there was none."""
    result = node.set_parameters([RosParameter(name, value=value)])[0]
    return "" if result.successful else result.reason or "no reason given"


def test_accepted_values_are_seen_at_once(node: Node) -> None:
    parameters = declare(node, TABLE, fast_needs_gain)
    assert dict(parameters) == {"gain": 1.0, "count": 3, "mode": "slow", "place": 0.0, "on": False, "fixed": "a"}
    before = parameters.snapshot()
    assert set_one(node, "gain", 2) == "" and parameters["gain"] == 2.0
    assert type(parameters["gain"]) is float, "a whole number is taken where a float is meant"
    assert set_one(node, "place", [1.0, 2.5]) == "" and parameters["place"] == [1.0, 2.5]
    assert before["gain"] == 1.0, "a snapshot stays as it was"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("gain", 11.0, "range"),
        ("gain", 11, r"\[0, 10\]"),
        ("gain", float("nan"), "range"),
        ("gain", "much", "expected a float"),
        ("count", 2.5, "expected a int"),
        ("count", 6, "range"),
        ("mode", "sideways", "one of slow, fast"),
        ("on", 1, "expected a bool"),
        ("place", ["x"], "expected a float"),
        ("fixed", "b", "read-only"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(node: Node, name: str, value: Any, reason: str) -> None:
    parameters = declare(node, TABLE)
    before = dict(parameters)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(set_one(node, name, value))
    assert dict(parameters) == before and node.get_parameter(name).value == before[name]


def test_values_that_do_not_fit_together_are_refused_together(node: Node) -> None:
    parameters = declare(node, TABLE, fast_needs_gain)
    together: list[Any] = [RosParameter("mode", value="fast"), RosParameter("gain", value=0.5)]
    result = node.set_parameters_atomically(together)
    assert not result.successful and "fast needs a gain" in result.reason
    assert parameters["mode"] == "slow" and parameters["gain"] == 1.0


def test_descriptors_tell_tools_what_is_allowed(node: Node) -> None:
    declare(node, TABLE)
    gain, count, mode, fixed = (node.describe_parameter(name) for name in ("gain", "count", "mode", "fixed"))
    assert gain.description == "how much" and gain.floating_point_range[0].to_value == 10.0
    assert count.integer_range[0].from_value == 1
    assert "'slow', 'fast'" in mode.additional_constraints
    assert fixed.read_only


def test_a_wrong_value_at_start_is_one_clear_error(graph: Graph) -> None:
    node = Node("late", context=graph.node.context, parameter_overrides=[RosParameter("gain", value="much")])
    with pytest.raises(UserError, match=r"/late: found 'much' for parameter 'gain', expected a float"):
        declare(node, TABLE)
    node.destroy_node()


def test_numbers_of_a_list_are_checked_one_by_one() -> None:
    parameters = Parameters(
        [Parameter("place", 0.0, "where", low=-1.0, high=1.0, or_list=True)], {}, lambda values: None
    )
    with pytest.raises(ValueError, match="found 2"):
        parameters.update({"place": [0.0, 2.0]})
