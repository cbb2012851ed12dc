# SPDX-License-Identifier: Apache-2.0
"""Simulated robot and policy, with tasks that change on their own: ``ros2 launch tigr_ros demo.launch.py``."""

from collections.abc import Mapping

from launch import Action, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from tigr_ros.bundles import shipped_bundle
from tigr_ros.launching import common_arguments, shipped

COMMON = {name: LaunchConfiguration(name) for name in ("namespace", "log_level")}


def generate_launch_description() -> LaunchDescription:
    """Return arguments and the two launch files, each in a scope of its own."""
    bundle = shipped_bundle()
    simulator = {
        "params_file": LaunchConfiguration("sim_params_file"),
        "env": LaunchConfiguration("bundle"),
        "task_change": LaunchConfiguration("task_change"),
        "seed": LaunchConfiguration("seed"),
        "episode_steps": "200",  # as in training: farther away the position itself would tell the task
        "publish_clock": LaunchConfiguration("use_sim_time"),
        "use_sim_time": "false",
    }
    policy = {
        "params_file": LaunchConfiguration("policy_params_file"),
        "bundle": LaunchConfiguration("bundle"),
        "rate_limit": "1.0",  # as in training; the default, for robots, is stricter
        "autostart": LaunchConfiguration("autostart"),
        "record": LaunchConfiguration("record"),
        "use_sim_time": LaunchConfiguration("use_sim_time"),
    }
    return LaunchDescription(
        [
            *common_arguments(),
            DeclareLaunchArgument(
                "bundle", default_value=bundle and str(bundle), description="path of the trained policy, a .tigr file"
            ),
            DeclareLaunchArgument(
                "task_change", default_value="every_seconds:5.0", description="when another task is drawn"
            ),
            DeclareLaunchArgument("seed", default_value="0", description="seed of the tasks and of the first episode"),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=["true", "false"],
                description="configure and activate the policy",
            ),
            DeclareLaunchArgument(
                "record",
                default_value="false",
                choices=["true", "false"],
                description="record into an MCAP file, recording-<date>-<time>.mcap",
            ),
            DeclareLaunchArgument(
                "sim_params_file",
                default_value=shipped("config", "sim_node.yaml"),
                description="parameters of the simulator, YAML",
            ),
            DeclareLaunchArgument(
                "policy_params_file",
                default_value=shipped("config", "policy_node.yaml"),
                description="parameters of the policy, YAML",
            ),
            _include("sim.launch.py", simulator),
            _include("policy.launch.py", policy),
        ]
    )


def _include(name: str, arguments: Mapping[str, object]) -> Action:
    source = PythonLaunchDescriptionSource(shipped("launch", name))
    return GroupAction([IncludeLaunchDescription(source, launch_arguments={**COMMON, **arguments}.items())])
