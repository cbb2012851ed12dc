# SPDX-License-Identifier: Apache-2.0
"""Collecting in Ray actors: many environments an actor, one thread an actor, lost actors replaced.

Every request is cut into as many shares as workers are wanted, and every share is collected by a `LocalCollector` in an
actor. Which actor that is makes no difference to the numbers, so a lost one leaves no trace in them. The number of
workers does, through the exploration noise, whose seed is that of the request plus the number of the share.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tigr_core.collector import LocalCollector, Request, split_request
from tigr_core.config import EnvConfig
from tigr_core.errors import UserError
from tigr_core.model import TaskInferenceModel
from tigr_core.rollout import Episodes
from tigr_core.stop import AskStop, Stop, give_way, never
from tigr_core.version import __version__

# Else SIGTERM, with which a training is told to stop, makes Ray print a crash report. Read when Ray is imported.
os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
try:
    import ray
except ImportError:
    ray = None  # type: ignore[assignment]

ATTEMPTS = 3  # at the same share, each by another actor; and at starting actors
POLL_S = 0.2  # how often to ask whether to stop
START_S = 300.0  # for the first worker to start in; on a busy machine that takes a minute
NEXT_S = 60.0  # for one more, before going on without
NOTE_S = 10.0  # of waiting for them, after which to say so
REACH_S = 5.0  # for the cluster's address to answer in


@dataclass(frozen=True)
class _Weights:
    """One version of a model in Ray's object store."""

    version: int
    reference: list[Any]  # in a list, Ray hands it over as it is: who has that version does not fetch it


@dataclass
class _Share:
    """A part of a request, and the actor that collects it."""

    number: int
    request: Request
    weights: _Weights
    actor: Any = None
    result: Any = None  # None: nobody collects it yet


class RayCollector:
    """Collects with `workers` actors: on a Ray instance of its own, or on the cluster at `address`.

    Work goes to the actors that have started; those that Ray has no room for join when it has. So the run goes on with
    fewer of them when a node is lost, and with more when one comes.
    """

    def __init__(
        self,
        env: EnvConfig,
        workers: int,
        *,
        address: str | None = None,
        fast: bool = False,
        stop: AskStop = never,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        if ray is None:
            raise UserError(
                "--workers needs Ray, which is not installed",
                expected="the ray package",
                fix="pip install 'tigr_ros[ray]'",
            )
        self.env, self.workers, self.fast, self.stop, self._tell = env, workers, fast, stop, tell
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(workers, address)
        self._actors: list[Any] = []  # those that have started
        self._starting: dict[Any, Any] = {}  # first answer, still to come -> actor
        self._failed_starts: list[str] = []  # why, one after another
        self._state: tuple[Any, dict[str, np.ndarray]] | None = None
        self._weights = _Weights(0, [])
        try:
            self._wait_for_actors(workers)
        except BaseException:
            self.close()
            raise

    def collect(self, model: TaskInferenceModel, request: Request) -> Episodes:
        """Run one episode of every task."""
        return self.begin(model, request)()

    def begin(self, model: TaskInferenceModel, request: Request) -> Callable[[], Episodes]:
        """Hand out one episode of every task, in shares; the share of a lost actor is handed out again."""
        weights = self._published(model)
        self._fill_up()
        parts = split_request(request, self.workers)
        shares = [_Share(number, part, weights) for number, part in enumerate(parts)]
        if self._actors:  # else when they are waited for
            for share in shares:
                self._hand_out(share)
        return lambda: Episodes.concatenate([self._episodes(share) for share in shares])

    def _published(self, model: TaskInferenceModel) -> _Weights:
        """Put the model into the object store, unless it is there already: a version is put once."""
        sizes = (model.config, model.obs_dim, model.action_dim)
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        if self._state is None or self._state[0] != sizes or not _equal(self._state[1], arrays):
            self._state = (sizes, {name: array.copy() for name, array in arrays.items()})
            self._weights = _Weights(self._weights.version + 1, [ray.put(self._state)])
        return self._weights

    def _hand_out(self, share: _Share) -> None:
        if not self._actors:
            self._wait_for_actors(1)
            give_way(self.stop)
        share.actor = self._actors[share.number % len(self._actors)]
        share.result = share.actor.collect.remote(share.weights.version, share.weights.reference, share.request)

    def _episodes(self, share: _Share) -> Episodes:
        for _ in range(ATTEMPTS):
            try:
                if share.result is None:
                    self._hand_out(share)
                while not ray.wait([share.result], timeout=POLL_S)[0]:
                    give_way(self.stop)
                episodes: Episodes = ray.get(share.result)
                return episodes
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)  # what was raised in the worker
                if isinstance(error, ray.exceptions.RayTaskError) and not isinstance(cause, ray.exceptions.RayError):
                    raise cause if isinstance(cause, UserError) else error from None
                self._give_up(share.actor)
                share.result = None
        raise UserError(
            f"{ATTEMPTS} Ray workers were lost at the same work",
            expected="workers that survive an episode",
            fix="see Ray's logs; fewer workers need less memory (--workers)",
        )

    # ---- actors ----

    def _give_up(self, actor: Any) -> None:
        if actor in self._actors:  # shares that it had beside this one come here, too
            self._actors.remove(actor)
            ray.kill(actor)
            self._tell("note: lost a Ray worker; others collect its share again")
            self._fill_up()

    def _fill_up(self, timeout_s: float = 0.0) -> None:
        """Start actors in the place of lost ones, and let those that have started take part."""
        while len(self._actors) + len(self._starting) < self.workers:
            actor: Any = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_Worker)
            actor = actor.remote(self.env, self.fast)
            self._starting[actor.started.remote()] = actor
        if not self._starting:
            return
        started, _ = ray.wait(list(self._starting), num_returns=len(self._starting), timeout=timeout_s)
        for answer in started:
            actor = self._starting.pop(answer)
            try:
                version = ray.get(answer)
            except ray.exceptions.RayError as error:
                self._failed_starts.append(_one_line(error))
                continue
            if version != __version__:
                self._failed_starts.append(f"version {version} there, {__version__} here")
                continue
            self._actors.append(actor)
            self._failed_starts.clear()

    def _wait_for_actors(self, wanted: int) -> None:
        """Wait until `wanted` actors have started, or as many as Ray has room for, or told to stop."""
        last, count, told = time.monotonic(), 0, False
        while len(self._actors) < wanted and self.stop() < Stop.AT_ONCE:
            if len(self._actors) > count:
                last, count = time.monotonic(), len(self._actors)
            waited_s = time.monotonic() - last
            if len(self._failed_starts) >= ATTEMPTS:
                raise UserError(
                    f"{ATTEMPTS} Ray workers did not start: {self._failed_starts[-1]}",
                    expected="this package, in this version, on every machine of the cluster",
                    fix="install it there, into the Python that `ray start` runs with",
                )
            if waited_s > NEXT_S and self._actors:
                self._tell(f"note: going on with {len(self._actors)} Ray workers; others join when they have started")
                return
            if waited_s > START_S:
                raise UserError(
                    f"no Ray worker started within {START_S:.0f} s",
                    expected="a free CPU for each worker",
                    fix="see `ray status` and Ray's logs; fewer workers need less (--workers)",
                )
            if waited_s > NOTE_S and not told:
                self._tell(f"note: {len(self._actors)} of {wanted} Ray workers have started; waiting for the others")
                told = True
            self._fill_up(POLL_S)

    def close(self) -> None:
        """Stop the actors, and leave Ray where it was connected to here."""
        for actor in [*self._actors, *self._starting.values()]:
            ray.kill(actor)
        self._actors, self._starting = [], {}
        if self._connected:
            ray.shutdown()


