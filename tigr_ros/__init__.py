# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 side: thin nodes around `tigr_core`.

May import ``envs`` and ``tigr_core``; the only package that imports ``rclpy`` and message packages. Nothing
mathematical lives here: observations and efforts are `envs.spec.RobotSpec`, acting and inferring are
`tigr_core.controller.Controller`.

::

                         reward, joint_states               ~/latent, ~/task_probabilities, ~/task,
    sim_node  ─────────────────────────────────► policy_node ──► ~/entropy, ~/spec, ~/markers
    or robot  ◄─────────────────────────────────
                           commands                 train_node ──► metrics, latent space
    sim_node  ──► task, task_info (for comparison only)
    ros_env   stands in for policy_node where Python code steps a robot or sim_node as a Gymnasium environment

How a step goes over topics:

1. ``reward`` is published before the ``joint_states`` it led to. An episode's first state has none.
2. Stamps are simulated time in lock-step or with ``publish_clock``. It starts at one control period with each episode:
   a stamp not later than the one before means a new episode, so forget the context. Otherwise stamps are wall time, and
   a state without reward says that what led to it is unknown, no more.
3. A command says which state it answers (`messages.command`); one that does not is taken as an answer to the last.
4. In real time `sim_node` holds the last command, and goes safe by itself when commands stop.
5. In lock-step `sim_node` waits for the command that answers its last state, an episode's last one included, whose
   command is not carried out. It publishes the waiting state once `qos.listeners` shows somebody new who sends commands
   and hears states and rewards. The other side waits for `qos.listeners` of its commands before its first one. So
   nothing is lost at the start, and nobody gets a state twice.
"""
