# SPDX-License-Identifier: Apache-2.0
"""A training: ``ros2 launch tigr_ros train.launch.py config:=half_cheetah_eight``."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from tigr_ros.launching import LOG_LEVEL, common_arguments, parameter_arguments, with_parameters

PARAMETERS = {
    "config": "shipped configuration (`tigr configs` lists them) or path of a YAML file",
    "overrides": "changed settings: training.epochs=20, or [training.epochs=20, sac.discount=0.98]",
    "seed": "seed of the run",
    "output": "where run folders are made: <output>/<env>/<run>",
    "resume": "folder of a run to go on with",
    "device": "where to learn: cpu, cuda or auto",
    "workers": "Ray processes that collect; 0: the node itself does",
    "ray_address": "Ray cluster that they run on: auto or HOST:PORT; empty: here",
}


def generate_launch_description() -> LaunchDescription:
    """Return arguments and node."""
    node = Node(
        package="tigr_ros",
        executable="train_node",
        name="train_node",
        namespace=LaunchConfiguration("namespace"),
        ros_arguments=LOG_LEVEL,
        output="screen",
        sigterm_timeout="60",  # it saves before it ends
    )
    return LaunchDescription(
        [
            *common_arguments(),
            *parameter_arguments("train_node.yaml", PARAMETERS),
            with_parameters(PARAMETERS, node),
        ]
    )
