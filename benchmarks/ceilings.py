# SPDX-License-Identifier: Apache-2.0
"""What a machine can do at most: matrix products at the policy's size, and physics alone; and how much a step asks for.

Operations are counted from the network sizes, three times the forward ones where gradients are formed.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

import envs
from tigr_core.collector import MIN_SHARE
from tigr_core.config import Config
from tigr_core.model import TaskInferenceModel

CPU = torch.device("cpu")


def seconds_per_call(
    call: Callable[[], object], *, budget_s: float, warm_up: int = 2, device: torch.device = CPU
) -> float:
    """Return the median duration of a call over about `budget_s`, until the device is done with it."""
    for _ in range(warm_up):
        call()
    durations: list[float] = []
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(durations) < 3:
        wait_for(device)
        start = time.perf_counter()
        call()
        wait_for(device)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU is done with what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_flops(dtype: torch.dtype, device: torch.device = CPU, *, size: int = 300, batch: int = 256) -> float:
    """Return multiply-add operations a second (counted as two) of a product at the policy's size."""
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((batch, size), (size, size)))
    out = torch.empty(batch, size, dtype=dtype, device=device)

    def products() -> None:  # enough of them to keep a GPU from waiting for Python
        for _ in range(20):
            torch.mm(a, b, out=out)

    return 40.0 * batch * size * size / seconds_per_call(products, budget_s=0.5, device=device)


def raw_env_steps(config: Config, num_threads: int) -> float:
    """Return control steps a second of the physics alone: 80 robots along an episode of random actions.

    In as many threads as would collect with so many.
    """
    num_threads = min(num_threads, -(-80 // MIN_SHARE))
    steps, shares = config.env.episode_steps, np.array_split(np.arange(80), num_threads)
    episodes = [_physics_episode(config, len(share)) for share in shares]

    def all_shares() -> None:
        for running in [pool.submit(episode) for episode in episodes]:
            running.result()

    with ThreadPoolExecutor(num_threads) as pool:
        return 80.0 * steps / seconds_per_call(all_shares, budget_s=1.0, warm_up=1)


def _physics_episode(config: Config, num_robots: int) -> Callable[[], None]:
    robot, rng = envs.ENVIRONMENTS[config.env.id].make_robot(1), np.random.default_rng(0)
    start = np.stack([robot.initial_state(rng) for _ in range(num_robots)])
    ctrl = rng.uniform(-1.0, 1.0, (config.env.episode_steps, num_robots, robot.spec.action_dim))

    def episode() -> None:
        state = start
        for controls in ctrl:
            state = robot.step(state, controls)

    return episode


def sac_flops(config: Config, obs_dim: int, action_dim: int) -> float:
    """Return the operations of one SAC step: target, critic step, actor step every `actor_every`."""

    def forward(inputs: int, outputs: int) -> float:
        sizes = (inputs, *config.model.policy_hidden, outputs)
        return 2.0 * config.sac.batch_size * sum(i * o for i, o in itertools.pairwise(sizes))

    state = obs_dim + config.model.latent_dim
    actor, critics = forward(state, 2 * action_dim), 2.0 * forward(state + action_dim, 1)
    return (actor + critics) + 3.0 * critics + (3.0 * actor + 2.0 * critics) / config.sac.actor_every


def inference_flops(config: Config, model: TaskInferenceModel) -> float:
    """Return the operations of one inference step on streams: GRU, head and decoder, forward and backward."""
    inference = config.inference
    sequences = max(1, inference.batch_size // inference.targets_per_sequence)

    def products(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.dim() == 2)

    forward = sequences * inference.sequence_length * products(model.encoder.gru)
    forward += inference.batch_size * products(model.encoder.head)
    forward += inference.batch_size * inference.decoded_per_target * products(model.decoder)
    return 3.0 * 2.0 * forward
