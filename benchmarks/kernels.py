# SPDX-License-Identifier: Apache-2.0
"""How fast the C++ of the fast mode is beside PyTorch, at the sizes of `half_cheetah_eight`. Run: see docs/speed.md.

    python benchmarks/kernels.py

All are timed in turns, so that a shared machine treats them alike. A row is what a kernel takes, what PyTorch takes for
the same, and the kernel's rate as a share of that of a matrix product (256 x 300 x 300, as in `throughput.py`).
Operations are counted as in `ceilings.py`, with gradients three times those forward: some per cent more than are done.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import envs
from tigr_core import kernels
from tigr_core.acting import Step, acting
from tigr_core.compiled_gru import compiled_hidden_sequence
from tigr_core.compiled_mixture import compiled_draw
from tigr_core.compiled_sac import CompiledSAC
from tigr_core.config import InferenceConfig, SACConfig, load_config
from tigr_core.errors import UserError
from tigr_core.mixture import Draw, MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.sac_learner import SACLearner, TransitionBatch

ROBOTS = 40  # that one thread collects with
Call = Callable[[], object]


@dataclass(frozen=True)
class Part:
    """Something that can be done in C++ and by PyTorch."""

    name: str
    in_kernels: Call
    by_pytorch: Call
    operations: float  # of the products, two for each multiplication and addition
    threads: int


def products_of(*modules: nn.Module) -> int:
    """Return the entries of weights: a row costs twice as many operations."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.dim() > 1 and p.shape[-2] > 1)


def sac_part(model: TaskInferenceModel, config: SACConfig) -> Part:
    """Return a step of SAC, whose learners share an actor."""
    size, source = config.batch_size, torch.Generator().manual_seed(0)
    compiled, plain = (SACLearner(model, config, generator=source) for _ in range(2))
    compiled.in_kernels = CompiledSAC(compiled)

    def drawn(width: int) -> Tensor:
        return torch.randn(size, width, generator=source)

    obs, latent, action = (drawn(n) for n in (model.policy_obs_dim, model.config.latent_dim, model.action_dim))
    batch = TransitionBatch(
        obs, latent, latent, action.tanh(), drawn(1)[:, 0], torch.zeros(size), obs.flip(0), latent, latent
    )
    operations = 2.0 * size * (4.0 * products_of(model.actor) + 6.0 * products_of(plain.critic))
    steps = (partial(learner.step, batch) for learner in (compiled, plain))
    return Part("SAC step", *steps, operations, torch.get_num_threads())


def gru_parts(model: TaskInferenceModel, config: InferenceConfig) -> list[Part]:
    """Return the GRU over the sequences of a step, forward and with gradients."""
    threads, sequences = torch.get_num_threads(), config.batch_size // config.targets_per_sequence
    steps = config.sequence_length
    x = torch.randn(sequences, steps, model.encoder.transition_dim)
    start = torch.zeros(sequences, model.encoder.hidden_dim)
    parameters = list(model.encoder.gru.parameters())
    runs = [compiled_hidden_sequence(model.encoder, torch.float32), model.encoder.hidden_sequence]

    def learn(run: Callable[[Tensor, Tensor], Tensor]) -> object:
        return torch.autograd.grad(run(x, start).sum(), parameters)

    forward = [torch.no_grad()(partial(run, x, start)) for run in runs]
    operations = 2.0 * sequences * steps * products_of(model.encoder.gru)
    return [
        Part("GRU", *forward, operations, threads),
        Part("GRU, gradients", *(partial(learn, run) for run in runs), 3.0 * operations, threads),
    ]


def mixture_part(model: TaskInferenceModel, config: InferenceConfig) -> Part:
    """Return a draw from the mixtures of a step, with the loss terms that depend on them alone, and gradients."""
    components, latent_dim = model.config.num_components, model.config.latent_dim
    output = torch.randn(config.batch_size, components * (2 * latent_dim + 1)).requires_grad_()
    noise = torch.randn(config.batch_size, components, latent_dim)

    def by_pytorch(output: Tensor, noise: Tensor) -> Draw:
        return Draw.of(MixturePosterior.from_head(output, components, latent_dim), noise)

    def learn(draw_of: Callable[[Tensor, Tensor], Draw]) -> object:
        return torch.autograd.grad(torch.cat([part.mean().view(1) for part in draw_of(output, noise)]).sum(), output)

    draws = (partial(learn, draw_of) for draw_of in (compiled_draw, by_pytorch))
    return Part("mixtures, gradients", *draws, 0.0, torch.get_num_threads())


def acting_part(model: TaskInferenceModel) -> Part:
    """Return what a thread that collects does in a step beside physics."""

    def run(fast: bool) -> Call:
        subject, generator = acting(model, fast=fast), torch.Generator()
        obs, action = np.zeros((ROBOTS, model.obs_dim), np.float32), np.zeros((ROBOTS, model.action_dim), np.float32)
        state, step = subject.initial_state(ROBOTS), Step(obs, action, np.zeros(ROBOTS, np.float32), obs, None)

        def once() -> None:
            nonlocal state
            state = subject.advance(state, step)
            subject.act(obs, subject.infer(state)[1], generator)

        return once

    rows = products_of(model.encoder.gru, model.encoder.head, model.actor)
    return Part(f"infer and act, {ROBOTS} robots", run(True), run(False), 2.0 * ROBOTS * rows, 1)


def seconds(calls: list[Call], budget_s: float) -> list[float]:
    """Return the median duration of each call, timed in turns."""
    durations: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(durations[0]) < 5:
        for call, found in zip(calls, durations, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [statistics.median(found[2:]) for found in durations]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run?")
    budget_s = 0.1 if parser.parse_args().quick else 6.0
    try:
        kernels.load()
    except UserError as error:
        sys.exit(str(error))
    config = load_config("half_cheetah_eight")
    robot = envs.make_vector(config.env.id).spec_robot
    model = TaskInferenceModel(config.model, robot.obs_dim, robot.action_dim)
    threads = torch.get_num_threads()
    parts = [sac_part(model, config.sac), *gru_parts(model, config.inference)]
    parts += [mixture_part(model, config.inference), acting_part(model)]
    a, b, out = torch.randn(256, 300), torch.randn(300, 300), torch.empty(256, 300)
    capability = torch.backends.cpu.get_cpu_capability()
    title = f"{capability}, {threads} threads, torch {torch.__version__}"
    table = Table("part", "threads", "C++, ms", "PyTorch, ms", "times quicker", "of a product's rate", title=title)
    for part in parts:
        torch.set_num_threads(part.threads)
        ours, theirs, product = seconds([part.in_kernels, part.by_pytorch, lambda: torch.mm(a, b, out=out)], budget_s)
        share = (part.operations / ours) / (2.0 * a.numel() * b.shape[1] / product)
        figures = (f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"{theirs / ours:.2f}", f"{share:.0%}" if share else "")
        table.add_row(part.name, str(part.threads), *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
