# SPDX-License-Identifier: Apache-2.0
"""What is learned in an epoch: task inference from the replay data, then control on what is inferred by then."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.spec import RobotSpec
from envs.tasks import TaskSet
from tigr_core.config import Config
from tigr_core.imagination import ImaginingView
from tigr_core.inference_learner import InferenceLearner
from tigr_core.metric_means import MetricMeans
from tigr_core.model import TaskInferenceModel
from tigr_core.pearl import PearlLearner, PearlView
from tigr_core.progress import Progress
from tigr_core.random_shift import RandomShift
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import ControlRefund, SACLearner, TransitionView
from tigr_core.stop import AskStop
from tigr_core.task_code import TaskCode
from tigr_core.teachers import Teachers

View = TransitionView | ImaginingView | PearlView


class Learners:
    """The learners of a model, and how far they are in an epoch's phase.

    Each phase returns whether it is complete, and goes on where it was stopped.
    """

    def __init__(
        self,
        model: TaskInferenceModel,
        config: Config,
        tasks: TaskSet,
        replay: ReplayBuffer,
        robot: RobotSpec,
        *,
        rng: np.random.Generator,
        generator: torch.Generator,
        progress: Progress,
        stop: AskStop,
        fast: bool,
    ) -> None:
        self.model, self.config, self.tasks, self.replay = model, config, tasks, replay
        self.rng, self.generator, self.progress, self.stop = rng, generator, progress, stop
        self.device = model.normaliser.mean.device
        if config.model.method == "pearl":
            self.sac: SACLearner = PearlLearner(model, config.sac, generator=generator)
        else:
            self.sac = SACLearner(model, config.sac, generator=generator, fast=fast)
        self.inference = InferenceLearner(
            model,
            config.inference,
            tasks,
            rng=rng,
            generator=generator,
            shift=RandomShift(model, config.sac, tasks) if config.inference.shifted else None,
            fast=fast,
        )
        self.task_code = None
        if config.sac.critic_sees_task or config.sac.told_share > 0.0:
            self.task_code = TaskCode(tasks, config.model.latent_dim, self.device)
        self.teachers = Teachers(config.sac.teachers, tasks, robot, self.device) if config.sac.teachers else None
        self.means = MetricMeans()
        self.step = 0  # of the phase
        self.view: View | None = None
        self.view_episodes: Tensor | None = None

    def infer(self, epoch: int) -> bool:
        """Take the epoch's inference steps."""
        config, learner = self.config.inference, self.inference
        learner.scale_rates(config.last_rate_share ** (epoch / self.config.training.epochs))
        total = config.first_epoch_steps if epoch == 1 else config.steps_per_epoch
        if self.step == 0:
            learner.early_stopping.begin(learner.steps)
        while self.step < total and not learner.early_stopping.reached:
            self.means.add("inference", learner.step(self.replay))
            self.step += 1
            self.progress.phase("inference", self.step, total)
            if self.stop():
                return False
        self.step = 0
        return True

    def control(self, epoch: int) -> bool:
        """Encode a view of the replay data and take the epoch's SAC steps on it."""
        config = self.config.sac
        if self.step == 0 or self.view_episodes is None:
            self.view_episodes = self._draw_view()
        if self.view is None:
            self.view = self._make_view(self.view_episodes, epoch)
        while self.step < config.steps_per_epoch:
            batch = self.view.sample(config.batch_size, self.generator)
            self.means.add("sac", self.sac.step(batch))  # type: ignore[arg-type]  # the view is the learner's own
            self.step += 1
            self.progress.phase("sac", self.step, config.steps_per_epoch)
            if self.stop():
                return False
        self.step, self.view = 0, None
        return True

    def _draw_view(self) -> Tensor:
        """Choose this epoch's replay episodes: as many as its draws need, so that none is encoded in vain."""
        sac = self.config.sac
        draws = sac.steps_per_epoch * sac.batch_size
        wanted = -(-draws // (self.config.env.episode_steps * sac.draws_per_transition))
        chosen = self.replay.draw_episodes(max(wanted, 1), self.rng)
        return torch.from_numpy(np.sort(chosen)).to(self.device)

    def _make_view(self, episodes: Tensor, epoch: int) -> View:
        config = self.config
        begun = self.sac.steps - self.step  # of this epoch
        warmup = config.sac.control_cost_warmup
        refund = ControlRefund(self.tasks, 1.0 - min(1.0, begun / warmup) ** 2 if warmup else 0.0, self.device)
        if config.model.method == "pearl":
            return PearlView(self.model, self.replay, self.rng, refund=refund, teachers=self.teachers)
        view = TransitionView(
            self.model,
            self.replay,
            episodes,
            task_code=self.task_code,
            critic_sees_task=config.sac.critic_sees_task,
            told_share=config.sac.told_share,
            refund=refund,
            teachers=self.teachers,
            groups=config.sac.pcgrad,
            group_seed=begun,
            encode=self.inference.encode_episodes,
            shift=RandomShift(self.model, config.sac, self.tasks) if config.sac.shifted else None,
            stop=self.stop,
        )
        begins = config.sac.imagined_start * config.training.epochs
        imagines = config.sac.imagined_share > 0.0 and epoch > begins
        return ImaginingView(view, self.model, config.sac) if imagines else view

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside model and random numbers."""
        return {
            "inference": self.inference.state_dict(),
            "sac": self.sac.state_dict(),
            "means": self.means.state_dict(),
            "step": self.step,
            "view_episodes": self.view_episodes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        self.inference.load_state_dict(state["inference"])
        self.sac.load_state_dict(state["sac"])
        self.means.load_state_dict(state["means"])
        self.step, view = state["step"], state["view_episodes"]
        self.view_episodes = None if view is None else view.to(self.device)
