# SPDX-License-Identifier: Apache-2.0
"""What is learned in an epoch: task inference from the replay data, then control on what is inferred by then.

With `sac.beside_inference`, that share of the epoch's SAC steps is taken while inference learns, by a thread of its own
with half of the cores: small networks gain less than twice from two. Control then reads what was inferred before the
epoch's inference steps. Neither waits for the other's numbers, so that these depend on no one's speed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.spec import RobotSpec
from envs.tasks import TaskSet
from tigr_core.config import Config
from tigr_core.imagination import ImaginingView
from tigr_core.inference_learner import InferenceLearner
from tigr_core.launches import Capture, Launched, SACLaunches, cuda_capture
from tigr_core.memory import keep_freed_memory
from tigr_core.metric_means import MetricMeans
from tigr_core.model import TaskInferenceModel
from tigr_core.pearl import PearlLearner, PearlView
from tigr_core.progress import Progress
from tigr_core.random_shift import RandomShift
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import ControlRefund, SACLearner, TransitionBatch, TransitionView
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
        if self.device.type == "cpu":
            keep_freed_memory()
        self.control_generator = torch.Generator(self.device).manual_seed(config.seed + 1)
        if config.model.method == "pearl":
            self.sac: SACLearner = PearlLearner(model, config.sac, generator=self.control_generator)
        else:
            self.sac = SACLearner(model, config.sac, generator=self.control_generator, fast=fast)
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
        self.inferred = self.controlled = 0  # steps of the epoch
        self.view: View | None = None
        self.launches: SACLaunches | None = None  # of SAC steps on the view
        self.view_episodes: Tensor | None = None
        self.view_encoder: dict[str, Tensor] | None = None  # that it is encoded with; it may learn meanwhile
        self.beside_s = 0.0  # of the epoch's inference phase, for SAC

    def infer(self, epoch: int) -> bool:
        """Take the epoch's inference steps, and beside them a share of SAC's."""
        beside = round(self.config.sac.beside_inference * self.config.sac.steps_per_epoch)
        done = self._infer_and_control(epoch, beside) if beside else self._infer(epoch)
        if done:
            self.inferred = 0
        return done

    def control(self, epoch: int) -> bool:
        """Take the epoch's SAC steps, or what is left of them."""
        done = self._control(epoch, self.config.sac.steps_per_epoch, shown=True)
        if done:
            self.controlled, self.view, self.view_episodes, self.view_encoder = 0, None, None, None
            self.launches = None
        return done

    def _infer_and_control(self, epoch: int, beside: int) -> bool:
        self._open_view(epoch)
        threads = torch.get_num_threads()

        def control() -> bool:
            started = time.perf_counter()
            done = self._control(epoch, beside)
            self.beside_s += time.perf_counter() - started
            return done

        if threads == 1 or self.device.type != "cpu":
            return control() and self._infer(epoch)
        try:
            with ThreadPoolExecutor(1, "sac", initializer=torch.set_num_threads, initargs=(threads // 2,)) as pool:
                controlled = pool.submit(copy_context().run, control)  # settings of the compiler are of a context
                torch.set_num_threads(threads - threads // 2)
                inferred = self._infer(epoch)
            return controlled.result() and inferred
        finally:
            torch.set_num_threads(threads)

    def _infer(self, epoch: int) -> bool:
        config, learner = self.config.inference, self.inference
        learner.scale_rates(config.last_rate_share ** (epoch / self.config.training.epochs))
        total = config.first_epoch_steps if epoch == 1 else config.steps_per_epoch
        if self.inferred == 0:
            learner.early_stopping.begin(learner.steps)
        learn = self.inference_launch()
        while self.inferred < total and not learner.early_stopping.reached:
            self.means.add("inference", learner.step(self.replay, learn))
            self.inferred += 1
            self.progress.phase("inference", self.inferred, total)
            if self.stop():
                return False
        return True

    def _control(self, epoch: int, end: int, *, shown: bool = False) -> bool:
        """Take SAC steps of the epoch up to number `end`."""
        self._open_view(epoch)
        assert self.launches is not None
        while self.controlled < end:
            steps, metrics = self.launches.take(end - self.controlled)
            self.means.add("sac", metrics, steps)
            self.controlled += steps
            if shown:
                self.progress.phase("sac", self.controlled, end)
            if self.stop():
                return False
        return True

    def _open_view(self, epoch: int) -> None:
        """Encode the replay data that the epoch's SAC steps read, unless that is done."""
        if self.view is not None:
            return
        if self.view_episodes is None:
            episodes = self._draw_view()
            self.view = self._make_view(episodes, epoch)
            self.view_episodes, self.view_encoder = episodes, _copied(self.model.encoder)
        else:  # resumed
            now = _copied(self.model.encoder)
            assert self.view_encoder is not None
            try:
                self.model.encoder.load_state_dict(self.view_encoder)
                self.view = self._make_view(self.view_episodes, epoch)
            finally:
                self.model.encoder.load_state_dict(now)
        self.launches = SACLaunches(self.sac, self._draw_batch, self.capture_of(self.view))

    def _draw_batch(self) -> TransitionBatch:
        assert self.view is not None
        batch = self.view.sample(self.config.sac.batch_size, self.control_generator)
        return batch  # type: ignore[return-value]  # PEARL's learner takes its own

    def capture_of(self, view: View) -> Capture | None:
        """Return how SAC's steps on a view are captured; None where they ask the device for numbers, or need not be."""
        possible = isinstance(view, TransitionView) and view.group is None
        return self._capture(self.control_generator) if possible else None

    def inference_launch(self) -> Launched | None:
        """Return what learns from the replay data as they lie in one launch a step, where that pays."""
        capture = self._capture(self.generator) if self.config.inference.pcgrad is None else None
        return Launched(partial(self.inference.learn, self.replay), capture) if capture else None

    def _capture(self, generator: torch.Generator) -> Capture | None:
        """Return how steps that draw from a generator are captured, on a device where that pays."""
        return cuda_capture(generator) if self.device.type == "cuda" else None

    def _draw_view(self) -> Tensor:
        """Choose this epoch's replay episodes: as many as its draws need, so that none is encoded in vain."""
        sac = self.config.sac
        draws = sac.steps_per_epoch * sac.batch_size
        wanted = -(-draws // (self.config.env.episode_steps * sac.draws_per_transition))
        chosen = self.replay.draw_episodes(max(wanted, 1), self.rng)
        return torch.from_numpy(np.sort(chosen)).to(self.device)

    def _make_view(self, episodes: Tensor, epoch: int) -> View:
        config = self.config
        begun = self.sac.steps - self.controlled  # of this epoch
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
            "inferred": self.inferred,
            "controlled": self.controlled,
            "view_episodes": self.view_episodes,
            "view_encoder": self.view_encoder,
            "control_generator": self.control_generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore from a checkpoint."""
        self.inference.load_state_dict(state["inference"])
        self.sac.load_state_dict(state["sac"])
        self.means.load_state_dict(state["means"])
        self.inferred, self.controlled = state["inferred"], state["controlled"]
        view = state["view_episodes"]
        self.view_episodes = None if view is None else view.to(self.device)
        self.view_encoder = state["view_encoder"]
        self.control_generator.set_state(state["control_generator"])


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
