# SPDX-License-Identifier: Apache-2.0
"""The fast mode's GRU: nearly the states and gradients of the exact one, and small changes are not rounded away."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model

import envs
from tigr_core.collector import LocalCollector
from tigr_core.config import InferenceConfig, load_config
from tigr_core.fast import fast_hidden_sequence, product_dtype
from tigr_core.inference_learner import InferenceLearner
from tigr_core.progress import make_progress
from tigr_core.trainer import Trainer


def test_states_and_gradients_are_nearly_the_exact_ones() -> None:
    encoder = tiny_model().encoder
    x, start, weight = torch.randn(3, 9, 7), torch.randn(3, 7), torch.randn(3, 10, 7)
    assert encoder.hidden_dim == 7
    start.requires_grad_()
    results = []
    for run in (encoder.hidden_sequence, fast_hidden_sequence(encoder, torch.device("cpu"))):
        states = run(x, start)
        results.append((states, *torch.autograd.grad((states * weight).sum(), (start, *encoder.gru.parameters()))))
    for exact, fast in zip(*results, strict=True):
        assert fast.shape == exact.shape and fast.dtype == torch.float32
        assert (fast - exact).norm() < 0.01 * exact.norm()


def test_the_estimates_along_episodes_are_nearly_the_exact_ones() -> None:
    model, tasks = tiny_model(), envs.task_set("tigr/PointRobot-v0", None)
    learner = InferenceLearner(
        model, InferenceConfig(), tasks, rng=np.random.default_rng(0), generator=generator(), fast=True
    )
    x = torch.randn(4, 9, 7)
    with torch.no_grad():
        exact, fast = model.encoder.encode_episodes(x), learner.encode_episodes(x)
    assert not torch.equal(fast.latent, exact.latent)
    assert (fast.latent - exact.latent).norm() < 0.02 * exact.latent.norm()
    assert (fast.weights - exact.weights).abs().max() < 0.01


def test_a_state_that_changes_slowly_is_not_lost_in_rounding() -> None:
    encoder = tiny_model().encoder
    with torch.no_grad():
        for parameter in encoder.gru.parameters():
            parameter.zero_()
        dict(encoder.gru.named_parameters())["bias_ih_l0"][7:14] = (
            6.0  # of the update gate: it keeps all but a 404th of the state
        )
        states = fast_hidden_sequence(encoder, torch.device("cpu"))(torch.zeros(1, 100, 7), torch.ones(1, 7))
    torch.testing.assert_close(states[0, -1], torch.full((7,), torch.tensor(6.0).sigmoid().item() ** 100))


def test_without_a_compiler_training_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    said = io.StringIO()
    config = load_config("point_robot", ["training.fast=true"])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        trainer = Trainer(config, tmp_path, collector=collector, progress=make_progress(said))
    assert not trainer.fast and "no C++ compiler" in said.getvalue()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx2": True, "avx512_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_products_are_in_bfloat16_only_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert product_dtype(torch.device("cpu")) == expected
