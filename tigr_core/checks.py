# SPDX-License-Identifier: Apache-2.0
"""What a configuration asks of its environment, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import envs
from envs.spec import ObservationTerm
from envs.tasks import TaskSet
from envs.vector_env import TaskVectorEnv
from tigr_core.config import Config
from tigr_core.errors import UserError


def check_fit(config: Config, task_set: TaskSet, env: TaskVectorEnv) -> None:
    """Raise a `UserError` for settings that make no sense with these tasks or this robot."""
    _check_components(config, task_set)
    if config.training.relabel_share > 0.0:
        check_relabelling(task_set)
    check_turning(config.model.turning, env.spec_robot.observation)
    check_shifted(config, env.spec_robot.observation)
    if config.training.scripted_share > 0.0 and not env.has_scripts:
        raise UserError(
            f"training.scripted_share is {config.training.scripted_share} for {config.env.id}",
            expected="0: nobody has written policies for it",
            fix="set training.scripted_share=0, or choose one of the Meta-World environments",
        )


def _check_components(config: Config, task_set: TaskSet) -> None:
    tasks, components = task_set.num_known, config.model.num_components
    if config.inference.supervision_weight > 0.0 and components < tasks:
        raise UserError(
            f"model.num_components is {components} for {tasks} base tasks",
            expected=f"at least {tasks} when inference.supervision_weight is above 0",
            fix=f"set model.num_components={tasks}, or inference.supervision_weight=0",
        )


def check_relabelling(task_set: TaskSet) -> None:
    """Refuse tasks that change robot or world: what happened says nothing about another one."""
    if changing := [task.name for task in task_set.base_tasks if task.form in ("dynamics", "world")]:
        raise UserError(
            f"training.relabel_share is above 0 for {', '.join(changing)}, whose parameter changes the robot itself "
            "or the things around it",
            expected="0: an episode cannot pose as one of another body or world",
            fix="set training.relabel_share=0",
        )


def check_shifted(config: Config, terms: Sequence[ObservationTerm]) -> None:
    """Refuse entries of the observation that are no positions of a whole robot, and unknown base tasks."""
    for entry in config.sac.shifted:
        if entry >= len(terms) or terms[entry].unit != "m":
            found = "beyond the last one" if entry >= len(terms) else f"{terms[entry].name} in {terms[entry].unit}"
            positions = ", ".join(f"{i} ({term.name})" for i, term in enumerate(terms) if term.unit == "m")
            raise UserError(
                f"sac.shifted names entry {entry} of the observation, {found}",
                expected=f"positions: {positions or 'there are none'}",
                fix="name one of these that is not felt by the robot, or leave sac.shifted out",
            )
    known = envs.task_set(config.env.id).names  # also those that env.base_tasks leaves out
    if unknown := [name for name in config.sac.unshifted_tasks if name not in known]:
        raise UserError(
            f"sac.unshifted_tasks names {', '.join(unknown)}",
            expected=f"base tasks of {config.env.id}: {', '.join(known)}",
            fix="name base tasks whose rewards depend on the entries in sac.shifted",
        )


def check_turning(turning: Sequence[int], terms: Sequence[ObservationTerm]) -> None:
    """Refuse entries of the observation that are no angles, whose sine and cosine would say nothing."""
    for entry in turning:
        if entry >= len(terms) or terms[entry].unit != "rad":
            found = "beyond the last one" if entry >= len(terms) else f"{terms[entry].name} in {terms[entry].unit}"
            angles = ", ".join(f"{i} ({term.name})" for i, term in enumerate(terms) if term.unit == "rad")
            raise UserError(
                f"model.turning names entry {entry} of the observation, {found}",
                expected=f"angles: {angles or 'there are none'}",
                fix="name one of these, or leave model.turning out",
            )
