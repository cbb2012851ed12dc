# SPDX-License-Identifier: Apache-2.0
"""What the launch files have in common. Imports `launch`, which only a ROS installation has."""

from __future__ import annotations

from collections.abc import Mapping

from launch.action import Action
from launch.actions import DeclareLaunchArgument, GroupAction
from launch.condition import Condition
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "tigr_ros"
LOG_LEVEL = ["--log-level", LaunchConfiguration("log_level")]


def shipped(folder: str, name: str) -> PathJoinSubstitution:
    """Return the path of a file that is installed with the package."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), folder, name])


def common_arguments() -> list[Action]:
    """Return the arguments of every launch file."""
    return [
        DeclareLaunchArgument("namespace", default_value="", description="namespace of nodes, topics and services"),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", choices=["true", "false"], description="live by /clock"
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="least serious messages to show",
        ),
    ]


def recorder() -> list[Action]:
    """Return the arguments ``record`` and ``recording``, and the node that records if asked to."""
    record = LaunchConfiguration("record")
    return [
        DeclareLaunchArgument(
            "record", default_value="false", choices=["true", "false"], description="record into an MCAP file"
        ),
        DeclareLaunchArgument(
            "recording", default_value="", description="file to record into; empty: recording-<date>-<time>.mcap"
        ),
        Node(
            package=PACKAGE,
            executable="record_node",
            name="record_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[{"output": ParameterValue(LaunchConfiguration("recording"), value_type=str)}],
            ros_arguments=LOG_LEVEL,
            output="screen",
            condition=IfCondition(record),
        ),
    ]


def parameter_arguments(params_file: str, parameters: Mapping[str, str]) -> list[Action]:
    """Return the arguments of one node: its parameter file, and those of its parameters that are arguments too."""
    return [
        DeclareLaunchArgument(
            "params_file",
            default_value=shipped("config", params_file),
            description="parameters of the node, YAML; below /** alone, so that arguments win",
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=f"{text}; empty: as params_file says")
            for name, text in parameters.items()
        ),
    ]


def with_parameters(parameters: Mapping[str, str], *actions: Action) -> GroupAction:
    """Return `actions` with the parameters of the file, then those given as arguments, for the nodes among them."""
    return GroupAction(
        [
            SetParametersFromFile(LaunchConfiguration("params_file")),
            SetParameter("use_sim_time", LaunchConfiguration("use_sim_time")),
            *(SetParameter(name, LaunchConfiguration(name), condition=_given(name)) for name in parameters),
            *actions,
        ]
    )


def _given(name: str) -> Condition:
    return IfCondition(PythonExpression(["len(r'''", LaunchConfiguration(name), "''') > 0"]))
