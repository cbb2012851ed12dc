# SPDX-License-Identifier: Apache-2.0
"""Steps as a GPU takes them, shown without one: kernels that are recorded and run again, and tensors without data.

A `Recording` is to a CPU what a CUDA graph is to a GPU: the same kernels on the same memory, with whatever numbers
Python gave them. Tensors on the device `meta` have no data: they cannot be read by the processor or mixed with its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model, two_task_episodes
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from envs.tasks import BaseTask, TaskSet
from tigr_core.config import InferenceConfig, SACConfig
from tigr_core.inference_learner import InferenceLearner
from tigr_core.launches import STEPS_BEFORE_CAPTURE, Launched, Metrics, SACLaunches
from tigr_core.model import TaskInferenceModel
from tigr_core.random_shift import RandomShift
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import SACLearner, TransitionBatch, TransitionView
from tigr_core.task_code import TaskCode

TASKS = TaskSet(tuple(BaseTask(name, "x", "m", 0, 10, "absolute") for name in ("first", "second")))
WAITS = ("_local_scalar_dense", "nonzero", "unique", "equal", "masked_select")  # kernels whose numbers Python waits for


class Recording(TorchDispatchMode):
    """Records kernels, which run meanwhile, to run them again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}))  # of sizes as they are now
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, *given, tree_map_only(Tensor, Tensor.detach, result)))
        return result

    @property
    def waits(self) -> set[str]:
        return {name for func, *_ in self.calls for name in WAITS if f".{name}" in str(func)}

    @torch.no_grad()
    def run(self) -> None:
        for func, args, kwargs, result in self.calls:
            taken = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
            for old, new in zip(tensors(result), tensors(func(*args, **kwargs)), strict=True):
                if new.untyped_storage().data_ptr() not in taken:  # else it was written in place, or is a view
                    old.copy_(new)


def tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


def recorded(function: Callable[[], Metrics]) -> tuple[Metrics, Callable[[], None]]:
    """Capture on a CPU. What is recorded has run by then, so the first launch has nothing left to do."""
    recording = Recording()
    with recording:
        metrics = function()
    assert not recording.waits
    again = iter([lambda: None])
    return metrics, lambda: next(again, recording.run)()


def filled(device: str = "cpu") -> ReplayBuffer:
    replay = ReplayBuffer(1000, 8, device=device)
    replay.add(two_task_episodes(6, steps=8), np.random.default_rng(0))
    return replay


def learner_and_view(**settings: Any) -> tuple[SACLearner, TransitionView]:
    """A learner with everything that changes with the number of steps, and all that a view can hold."""
    model = tiny_model()
    config = SACConfig(shifted=(0,), shift=1.0, critic_sees_task=True, told_share=0.5, **settings)
    code = TaskCode(TASKS, model.config.latent_dim)
    view = TransitionView(
        model,
        filled(),
        torch.arange(6),
        task_code=code,
        critic_sees_task=True,
        told_share=0.5,
        shift=RandomShift(model, config, TASKS),
    )
    view.taught = torch.zeros(len(view.rows), 2)
    return SACLearner(model, config, generator=generator(1)), view


def inference_learner(model: TaskInferenceModel, **settings: Any) -> InferenceLearner:
    sizes: dict[str, Any] = {"batch_size": 8, "targets_per_sequence": 4, "sequence_length": 10, "segment_length": 5}
    config = InferenceConfig(**sizes, anchor_weight=1.0, **settings)
    return InferenceLearner(model, config, TASKS, rng=np.random.default_rng(0), generator=generator())


def taken(launches: SACLaunches, steps: int) -> list[int]:
    counts: list[int] = []
    while sum(counts) < steps:
        count, metrics = launches.take(steps - sum(counts))
        assert all(math.isfinite(value) for value in metrics.values())
        counts.append(count)
    return counts


