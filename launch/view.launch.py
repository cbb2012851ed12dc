# SPDX-License-Identifier: Apache-2.0
"""Robot, target and latent space in rviz: ``ros2 launch tigr_ros view.launch.py env:=/path/to/best.tigr``."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from tigr_ros.bundles import shipped_bundle
from tigr_ros.launching import LOG_LEVEL, common_arguments, shipped

# Where the latent space is seen, in the frame of the robot: above it, its first two directions in the picture's plane.
LATENT = {"--z": "4.2", "--roll": "1.5707963", "--frame-id": "view", "--child-frame-id": "latent"}


def generate_launch_description() -> LaunchDescription:
    """Return arguments, the node that draws the robot, the place of the latent space, and rviz."""
    bundle, namespace = shipped_bundle(), LaunchConfiguration("namespace")
    sim_time = {"use_sim_time": LaunchConfiguration("use_sim_time")}
    # Transforms, too, keep to the namespace: robots of one kind have frames of the same names.
    transforms = [(f"/{name}", name) for name in ("tf", "tf_static")]
    topics = [(f"/{name}", name) for name in ("view_node/markers", "policy_node/markers", "robot_description")]
    return LaunchDescription(
        [
            *common_arguments(),
            DeclareLaunchArgument(
                "env",
                default_value=bundle and str(bundle),
                description="environment the robot belongs to (`tigr envs` lists them), or a bundle",
            ),
            DeclareLaunchArgument(
                "description",
                default_value="true",
                choices=["true", "false"],
                description="publish robot_description and /tf; false: the robot itself does",
            ),
            DeclareLaunchArgument(
                "rviz_config", default_value=shipped("config", "tigr.rviz"), description="what rviz shows"
            ),
            Node(
                package="tigr_ros",
                executable="view_node",
                name="view_node",
                namespace=namespace,
                parameters=[{name: LaunchConfiguration(name) for name in ("env", "description")}, sim_time],
                remappings=transforms,
                ros_arguments=LOG_LEVEL,
                output="screen",
            ),
            Node(
                package="tf2_ros",
                executable="static_transform_publisher",
                name="latent_place",
                namespace=namespace,
                arguments=[part for pair in LATENT.items() for part in pair],
                remappings=transforms,
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=namespace,
                arguments=["-d", LaunchConfiguration("rviz_config")],
                parameters=[sim_time],
                remappings=topics + transforms,
            ),
        ]
    )
