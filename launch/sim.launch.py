# SPDX-License-Identifier: Apache-2.0
"""A simulated robot: ``ros2 launch tigr_ros sim.launch.py env:=tigr/HalfCheetahEight-v0 task:=jump parameter:=2.0``."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from tigr_ros.launching import LOG_LEVEL, common_arguments, parameter_arguments, with_parameters

PARAMETERS = {
    "env": "environment to simulate (`tigr envs` lists them), or a bundle to take it from",
    "task": "base task; without it, tasks are drawn at random",
    "parameter": "parameter of the task, in its unit; [x, y] where there are two",
    "task_change": "when another task is drawn: every_seconds:5.0, every_steps:100 or crossing:x_position:5.0",
    "seed": "seed of the first episode",
    "lock_step": "true: wait for a command after each state, instead of real time",
    "rate": "simulated over real time",
    "publish_clock": "true: publish /clock and stamp with simulated time",
    "episode_steps": "control periods in an episode; 0: endless",
}


def generate_launch_description() -> LaunchDescription:
    """Return arguments and node."""
    node = Node(
        package="tigr_ros",
        executable="sim_node",
        name="sim_node",
        namespace=LaunchConfiguration("namespace"),
        ros_arguments=LOG_LEVEL,
        output="screen",
    )
    return LaunchDescription(
        [
            *common_arguments(),
            *parameter_arguments("sim_node.yaml", PARAMETERS),
            with_parameters(PARAMETERS, node),
        ]
    )
