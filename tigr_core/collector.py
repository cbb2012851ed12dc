# SPDX-License-Identifier: Apache-2.0
"""Collecting episodes: many tasks at once, in this process, through the one controller."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from envs import make_vector
from envs.tasks import Task, TaskSet
from envs.vector_env import TaskVectorEnv
from tigr_core.config import EnvConfig
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.kernels import obstacle
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes
from tigr_core.stop import AskStop, Interrupted, Stop, give_way, never
from tigr_core.task_code import TaskCode


@dataclass(frozen=True)
class Request:
    """What to collect: one episode of each task."""

    tasks: Sequence[Task]
    seeds: Sequence[int]  # one for each environment
    noise_seed: int | None = None  # of the policy's exploration; None: the most likely action
    random_actions: bool = False  # uniform in [-1, 1], for data before the policy knows anything
    task_change: dict[str, Any] | None = None  # see `envs.tasks`: the task changes on the way
    changes: Sequence[tuple[int, Task] | None] = ()  # for each task, after which step it is another, and that
    episode_steps: int | None = None
    told_share: float = 0.0  # of the tasks, the first ones: the policy is told them
    greedy_share: float = 0.0  # of the tasks, the last ones: the most likely action, where others explore
    scripted_share: float = 0.0  # of the tasks, the first ones: the environment's scripted policies act


class Collector(Protocol):
    """Runs episodes with a model on the CPU."""

    def collect(self, model: TaskInferenceModel, request: Request) -> Episodes:
        """Run one episode of every task of the request, in its order; raises `Interrupted` when told to stop."""

    def begin(self, model: TaskInferenceModel, request: Request) -> Callable[[], Episodes]:
        """Begin to collect and return at once; the call that is returned waits for what `collect` would return.

        The model must not change before it does.
        """

    def close(self) -> None:
        """Release environments and processes; what has begun is given up."""


MIN_SHARE = 16  # tasks for which a thread of their own pays


class LocalCollector:
    """Collects in this process: a share of the tasks in each thread, every share one batch of environments.

    While one share's physics run, another's networks do. Environments are kept for the next call of the same size. The
    number of threads changes results through the exploration noise (see `split_request`) and in the last digits.
    The fast mode's networks act (`acting.py`) if `fast`, and if they can be compiled; that changes last digits, too.
    What has begun (`begin`) runs in a thread of its own; one request is collected at a time.
    """

    def __init__(self, env: EnvConfig, *, num_threads: int, fast: bool = False, stop: AskStop = never) -> None:
        self.env, self.num_threads, self._wants_fast, self.stop = env, num_threads, fast, stop
        self._failed = self._closed = False
        self._one_request = threading.Lock()
        self._shares = [_ShareCollector(env, self._stop_share) for _ in range(num_threads)]
        # One OpenMP thread for each, set within it: teams that wait here let those of the learner wait by sleeping.
        self._pool = ThreadPoolExecutor(num_threads, "collect", initializer=torch.set_num_threads, initargs=(1,))
        self._begun = ThreadPoolExecutor(
            1, "collect ahead", initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)
        )

    def _stop_share(self) -> int:
        return Stop.AT_ONCE if self._failed or self._closed else self.stop()

    @cached_property
    def _fast(self) -> bool:
        return self._wants_fast and obstacle(torch.device("cpu")) is None

    def begin(self, model: TaskInferenceModel, request: Request) -> Callable[[], Episodes]:
        """Begin to collect in a thread of its own."""
        return self._begun.submit(self.collect, model, request).result

    def collect(self, model: TaskInferenceModel, request: Request) -> Episodes:
        """Run one episode of every task with a model on the CPU."""
        with self._one_request:
            return self._collect(model, request)

    def _collect(self, model: TaskInferenceModel, request: Request) -> Episodes:
        shares = split_request(request, min(self.num_threads, -(-len(request.tasks) // MIN_SHARE)))
        self._failed, fast = False, self._fast
        if len(shares) == 1:
            return self._shares[0].collect(model, request, fast=fast)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # each share's networks stay on its thread
        try:
            running = [
                self._pool.submit(self._collect_share, collector, model, share, fast)
                for collector, share in zip(self._shares, shares, strict=False)
            ]
            done = [future.exception() for future in running]
        finally:
            torch.set_num_threads(threads)
        errors = [error for error in done if error is not None]
        if errors:  # shares that were given up because of another's error say less than that error
            raise next((error for error in errors if not isinstance(error, Interrupted)), errors[0])
        return Episodes.concatenate([future.result() for future in running])

    def _collect_share(
        self, collector: _ShareCollector, model: TaskInferenceModel, share: Request, fast: bool
    ) -> Episodes:
        try:
            return collector.collect(model, share, fast=fast)
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """Close the environments and end the threads."""
        self._closed = True
        self._begun.shutdown(cancel_futures=True)
        self._pool.shutdown()
        for share in self._shares:
            share.close()


def split_request(request: Request, parts: int) -> list[Request]:
    """Return up to `parts` requests over contiguous, nearly equal shares of the tasks.

    The seed of a share's exploration noise is that of the request plus the number of the share.
    """
    count = min(parts, len(request.tasks))
    bounds = np.linspace(0, len(request.tasks), count + 1).astype(int)
    return [
        dataclasses.replace(
            request,
            tasks=request.tasks[start:end],
            seeds=request.seeds[start:end],
            changes=request.changes[start:end],
            noise_seed=None if request.noise_seed is None else request.noise_seed + number,
        )
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
    ]


class _ShareCollector:
    """Steps one environment per task as a batch, on the calling thread."""

    def __init__(self, env: EnvConfig, stop: AskStop) -> None:
        self.env, self.stop = env, stop
        self._envs: dict[tuple[Any, ...], TaskVectorEnv] = {}

    def collect(self, model: TaskInferenceModel, request: Request, *, fast: bool) -> Episodes:
        env = self._env_for(request)
        controller = Controller(model, len(request.tasks), fast=fast)
        if request.told_share > 0.0:
            told = torch.arange(len(request.tasks)) < round(request.told_share * len(request.tasks))
            controller.tell(_codes(env.task_set, request.tasks, model.config.latent_dim), told)
        recorder = _Recorder(env, controller)
        generator = None if request.noise_seed is None else torch.Generator().manual_seed(request.noise_seed)
        rng = np.random.default_rng(request.noise_seed)
        options = {"tasks": list(request.tasks), "changes": list(request.changes)}
        obs, _ = env.reset(seed=list(request.seeds), options=options)
        obs = obs.astype(np.float32)
        for step in range(env.episode_steps):
            give_way(self.stop)
            recorder.before(step, obs)
            action = controller.act(obs, generator)
            if greedy := round(request.greedy_share * len(request.tasks)):
                action[-greedy:] = controller.act(obs)[-greedy:]
            if request.random_actions:
                action = rng.uniform(-1.0, 1.0, action.shape).astype(np.float32)
            if scripted := round(request.scripted_share * len(request.tasks)):
                action[:scripted] = env.scripted_actions()[:scripted]
            obs, reward, terminated, _, info = env.step(action)
            obs, reward = obs.astype(np.float32), reward.astype(np.float32)
            try:
                controller.observe(action, reward, obs)
            except ValueError:
                _require_finite(env, self.env.id, step, obs, reward, info)
                raise
            recorder.after(step, action, reward, terminated, info)
            if recorder.done.all():
                break
        recorder.before(step + 1, obs)
        return recorder.episodes()

    def _env_for(self, request: Request) -> TaskVectorEnv:
        steps = request.episode_steps or self.env.episode_steps
        key = (len(request.tasks), steps, repr(request.task_change))
        if key not in self._envs:
            self._envs[key] = make_vector(
                self.env.id,
                len(request.tasks),
                base_tasks=self.env.base_tasks,
                task_change=request.task_change,
                episode_steps=steps,
            )
        return self._envs[key]

    def close(self) -> None:
        for env in self._envs.values():
            env.close()
        self._envs.clear()


def _codes(task_set: TaskSet, tasks: Sequence[Task], latent_dim: int) -> torch.Tensor:
    """Return the codes of tasks, ``[N, L]``."""
    parameter = np.zeros((len(tasks), task_set.parameter_dim), dtype=np.float32)
    for row, task in zip(parameter, tasks, strict=True):
        row[: len(task.parameter)] = task.parameter
    label = torch.tensor([task_set.parse(task).index for task in tasks])
    return TaskCode(task_set, latent_dim)(label, torch.from_numpy(parameter))


def _require_finite(
    env: TaskVectorEnv, env_id: str, step: int, obs: np.ndarray, reward: np.ndarray, info: dict[str, Any]
) -> None:
    broken = ~(np.isfinite(obs).all(axis=1) & np.isfinite(reward))
    if broken.any():
        member = int(np.flatnonzero(broken)[0])
        base_task = env.task_set.base_tasks[info["base_task"][member]]
        parameter = info["parameter"][member, : base_task.parameter_dim]
        raise UserError(
            f"{env_id} gave a non-finite observation or reward at step {step + 1} of task "
            f"{env.task_set.parse((base_task.name, parameter.tolist()))}",
            expected="finite numbers; nothing of this episode was stored",
            fix="check the environment's model and time step; go on with --resume once it is mended",
        )


class _Recorder:
    """Fills the arrays of `Episodes` step by step."""

    def __init__(self, env: TaskVectorEnv, controller: Controller) -> None:
        self.env, self.controller = env, controller
        count, steps = env.num_envs, env.episode_steps
        model = controller.model
        self.done = np.zeros(count, dtype=bool)
        self.length = np.zeros(count, dtype=np.int64)
        widths = {
            "obs": model.obs_dim,
            "mixture_weights": model.config.num_components,
            "latent": model.config.latent_dim,
        }
        self.arrays: dict[str, np.ndarray] = {
            name: np.zeros((count, steps + 1, width), dtype=np.float32) for name, width in widths.items()
        }
        widths = {
            "action": model.action_dim,
            "parameter": env.task_set.parameter_dim,
            "quantities": sum(env.quantity_dims.values()),
        }
        for name, width in widths.items():
            self.arrays[name] = np.zeros((count, steps, width), dtype=np.float32)
        for name in ("reward", "tracked_value", "tracked_target", "tracking_error"):
            self.arrays[name] = np.zeros((count, steps), dtype=np.float32)
        self.arrays["terminated"] = np.zeros((count, steps), dtype=bool)
        self.arrays["base_task"] = np.zeros((count, steps), dtype=np.int64)

    def before(self, step: int, obs: np.ndarray) -> None:
        self.arrays["obs"][:, step] = obs
        self.arrays["mixture_weights"][:, step] = self.controller.mixture_weights
        self.arrays["latent"][:, step] = self.controller.latent

    def after(
        self, step: int, action: np.ndarray, reward: np.ndarray, terminated: np.ndarray, info: dict[str, Any]
    ) -> None:
        self.arrays["action"][:, step] = action
        self.arrays["reward"][:, step] = reward
        self.arrays["terminated"][:, step] = terminated
        self.arrays["quantities"][:, step] = self.env.quantities
        for name in ("base_task", "parameter", "tracked_value", "tracked_target", "tracking_error"):
            self.arrays[name][:, step] = info[name]
        self.length += ~self.done
        self.done |= terminated

    def episodes(self) -> Episodes:
        return Episodes(length=self.length, **self.arrays)