def _connect(workers: int, address: str | None) -> None:
    """Start a local Ray or connect to a cluster. Ray would take over SIGTERM: whoever handled it before goes on to."""
    handler = signal.getsignal(signal.SIGTERM)
    where: dict[str, Any] = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    if address is not None:
        where = {"address": address}
    try:
        if address not in (None, "auto"):
            host, _, port = str(address).rpartition(":")
            if not (host and port.isdecimal()):
                raise ValueError("no HOST:PORT")
            socket.create_connection((host, int(port)), REACH_S).close()  # Ray would try for minutes
        ray.init(**where, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        fix = "`ray start --head` on one machine, then `ray start --address=HOST:PORT` on each of the others"
        if "AuthToken" in str(error.__cause__):
            fix = "this cluster wants a token: say --ray-address auto, or set RAY_AUTH_MODE=token"
        raise UserError(
            f"no Ray at {address or 'this machine'}: {_one_line(error)}",
            expected="auto, or HOST:PORT of a running cluster that this machine is a node of",
            fix=fix,
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():  # in other threads Ray leaves it alone
            signal.signal(signal.SIGTERM, handler)


def _equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


class _Worker:
    """Runs in an actor's process: one thread for torch and physics alike."""

    def __init__(self, env: EnvConfig, fast: bool) -> None:
        torch.set_num_threads(1)
        self.collector = LocalCollector(env, num_threads=1, fast=fast)
        self.version = 0

    def started(self) -> str:
        """Answer, with the version of this package."""
        return __version__

    def collect(self, version: int, reference: list[Any], request: Request) -> Episodes:
        if version != self.version:
            sizes, arrays = ray.get(reference[0])
            self.model = TaskInferenceModel(*sizes)
            self.model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
            self.version = version
        return self.collector.collect(self.model, request)
