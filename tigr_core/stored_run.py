# SPDX-License-Identifier: Apache-2.0
"""The replay data of a run that is not in training, and ``tigr import-run``, which adds to it what another run did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from envs import make_vector, task_set
from envs.spec import RobotSpec
from envs.tasks import TaskSet
from tigr_core.checkpoint import load_checkpoint, save_checkpoint
from tigr_core.config import Config, make_config
from tigr_core.errors import UserError
from tigr_core.files import FolderLock
from tigr_core.relabelling import Relabeller
from tigr_core.replay import ReplayBuffer
from tigr_core.trainer import CHECKPOINT

CANDIDATES = 16  # parameters of each base task that are tried for an episode of a base task that is not known


@dataclass(frozen=True)
class StoredRun:
    """A run as its checkpoint has it."""

    folder: Path
    config: Config
    replay: ReplayBuffer

    @classmethod
    def read(cls, folder: Path) -> StoredRun:
        """Read the checkpoint of a run; raises `UserError` where there is none that fits."""
        return cls._of(folder, load_checkpoint(folder / CHECKPOINT))

    @classmethod
    def _of(cls, folder: Path, state: dict[str, Any]) -> StoredRun:
        config = make_config(state["config"], str(folder))
        replay = ReplayBuffer(
            config.training.replay_capacity,
            config.env.episode_steps,
            validation_share=config.inference.validation_share,
            relabelled=config.training.relabel_share > 0.0,
        )
        replay.load_state_dict(state["replay"])
        return cls(folder, config, replay)

    @classmethod
    @contextmanager
    def change(cls, folder: Path) -> Iterator[StoredRun]:
        """Hold a run for changes of its replay data, which are written when nothing was raised meanwhile."""
        lock = FolderLock(folder) if folder.is_dir() else None
        try:
            state = load_checkpoint(folder / CHECKPOINT)
            run = cls._of(folder, state)
            yield run
            save_checkpoint(folder / CHECKPOINT, {**state, "replay": run.replay.state_dict()})
        finally:
            if lock is not None:
                lock.release()

    @property
    def task_set(self) -> TaskSet:
        """The base tasks, in label order."""
        return task_set(self.config.env.id, self.config.env.base_tasks)

    @property
    def base_tasks(self) -> list[str]:
        """Their names."""
        return list(self.task_set.names)

    def quantities(self) -> tuple[RobotSpec, dict[str, int]]:
        """Return what the run's environment moves, and the sizes of the quantities its tasks are about."""
        with closing(make_vector(self.config.env.id, 1, base_tasks=self.config.env.base_tasks)) as env:
            return env.spec_robot, dict(env.quantity_dims)

    @property
    def relabeller(self) -> Relabeller:
        """What finds tasks for episodes."""
        worst = self.config.training.relabel_worst_reward
        return Relabeller(self.task_set, self.quantities()[1], worst_reward=worst, candidates=CANDIDATES)

    def new_rng(self) -> np.random.Generator:
        """Return random numbers of what is added next, the same whenever it is."""
        return np.random.default_rng([self.config.seed, self.replay.num_added])


def import_run(
    source: Annotated[Path, typer.Argument(help="Folder of the run to take episodes from; it stays as it is.")],
    run: Annotated[Path, typer.Argument(help="Folder of the run whose replay data they join.")],
    episodes: Annotated[
        int | None, typer.Option(min=1, help="How many, the last ones; default: all that it has.")
    ] = None,
) -> None:
    """Add the episodes of one run to the replay data of another of the same robot, by the names of its base tasks.

    What a policy learned on a few hard base tasks alone thus helps one that learns them all, once
    `tigr train --resume RUN` goes on. Episodes of base tasks that RUN does not have come as what they are best at.
    """
    taken = StoredRun.read(source)
    with StoredRun.change(run) as into:
        _require_fit(taken, into)
        known = {name: label for label, name in enumerate(into.base_tasks)}
        labels = np.array([known.get(name, -1) for name in taken.base_tasks])
        count = min(episodes or taken.replay.num_episodes, taken.replay.num_episodes)
        before = into.replay.num_added
        into.replay.add_from(taken.replay, count, labels, into.relabeller, into.new_rng())
        count = into.replay.num_added - before
    print(f"added    {count} episodes of {', '.join(taken.base_tasks)} to {run}")
    print(f"go on with:  tigr train --resume {run}")


def _require_fit(taken: StoredRun, into: StoredRun) -> None:
    unknown = [name for name in taken.base_tasks if name not in into.base_tasks]
    (robot, dims), (own_robot, own_dims) = taken.quantities(), into.quantities()
    if robot.to_dict() != own_robot.to_dict() or taken.config.env.episode_steps != into.config.env.episode_steps:
        raise UserError(
            f"episodes of {taken.config.env.episode_steps} steps of {robot.name} in {taken.folder}",
            expected=f"episodes of {into.config.env.episode_steps} steps of the very same {own_robot.name}",
            fix="choose another run",
        )
    same_quantities = dims == own_dims and taken.task_set.parameter_dim == into.task_set.parameter_dim
    if unknown and not (same_quantities and into.replay.relabelled):
        raise UserError(
            f"episodes of {', '.join(unknown)} in {taken.folder}, which {into.folder} does not have",
            expected=f"some of {', '.join(into.base_tasks)}; or training.relabel_share above 0 in both runs, and tasks "
            "about the same quantities with as many parameters",
            fix="choose another run",
        )
    if into.replay.relabelled and not taken.replay.relabelled:
        raise UserError(
            f"{taken.folder} was trained with training.relabel_share 0 and lacks what relabelling reads",
            expected=f"a run with relabelling, as {into.folder} has it",
            fix="train it with --set training.relabel_share=0.5",
        )
