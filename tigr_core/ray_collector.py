# SPDX-License-Identifier: Apache-2.0
"""Collecting in Ray actors: many environments an actor, one thread an actor, lost actors replaced.

Every actor collects its share of the tasks with a `LocalCollector`. The result depends on the number of workers only
through the exploration noise, whose seed is that of the request plus the number of the share.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import torch

from tigr_core.collector import LocalCollector, Request, split_request
from tigr_core.config import EnvConfig, ModelConfig
from tigr_core.errors import UserError
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes
from tigr_core.stop import AskStop, give_way, never

# Else SIGTERM, with which a training is told to stop, makes Ray print a crash report. Read when Ray is imported.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
try:
    import ray
except ImportError:
    ray = None  # type: ignore[assignment]

ATTEMPTS = 3  # at the same share, each with a fresh actor
POLL_S = 0.2  # how often to ask whether to stop


class RayCollector:
    """Collects with `workers` actors on a local Ray instance, or the cluster that the process is connected to."""

    def __init__(self, env: EnvConfig, workers: int, *, stop: AskStop = never) -> None:
        if ray is None:
            raise UserError(
                "--workers needs Ray, which is not installed",
                expected="the ray package",
                fix="pip install 'tigr_ros[ray]'",
            )
        self.env, self.stop = env, stop
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _start_ray(workers)
        self._actors = [self._start_actor() for _ in range(workers)]
        self.num_replaced = 0

    def _start_actor(self) -> Any:
        return ray.remote(num_cpus=1)(_Worker).remote(self.env)

    def collect(self, model: TaskInferenceModel, request: Request) -> Episodes:
        """Run one episode of every task, in shares; the share of a lost actor is collected again by a new one."""
        weights = ray.put({name: value.numpy() for name, value in model.state_dict().items()})
        sizes = (model.config, model.obs_dim, model.action_dim)
        shares = split_request(request, len(self._actors))
        pending = [
            actor.collect.remote(sizes, weights, share) for actor, share in zip(self._actors, shares, strict=False)
        ]
        return Episodes.concatenate([self._result(i, p, sizes, weights, shares[i]) for i, p in enumerate(pending)])

    def _result(
        self, index: int, pending: Any, sizes: tuple[ModelConfig, int, int], weights: Any, share: Request
    ) -> Episodes:
        for _ in range(ATTEMPTS):
            try:
                while not ray.wait([pending], timeout=POLL_S)[0]:
                    give_way(self.stop)
                episodes: Episodes = ray.get(pending)
                return episodes
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except ray.exceptions.RayActorError:
                self.num_replaced += 1
                self._actors[index] = self._start_actor()
                pending = self._actors[index].collect.remote(sizes, weights, share)
        raise UserError(
            f"Ray worker {index} died {ATTEMPTS} times at the same work",
            expected="workers that survive an episode",
            fix="see Ray's logs; less workers need less memory (--workers)",
        )

    def close(self) -> None:
        """Stop the actors, and Ray where it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._started_ray:
            ray.shutdown()


def _start_ray(workers: int) -> None:
    """Start a local Ray, which would take over SIGTERM: whoever handled it before goes on to."""
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    if threading.current_thread() is threading.main_thread():  # in other threads Ray leaves it alone
        signal.signal(signal.SIGTERM, handler)


class _Worker:
    """Runs in an actor's process: one thread for torch and physics alike."""

    def __init__(self, env: EnvConfig) -> None:
        torch.set_num_threads(1)
        self.collector = LocalCollector(env, num_threads=1)
        self.model: TaskInferenceModel | None = None

    def collect(
        self, sizes: tuple[ModelConfig, int, int], weights: dict[str, np.ndarray], request: Request
    ) -> Episodes:
        if self.model is None:
            self.model = TaskInferenceModel(*sizes)
        self.model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        return self.collector.collect(self.model, request)
