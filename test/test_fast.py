# SPDX-License-Identifier: Apache-2.0
"""The fast mode's GRU: nearly the states and gradients of the exact one, and small changes are not rounded away."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model
from torch import Tensor

import envs
from tigr_core import kernels
from tigr_core.collector import LocalCollector
from tigr_core.compiled_gru import compiled_hidden_sequence
from tigr_core.config import InferenceConfig, load_config
from tigr_core.encoder import Encoder
from tigr_core.errors import UserError
from tigr_core.fast import fast_hidden_sequence, product_dtype
from tigr_core.inference_learner import InferenceLearner, Targets
from tigr_core.model import TaskInferenceModel
from tigr_core.progress import make_progress
from tigr_core.trainer import Trainer


def results(run: Callable[..., Tensor], encoder: Encoder) -> list[Tensor]:
    """Return the states of a GRU, and gradients of its start and its parameters."""
    torch.manual_seed(1)
    x, start, weight = 3.0 * torch.randn(20, 9, 7), torch.randn(20, 7), torch.randn(20, 10, 7)
    start.requires_grad_()
    states = run(x, start)
    assert states.dtype == torch.float32
    return [states, *torch.autograd.grad((states * weight).sum(), (start, *encoder.gru.parameters()))]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_states_and_gradients_are_nearly_the_exact_ones(dtype: torch.dtype, tolerance: float) -> None:
    encoder = tiny_model().encoder
    assert encoder.hidden_dim == 7
    exact, fast = (results(run, encoder) for run in (encoder.hidden_sequence, compiled_hidden_sequence(encoder, dtype)))
    for a, b in zip(exact, fast, strict=True):
        assert a.shape == b.shape and (a - b).norm() < tolerance * a.norm()


def test_rows_do_not_depend_on_the_thread_that_runs_them() -> None:
    encoder = tiny_model().encoder
    run = compiled_hidden_sequence(encoder, torch.float32)
    alone = results(run, encoder)
    torch.set_num_threads(2)
    try:
        shared = results(run, encoder)
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone, shared, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_gates_saturate_and_what_is_no_number_stays_none() -> None:
    encoder = tiny_model().encoder
    run = compiled_hidden_sequence(encoder, torch.float32)
    x, start = torch.tensor([1e4, -1e4, torch.nan]).reshape(3, 1, 1).expand(3, 4, 7), torch.zeros(3, 7)
    with torch.no_grad():
        exact, fast = encoder.hidden_sequence(x, start), run(x, start)
    torch.testing.assert_close(fast, exact, equal_nan=True)
    assert fast[:2].isfinite().all() and fast[2, 1:].isnan().all()


def test_a_compiler_that_fails_is_named_once_and_training_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "old-compiler"
    compiler.write_text("#!/bin/sh\necho >> \"$0-asked\"\necho 'unknown option -std=gnu++20' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    kernels.load.cache_clear()
    message = r"old-compiler could not compile kernels.cpp:\nunknown option.*\n.*C\+\+20"
    with pytest.raises(UserError, match=message):
        kernels.load()
    fast, said = trainer_of_fast_mode(tmp_path)
    assert not fast and re.search(f"compiling networks.*once(.*\n)+.*exact mode: .*{message}", said)
    assert Path(f"{compiler}-asked").read_text() == "\n"  # once, not by each who may be fast


def learner_of(model: TaskInferenceModel, *, fast: bool) -> InferenceLearner:
    tasks = envs.task_set("tigr/PointRobot-v0", None)
    return InferenceLearner(
        model, InferenceConfig(), tasks, rng=np.random.default_rng(0), generator=generator(), fast=fast
    )


def test_the_estimates_along_episodes_are_nearly_the_exact_ones() -> None:
    model = tiny_model()
    learner = learner_of(model, fast=True)
    x = torch.randn(4, 9, 7)
    with torch.no_grad():
        exact, fast = model.encoder.encode_episodes(x), learner.encode_episodes(x)
    assert not torch.equal(fast.latent, exact.latent)
    assert (fast.latent - exact.latent).norm() < 0.02 * exact.latent.norm()
    assert (fast.weights - exact.weights).abs().max() < 0.01


def test_the_terms_of_the_loss_and_their_gradients_are_nearly_the_exact_ones() -> None:
    model, source = tiny_model(), generator(1)
    hidden, x = torch.randn(30, 7, generator=source), torch.randn(30, 2, 7, generator=source)
    targets = Targets(hidden, x, torch.full((30, 2), 0.5), torch.zeros(30, dtype=torch.int64), torch.zeros(30, 2))
    noise = torch.randn(30, model.config.num_components, model.config.latent_dim, generator=source)
    found = []
    for fast in (False, True):
        learner = learner_of(copy.deepcopy(model), fast=fast)
        loss, terms = learner._loss_of(targets, noise)
        loss.backward()
        parameters = [*learner.model.encoder.head.parameters(), *learner.model.decoder.parameters()]
        found.append(([value.item() for value in terms.values()], [parameter.grad for parameter in parameters]))
    (exact_terms, exact_gradients), (fast_terms, fast_gradients) = found
    np.testing.assert_allclose(fast_terms, exact_terms, rtol=0.02)
    for a, b in zip(fast_gradients, exact_gradients, strict=True):
        assert not torch.equal(a, b) and (a - b).norm() < 0.02 * b.norm()


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


def trainer_of_fast_mode(folder: Path) -> tuple[bool, str]:
    """Return whether a trainer that is to be fast is, and what it said."""
    said = io.StringIO()
    config = load_config("point_robot", ["training.fast=true"])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        trainer = Trainer(config, folder, collector=collector, progress=make_progress(said))
    return trainer.fast, said.getvalue()


def test_without_a_compiler_training_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    fast, said = trainer_of_fast_mode(tmp_path)
    assert not fast and "exact mode: found no C++ compiler" in said


def test_a_damaged_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "kernels.so"
    library.touch()
    monkeypatch.setattr(kernels, "_library", lambda: library)
    kernels.load.cache_clear()
    with pytest.raises(UserError, match=r"cannot load .*kernels.so(.*\n)+.*delete the file"):
        kernels.load()


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
