# SPDX-License-Identifier: Apache-2.0
"""The epoch loop. Read `_PHASES` and the methods of the same names: they are the data flow.

    evaluate (untrained) ─► explore ─┐
       ┌─────────────────────────────┘
       └─► collect ─► inference ─► sac ─► evaluate ─► log, checkpoint ─► collect ...

With `sac.beside_inference`, a share of SAC's steps is taken in the phase `inference` (`learners.py`).

A run can be stopped after any optimisation step; a checkpoint holds the phase and the step within it, so that the
resumed run gives the numbers of one that was never interrupted (same machine, same number of threads). Whoever stops
it to save or to pause calls `Trainer.run` again.

With `training.asynchronous`, `collect` takes the episodes that were begun an epoch ago and begins those of the next,
with the weights of the last. They are waited for: numbers depend neither on who is faster nor on interruptions.
"""

from __future__ import annotations

import copy
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs import make_vector
from envs.tasks import Task
from tigr_core import evaluation, kernels
from tigr_core.ahead import Ahead
from tigr_core.bundle import Bundle, Source
from tigr_core.checkpoint import load_checkpoint, restore_rng, rng_state, save_checkpoint
from tigr_core.checks import check_fit
from tigr_core.collector import Collector, Request
from tigr_core.config import Config
from tigr_core.errors import UserError
from tigr_core.learners import Learners
from tigr_core.model import TaskInferenceModel
from tigr_core.progress import Progress
from tigr_core.reference_output import ReferenceNames
from tigr_core.relabelling import Relabeller
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.run_log import RunLog
from tigr_core.stop import AskStop, Interrupted, never
from tigr_core.task_sampling import TaskSampler
from tigr_core.version import __version__
from tigr_core.weight_average import running_mean

CHECKPOINT, BEST, LAST = "checkpoint.pt", "best.tigr", "last.tigr"
_PHASES = {
    True: ("evaluate", "explore"),
    False: ("collect", "inference", "sac", "evaluate"),
}  # first epoch (0), others
_INFERENCE_METRICS = [
    "loss",
    "state",
    "reward",
    "kl",
    "separation",
    "sparsity",
    "supervision",
    "anchor",
    "validation_state",
    "validation_reward",
]
_SAC_METRICS = ["critic_loss", "actor_loss", "temperature", "entropy", "q_mean"]


