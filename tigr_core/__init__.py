# SPDX-License-Identifier: Apache-2.0
"""TIGR: inferring the task, learning to act on it, and acting. No ROS in here.

::

    envs ──► collector ──► replay ──► inference_learner ──► encoder, decoder ─┐
                ▲              └────► sac_learner ────────► actor, critics    │
                │                                                             ▼
            controller ◄────────────── bundle ◄──────────────────────────── model
                                                                  (driven by trainer, cli)

A transition is aligned in time once, in `rollout`; normalised once, in `normaliser`; and turned into a task estimate by
one object, `controller`, in training, evaluation and on the robot.

Imports point from the driver to the parts: cli > run_report > trainer > evaluation > collector, learners > controller,
replay > model > networks > config, errors. `envs` is imported here and imports nothing of ours.
"""
