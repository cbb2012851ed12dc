# SPDX-License-Identifier: Apache-2.0
"""A trained policy on a robot: ``ros2 launch tigr_ros policy.launch.py bundle:=/path/to/best.tigr``."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from tigr_ros.launching import LOG_LEVEL, common_arguments, parameter_arguments, recorder, with_parameters

PARAMETERS = {
    "bundle": "path of the trained policy, a .tigr file",
    "lock_step": "true: answer each state of a simulator that waits, instead of real time",
    "shadow": "true: command nobody, publish to shadow_commands",
    "effort_limit": "share of each actuator's range of effort, (0, 1]",
    "rate_limit": "largest change of effort between commands, as a share of the range, (0, 1]; 1: any",
}


def generate_launch_description() -> LaunchDescription:
    """Return arguments, node, and the events that take it to the active state."""
    node = LifecycleNode(
        package="tigr_ros",
        executable="policy_node",
        name="policy_node",
        namespace=LaunchConfiguration("namespace"),
        ros_arguments=LOG_LEVEL,
        output="screen",
    )
    configure = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE)
    activate = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE)
    configured = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[EmitEvent(event=activate)],
        handle_once=True,
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))
    return LaunchDescription(
        [
            *common_arguments(),
            *recorder(),
            DeclareLaunchArgument(
                "autostart",
                default_value="true",
                choices=["true", "false"],
                description="configure and activate the node; false: `ros2 lifecycle set` does",
            ),
            *parameter_arguments("policy_node.yaml", PARAMETERS),
            RegisterEventHandler(configured, condition=autostart),
            with_parameters(PARAMETERS, node),
            EmitEvent(event=configure, condition=autostart),
        ]
    )