class Trainer:
    """Trains one configuration in one run folder."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        *,
        collector: Collector,
        progress: Progress,
        device: torch.device | str = "cpu",
        stop: AskStop = never,
    ) -> None:
        self.config, self.folder, self.progress, self.stop = config, folder, progress, stop
        self.device, self.collector = torch.device(device), collector
        self.task_set = evaluation.tasks_of(config.env)
        self.train_tasks, self.test_tasks = evaluation.split_tasks(config)
        share, preference = config.training.hard_task_share, config.training.hard_tasks
        self.sampler = TaskSampler(self.train_tasks, len(self.task_set), share, preference)
        self.rng = np.random.default_rng([config.seed, 0])
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        with closing(make_vector(config.env.id, 1, base_tasks=config.env.base_tasks)) as env:
            self.robot, quantity_dims = env.spec_robot, env.quantity_dims
            check_fit(config, self.task_set, env)
        self.relabeller = Relabeller(
            self.task_set,
            quantity_dims,
            worst_reward=config.training.relabel_worst_reward,
            candidates=config.training.relabel_candidates,
            best_task=config.training.relabel_best_task,
            same_share=config.training.relabel_same_share,
            change_share=config.training.relabel_change_share,
        )
        self._build_learners()
        self.epoch, self.phase = 0, "evaluate"
        self.env_steps, self.wall_s, self.best_return = 0, 0.0, -np.inf
        self.ahead: Ahead | None = None
        self.row: dict[str, float] = {}
        self.log: RunLog | None = None
        self.reference_names = ReferenceNames(config) if config.training.reference_output else None

    def _is_fast_possible(self) -> bool:
        if self.device.type == "cpu" and kernels.compiler_found() and not kernels.are_compiled():
            self.progress.message("compiling networks for this processor, once: some ten seconds")
        lacking = kernels.obstacle(self.device)
        if lacking is not None:
            self.progress.message(f"note: training in the exact mode: {lacking}")
        return lacking is None

    def _build_learners(self) -> None:
        config = self.config
        self.fast = config.training.fast and self._is_fast_possible()
        self.replay = ReplayBuffer(
            config.training.replay_capacity,
            config.env.episode_steps,
            validation_share=config.inference.validation_share,
            relabelled=config.training.relabel_share > 0.0,
            linear=config.training.replay_sampling == "linear",
            device=self.device,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = TaskInferenceModel(config.model, len(self.robot.observation), len(self.robot.actuators))
            self.model = model.to(self.device)
            self.learners = Learners(
                self.model,
                config,
                self.task_set,
                self.replay,
                self.robot,
                rng=self.rng,
                generator=self.generator,
                progress=self.progress,
                stop=self.stop,
                fast=self.fast,
            )
        self.acting_model = self.model if self.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        epochs = config.training.average_epochs
        self.average = running_mean(self.model, epochs) if epochs else None

    @property
    def columns(self) -> list[str]:
        """The header of progress.csv."""
        return [
            *["epoch", "env_steps", "inference_steps", "sac_steps", "wall_s", "collect_return"],
            *(["collect_staleness"] if self.config.training.asynchronous else []),
            "train_return",
            *evaluation.summary_columns(self.task_set.names, self.config.env.episode_steps, self.config.env.id),
            *(f"inference/{name}" for name in _INFERENCE_METRICS),
            *(f"sac/{name}" for name in _SAC_METRICS),
            *(f"time/{name}_s" for name in ("explore", "collect", "inference", "sac", "evaluate")),
        ]

    def run(self) -> bool:
        """Train until the last epoch or until told to stop; return whether the training is complete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.log is None:
            self.log = RunLog(self.folder, self.columns, self.reference_names)
        self.progress.start(self.config.training.epochs, self.epoch)
        while self.epoch <= self.config.training.epochs:
            started = time.perf_counter()
            done = self._run_phase()
            self._count_time(time.perf_counter() - started)
            if done:
                self._advance()
            if self.stop() and self.epoch <= self.config.training.epochs:
                self.save()
                return False
        return True

    def _run_phase(self) -> bool:
        """Return whether the phase is complete. One that is interrupted has changed nothing but the random numbers."""
        before = self.rng.bit_generator.state
        try:
            return bool(getattr(self, f"_{self.phase}")())
        except Interrupted:
            self.rng.bit_generator.state = before
            return False

    def _count_time(self, seconds: float) -> None:
        self.wall_s += seconds
        name = f"time/{self.phase}_s"
        self.row[name] = self.row.get(name, 0.0) + seconds

    def _advance(self) -> None:
        phases = _PHASES[self.epoch == 0]
        place = phases.index(self.phase) + 1
        if place < len(phases):
            self.phase = phases[place]
            return
        self._finish_epoch()
        self.epoch, self.phase = self.epoch + 1, _PHASES[False][0]
        if self.epoch > self.config.training.epochs or (self.epoch - 1) % self.config.training.checkpoint_every == 0:
            self.save()

    def _finish_epoch(self) -> None:
        assert self.log is not None
        counters = {"epoch": self.epoch, "env_steps": self.env_steps, "wall_s": self.wall_s}
        counters |= {"inference_steps": self.learners.inference.steps, "sac_steps": self.learners.sac.steps}
        self.row = {**counters, **self.row, **self.learners.means.pop()}
        self.log.append(self.row)
        self.progress.epoch(self.row)
        self.row = {}

    # The phases. Each returns whether it is complete; those with steps go on where they were stopped.

    def _explore(self) -> bool:
        repeats = self.config.training.exploration_episodes
        if repeats > 0:
            tasks = self.train_tasks * repeats
            self.progress.phase("explore", 0, len(tasks))
            request = self._request(tasks, random_actions=True)
            self._add(self.collector.collect(self._synced_acting_model(), request))
        return True

    def _collect(self) -> bool:
        training = self.config.training
        self.sampler.update(self.replay)
        self.progress.phase("collect", 0, training.tasks_per_epoch)
        episodes = self._episodes_of_epoch()
        self._add(episodes)
        if len(returns := episodes.returns[episodes.one_task]):  # those of two tasks compare with nothing
            self.row["collect_return"] = float(returns.mean())
        self.relabeller.base_task_shares = self.sampler.base_task_shares
        if training.relabel_share > 0.0:
            self.replay.relabel(self.relabeller, training.relabel_episodes, training.relabel_share, self.rng)
        return True

    def _episodes_of_epoch(self) -> Episodes:
        """Collect, or take what was collected ahead; where asynchronous, have those of the next epoch collected."""
        training, asked_in = self.config.training, self.epoch
        if self.ahead is not None:
            episodes, asked_in = self.ahead.episodes(), self.ahead.epoch
            self.ahead = None
        else:
            episodes = self.collector.collect(self._synced_acting_model(), self._request_of_epoch())
        if training.asynchronous:
            self.row["collect_staleness"] = self.epoch - asked_in  # epochs of learning that the policy lacked
        if training.asynchronous and self.epoch < training.epochs:
            request = self._request_of_epoch()
            self.ahead = Ahead(self.collector, self._synced_acting_model(), request, self.epoch)
        return episodes

    def _request_of_epoch(self) -> Request:
        return self._request(self.sampler.draw(self.config.training.tasks_per_epoch, self.rng))

    def _request(self, tasks: list[Any], *, random_actions: bool = False) -> Request:
        seeds = self.rng.integers(2**31, size=len(tasks)).tolist()
        noise_seed = int(self.rng.integers(2**31))
        training = self.config.training
        told_share = 0.0 if random_actions else training.told_share
        return Request(
            tasks,
            seeds,
            noise_seed=noise_seed,
            random_actions=random_actions,
            changes=self._draw_changes(len(tasks), told_share),
            told_share=told_share,
            greedy_share=training.greedy_share,
            scripted_share=training.scripted_share,
        )

    def _draw_changes(self, count: int, told_share: float) -> list[tuple[int, Task] | None]:
        """Draw which of `count` episodes change to another train task, and after which step; none that is told."""
        share = self.config.training.change_share
        if share == 0.0:
            return []
        changing = (self.rng.random(count) < share) & (np.arange(count) >= round(told_share * count))
        steps = self.rng.integers(1, max(2, self.config.env.episode_steps), size=count).tolist()
        tasks = self.sampler.draw(count, self.rng)
        return [change if c else None for c, change in zip(changing, zip(steps, tasks, strict=True), strict=True)]

    def _add(self, episodes: Episodes) -> None:
        self.replay.add(episodes, self.rng)
        self.env_steps += episodes.num_steps
        valid = torch.from_numpy(episodes.valid)
        parts = (episodes.obs[:, :-1], episodes.action, episodes.reward, episodes.obs[:, 1:])
        self.model.normaliser.update(*(torch.from_numpy(part)[valid] for part in parts))

    def _inference(self) -> bool:
        done = self.learners.infer(self.epoch)
        self.row["time/sac_s"] = self.row.get("time/sac_s", 0.0) + self.learners.beside_s
        self.learners.beside_s = 0.0
        return done

    def _sac(self) -> bool:
        done = self.learners.control(self.epoch)
        if done and self.average is not None:
            self.average.update_parameters(self.model)
        return done

    def _evaluate(self) -> bool:
        training = self.config.training
        if self.epoch % training.evaluate_every and self.epoch != training.epochs:
            return True
        self.progress.phase("evaluate", 0, 1)
        model = self._evaluated_model()
        train, test = (
            evaluation.evaluate(self.collector, model, tasks, seed=self.config.seed, told=training.told_share == 1.0)
            for tasks in (self.train_tasks, self.test_tasks)
        )
        labels = evaluation.component_labels(train, self.config, len(self.task_set.names))
        summary = evaluation.summarise(test, self.task_set.names, labels, self.config.env.id)
        self.row |= {"train_return": float(train.returns.mean()), **summary}
        if self.reference_names is not None:
            self.row |= self.reference_names.evaluate(self.collector, model, self.test_tasks, train=train, test=test)
        bundle = self._bundle(train, labels, {"train_return": self.row["train_return"], **summary})
        bundle.save(self.folder / LAST)
        self.progress.evaluation(bundle, test)
        if self.row["train_return"] > self.best_return and self.epoch > 0:
            self.best_return = self.row["train_return"]
            bundle.save(self.folder / BEST)
        if self.log is not None:
            self.log.mixture(evaluation.mixture_per_base_task(test, self.task_set.names), self.epoch)
        if self.log is not None and self.epoch == training.epochs:
            names = [self.task_set.names[i] for i in test.base_task[:, -1]]
            self.log.embedding(test.latent[:, -1], names, self.epoch)
        return True

    def _synced_acting_model(self) -> TaskInferenceModel:
        if self.acting_model is not self.model:
            self.acting_model.load_state_dict(self.model.state_dict())
        return self.acting_model

    def _evaluated_model(self) -> TaskInferenceModel:
        if self.average is None or self.average.n_averaged == 0:
            return self._synced_acting_model()
        mean = self.average.module
        assert isinstance(mean, TaskInferenceModel)
        return mean

    def _bundle(self, train: Episodes, labels: np.ndarray, results: dict[str, float]) -> Bundle:
        source = Source(
            version=__version__,
            config=self.config.model_dump(mode="json"),
            env_steps=self.env_steps,
            sac_steps=self.learners.sac.steps,
            evaluation={name: value for name, value in results.items() if np.isfinite(value)},
        )
        info = evaluation.bundle_info(self.config, self.robot, train, labels, source)
        return Bundle(self._evaluated_model(), info)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "config": self.config.model_dump(mode="json"),
            "model": self.model.state_dict(),
            **self.learners.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "replay": self.replay.state_dict(),
            "rng": rng_state(self.rng, self.generator),
            "ahead": None if self.ahead is None else self.ahead.state_dict(),
            "num_threads": torch.get_num_threads(),
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        save_checkpoint(self.folder / CHECKPOINT, state)

    def resume(self) -> None:
        """Go on from the checkpoint of the run folder."""
        state = load_checkpoint(self.folder / CHECKPOINT)
        try:
            self.model.load_state_dict(state["model"])
            self.learners.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the checkpoint in {self.folder} does not fit the configuration: {str(error).splitlines()[0]}",
                expected="the model settings that the run was started with",
                fix="resume without changing env.*, model.* or the optimisers",
            ) from None
        if self.average is not None and state.get("average") is not None:
            self.average.load_state_dict(state["average"])
        self.replay.load_state_dict(state["replay"])
        restore_rng(state["rng"], self.rng, self.generator)
        for name in _COUNTERS:
            setattr(self, name, state[name])
        if state["num_threads"] != torch.get_num_threads():
            self.progress.message(
                f"note: the run used {state['num_threads']} threads, now {torch.get_num_threads()}: "
                "numbers will differ in the last digits"
            )
        self.log = RunLog.resume(self.folder, self.columns, self.epoch - 1, self.reference_names)
        if (ahead := state.get("ahead")) is not None:
            self.ahead = Ahead.resume(ahead, self.collector, self._synced_acting_model(), self.task_set)


_COUNTERS = ("epoch", "phase", "env_steps", "wall_s", "best_return", "row")
