# SPDX-License-Identifier: Apache-2.0
"""The layouts for rqt, PlotJuggler and Foxglove name only published topics and fields, in the right colours."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ROOT

pytest.importorskip("rclpy", reason="rclpy is missing; pip install '.[ros]'")

import envs
from tigr_core.colours import base_task_colour
from tigr_core.config import load_config
from tigr_ros import messages

ENV_ID = "tigr/HalfCheetahEight-v0"
TASKS = envs.task_set(ENV_ID).names
COLOURS = ["#" + "".join(f"{round(255 * c):02x}" for c in base_task_colour(i)) for i in range(len(TASKS))]
SCALARS = {"/reward", "/policy_node/entropy", "/task", "/policy_node/task"}


@pytest.fixture(scope="module")
def arrays() -> dict[str, tuple[str, ...]]:
    """Each array topic's labels, for half-cheetah-eight."""
    env = envs.make_vector(ENV_ID)
    _, info = env.reset(seed=0)
    env.close()
    return {
        "/task_info": messages.read_labels(messages.task_info(info, messages.stamp_of(1))),
        "/policy_node/task_probabilities": TASKS,
        "/policy_node/latent": tuple(f"z{i}" for i in range(load_config("half_cheetah_eight").model.latent_dim)),
    }


def resolve(value: str, separator: str, arrays: dict[str, tuple[str, ...]]) -> str:
    """Return the label of a plotted value, topic and field; fails if it does not exist."""
    topic, _, field = value.partition(separator) if separator == "." else value.rpartition(separator)
    if topic in SCALARS:
        assert field == "data"
        return topic
    match = re.fullmatch(r"data\[(\d+)\]", field)
    assert match and topic in arrays, f"{topic} {field}"
    return arrays[topic][int(match[1])]


def test_every_topic_is_one_that_a_node_documents(arrays: dict[str, tuple[str, ...]]) -> None:
    documented = set()
    for node, name in (("sim_node", "`(\\w+)`"), ("policy_node", "`~/(\\w+)`")):
        table = (ROOT / f"tigr_ros/{node}.py").read_text().partition("\n\n\n")[0]
        documented |= {("/" if node == "sim_node" else f"/{node}/") + topic for topic in re.findall(name, table)}
    assert {*arrays, *SCALARS} <= documented


def foxglove() -> dict[str, Any]:
    return json.loads((ROOT / "config/foxglove.json").read_text())


def test_foxglove(arrays: dict[str, tuple[str, ...]]) -> None:
    panels = foxglove()["configById"]
    for name, panel in panels.items():
        for path in panel.get("paths", []):
            label = resolve(path["value"], ".", arrays)
            if panel["title"] == "task probabilities":
                assert path["label"] == label.replace("_", " ") and path["color"] == COLOURS[TASKS.index(label)]
            elif panel["title"].startswith("tracked"):
                assert label == f"tracked_{path['label']}"
        if name.startswith("RawMessages"):
            assert resolve(panel["topicPath"], ".", arrays)
    assert set(panels["3D!scene"]["topics"]) == {"/view_node/markers", "/policy_node/markers"}
    assert len(panels["Plot!task"]["paths"]) == len(TASKS)


def leaves(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    else:
        yield from leaves(layout["first"])
        yield from leaves(layout["second"])


def test_foxglove_shows_each_panel_once() -> None:
    assert sorted(leaves(foxglove()["layout"])) == sorted(foxglove()["configById"])


def test_plotjuggler(arrays: dict[str, tuple[str, ...]]) -> None:
    root = ElementTree.parse(ROOT / "config/plotjuggler.xml").getroot()
    splitter = root.find(".//DockSplitter")
    assert splitter is not None and int(splitter.get("count", "0")) == len(splitter.findall("DockArea"))
    assert len(splitter.get("sizes", "").split(";")) == len(splitter)
    curves = {curve.get("name", ""): curve.get("color") for curve in root.iter("curve")}
    labels = {name: resolve(name, "/", arrays) for name in curves}
    assert {label: curves[name] for name, label in labels.items() if label in TASKS} == dict(
        zip(TASKS, COLOURS, strict=True)
    )


def test_rqt(arrays: dict[str, tuple[str, ...]]) -> None:
    manager = json.loads((ROOT / "config/tigr.perspective").read_text())["groups"]["pluginmanager"]
    running = ast.literal_eval(manager["keys"]["running-plugins"]["repr"])
    groups = {f"plugin__{name.replace('/', '__')}__{i}" for name, numbers in running.items() for i in numbers}
    assert groups == set(manager["groups"]) and set(running) == {"rqt_plot/Plot", "rqt_topic/TopicPlugin"}
    shown = []
    for number in running["rqt_plot/Plot"]:
        keys = manager["groups"][f"plugin__rqt_plot__Plot__{number}"]["groups"]["plugin"]["keys"]
        shown += ast.literal_eval(keys["topics"]["repr"])
        low, high = ast.literal_eval(keys["y_limits"]["repr"])
        assert low < high
    labels = [resolve(topic, "/", arrays) for topic in shown]
    assert set(TASKS) <= set(labels) and len(labels) == len(set(labels))


def test_the_page_names_what_is_published(arrays: dict[str, tuple[str, ...]]) -> None:
    page = (ROOT / "docs/watch.md").read_text()
    for topic in {*arrays, *SCALARS} - {"/policy_node/task"}:
        assert f"`{topic}`" in page
    assert arrays["/task_info"][2:4] == ("tracked_value", "tracked_target") and "`data[2]`, `data[3]`" in page
    for file in re.findall(r"config/[\w.]+\w", page):
        assert (ROOT / file).is_file()
