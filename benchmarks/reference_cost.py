# SPDX-License-Identifier: Apache-2.0
"""What an epoch costs when the method's arithmetic is done as its paper describes it: the baseline of `throughput.py`.

A plain re-statement with this project's networks, not the authors' program. Every estimate of z encodes the last 64
transitions anew, zero-padded: one environment at a time while acting, 4096 contexts a step while learning inference,
with all 64 transitions decoded from each z, and 256 contexts at every SAC step, whose next z is a copy of z. What is
the same in both, SAC's own arithmetic, is this project's exact mode. The authors' program has PyTorch use one thread,
whatever the machine has (`torch.set_num_threads(1)`); here the number is chosen. It can also collect in several
processes, or learn on a GPU: this is what it does on a CPU, with one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import numpy as np
import torch

import envs
from tigr_core import evaluation
from tigr_core.collector import LocalCollector, Request
from tigr_core.config import Config, override_config
from tigr_core.controller import Controller
from tigr_core.inference_learner import InferenceLearner
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import SACLearner, TransitionBatch


class ReferenceCost:
    """Times the three parts of an epoch, a few repetitions each."""

    def __init__(self, config: Config, replay: ReplayBuffer, obs_dim: int, action_dim: int) -> None:
        self.config = override_config(config, ["model.context=window"])
        self.replay = replay
        self.rng, self.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.model = TaskInferenceModel(self.config.model, obs_dim, action_dim)
        tasks = envs.task_set(config.env.id, config.env.base_tasks)
        self.learner = InferenceLearner(
            self.model, self.config.inference, tasks, rng=self.rng, generator=self.generator
        )
        self.sac = SACLearner(self.model, self.config.sac, generator=self.generator)

    def env_step_s(self, steps: int) -> float:
        """Return seconds a step of one environment with one controller."""
        env = envs.make_vector(self.config.env.id, 1, base_tasks=self.config.env.base_tasks)
        controller = Controller(self.model, 1)
        obs, _ = env.reset(seed=0)
        start = time.perf_counter()
        for _ in range(steps):
            action = controller.act(obs, self.generator)
            obs, reward, *_ = env.step(action)
            controller.observe(action, reward, obs)
        return (time.perf_counter() - start) / steps

    def inference_step_s(self, repeats: int) -> float:
        """Return seconds of one inference step."""
        return _mean_seconds(self._inference_step, repeats)

    def _inference_step(self) -> None:
        numbers = self.learner._draw_numbers(self.replay, validation=False)
        targets = self.learner._read_windows(self.replay, numbers, validation=False)  # encodes every window
        posterior = self.model.encoder.posterior(targets.hidden)
        noise = torch.randn(posterior.mean.shape, generator=self.generator)
        latent = posterior.sample(noise)
        state, reward = self.learner._errors(latent, targets.decoded, targets.weight / len(latent))  # all 64 at once
        further = posterior.kl_to_prior().mean() + posterior.separation().mean() + latent.abs().sum(dim=-1).mean()
        self.learner.optimiser.zero_grad(set_to_none=True)
        (state + reward + 1e-3 * further).backward()
        self.learner.optimiser.step()

    def sac_step_s(self, repeats: int) -> float:
        """Return seconds of one SAC step."""
        return _mean_seconds(self._sac_step, repeats)

    def _sac_step(self) -> None:
        config, model = self.config, self.model
        *places, mask = self.replay.draw_windows(config.sac.batch_size, config.model.context_length, self.rng)
        context = self.replay.context(*places)
        with torch.no_grad():
            x = model.normaliser.transition(context.obs, context.action, context.reward, context.next_obs)
            latent = model.encoder.posterior(model.encoder.hidden_windows(x * mask.unsqueeze(-1))).latent
        zeros = torch.zeros(config.sac.batch_size)
        self.sac.step(
            TransitionBatch(
                obs=model.policy_obs(context.obs[:, -1]),
                latent=latent,
                critic_latent=latent,
                action=context.action[:, -1],
                reward=context.reward[:, -1],
                terminated=zeros,
                next_obs=model.policy_obs(context.next_obs[:, -1]),
                next_latent=latent,
                next_critic_latent=latent,
            )
        )


def _mean_seconds(call: Callable[[], None], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


class Baseline:
    """Times the parts on few repetitions in a process of its own.

    There, memory is treated as a program without our care for it would treat it (`tigr_core/memory.py`). Use as a
    context manager, which ends the process.
    """

    def __init__(self, config: Config, repeats: int) -> None:
        self.config = config
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare, initargs=(config, repeats))

    def __enter__(self) -> Baseline:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def rates(self, threads: int) -> dict[str, float]:
        """Return steps a second of each part, with so many threads of PyTorch's."""
        return self._pool.submit(_rates, threads).result()


_prepared: tuple[ReferenceCost, int] | None = None  # in that process


def _prepare(config: Config, repeats: int) -> None:
    global _prepared
    robot = envs.make_vector(config.env.id).spec_robot
    replay = ReplayBuffer(config.training.replay_capacity, config.env.episode_steps)
    rng, (train_tasks, _) = np.random.default_rng(0), evaluation.split_tasks(config)
    model = TaskInferenceModel(config.model, robot.obs_dim, robot.action_dim)
    with closing(LocalCollector(config.env, num_threads=torch.get_num_threads())) as collector:
        replay.add(collector.collect(model, Request(train_tasks, list(range(len(train_tasks))), noise_seed=0)), rng)
    cost = ReferenceCost(config, replay, robot.obs_dim, robot.action_dim)
    cost.inference_step_s(1), cost.sac_step_s(1)  # what is first takes longer
    _prepared = cost, repeats


def _rates(threads: int) -> dict[str, float]:
    assert _prepared is not None
    cost, repeats = _prepared
    torch.set_num_threads(threads)
    return {
        "collection": 1.0 / cost.env_step_s(100 * repeats),
        "inference": 1.0 / cost.inference_step_s(1),
        "SAC": 1.0 / cost.sac_step_s(2 * repeats),
    }