@pytest.mark.parametrize("actor_every", [1, 3])
def test_launches_learn_what_single_steps_learn(actor_every: int) -> None:
    settings = {"actor_every": actor_every, "learn_temperature": True, "min_temperature": 0.1}
    results = []
    for capture in (None, recorded):
        (learner, view), draws = learner_and_view(**settings), generator(2)
        launches = SACLaunches(learner, lambda view=view, draws=draws: view.sample(16, draws), capture)  # type: ignore[misc]
        counts = taken(launches, 60)
        assert learner.steps == 60
        networks = (learner.actor, learner.critic, learner.target_critic)
        results.append([learner.log_temperature.detach(), *(p.detach() for n in networks for p in n.parameters())])
    each = launches.steps_per_launch
    assert each % actor_every == 0 and counts.count(each) == 3 and set(counts) == {1, each}
    assert counts.index(each) >= STEPS_BEFORE_CAPTURE and counts.index(each) % actor_every == 0
    for single, launched in zip(*results, strict=True):
        assert torch.equal(single, launched)


@pytest.mark.parametrize("context", ["stream", "window"])
def test_launches_of_inference_learn_what_its_steps_learn(context: str) -> None:
    results = []
    for launched in (False, True):
        learner, replay = inference_learner(tiny_model(context=context), rebalance_every=3), filled()
        learn = Launched(partial(learner.learn, replay), recorded) if launched else None
        metrics = [{name: float(value) for name, value in learner.step(replay, learn).items()} for _ in range(12)]
        parameters = [*learner.model.encoder.parameters(), *learner.model.decoder.parameters()]
        results.append((metrics, [parameter.detach() for parameter in parameters]))
    assert results[0][0] == results[1][0] and len({step["loss"] for step in results[0][0]}) == 12
    assert all(map(torch.equal, results[0][1], results[1][1]))


def test_the_schedule_is_set_before_each_launch() -> None:
    learner, view = learner_and_view(teacher_weight=8.0, teacher_half_life=20, actor_every=1)
    launches = SACLaunches(learner, lambda: view.sample(16, learner.generator), recorded)
    weights = []
    while learner.steps < 40:
        launches.take(40 - learner.steps)
        weights.append(learner.teacher_weight.item())
    begun = [0, 1, 2, 3, 4, 20, 36, 37, 38, 39]
    assert weights == pytest.approx([8.0 * 0.5 ** (steps / 20) for steps in begun])


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out autocast, which refuses tensors without data."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def moved(view: TransitionView) -> TransitionView:
    for name, value in vars(view).items():
        if isinstance(value, Tensor):
            setattr(view, name, value.to("meta"))
    assert view.shift is not None
    for name, value in vars(view.shift).items():
        setattr(view.shift, name, value.to("meta"))
    return view


@pytest.mark.usefixtures("on_meta")
def test_a_step_of_control_neither_reads_from_the_device_nor_mixes_devices() -> None:
    _, view = learner_and_view()
    learner = SACLearner(tiny_model().to("meta"), SACConfig(learn_temperature=True), generator=generator())
    batch: TransitionBatch = moved(view).sample(16, generator())
    assert batch.obs.device.type == "meta"
    metrics = learner.step(batch)
    assert {torch.as_tensor(value).device.type for value in metrics.values()} == {"meta"}


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("context", ["stream", "window"])
def test_a_step_of_inference_neither_reads_from_the_device_nor_mixes_devices(context: str) -> None:
    learner, replay = inference_learner(tiny_model(context=context).to("meta")), filled("meta")
    for _ in range(2):  # the second goes on where the first one's streams ended
        assert {value.device.type for value in learner.step(replay).values()} == {"meta"}


def test_a_processor_waits_for_no_number_of_an_inference_step() -> None:
    learner, replay = inference_learner(tiny_model()), filled()
    with Recording() as recording:
        learner.step(replay)
    assert not recording.waits and len(recording.calls) > 100
