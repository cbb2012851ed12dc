# SPDX-License-Identifier: Apache-2.0
"""PEARL and the policy that is told its task: posteriors by hand, who learns from what, and a training of each."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import generator, tiny_model, two_task_episodes
from torch import Tensor

from tigr_core import evaluation
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector
from tigr_core.config import SACConfig, load_config
from tigr_core.controller import Controller
from tigr_core.errors import UserError
from tigr_core.pearl import PearlLearner, PearlView
from tigr_core.pearl_encoder import PearlEncoder
from tigr_core.progress import make_progress
from tigr_core.replay import ReplayBuffer
from tigr_core.task_code import TaskCode
from tigr_core.trainer import BEST, Trainer

NO_INFERENCE = ["inference.steps_per_epoch=0", "inference.first_epoch_steps=0", "inference.supervision_weight=0.0"]
PEARL = [*NO_INFERENCE, "model.method=pearl", "model.num_components=1"]
TOLD = [*NO_INFERENCE, "training.told_share=1.0", "sac.told_share=1.0", "sac.critic_sees_task=true"]
TINY = [
    "model.policy_hidden=[16]",
    "model.encoder_width=1.0",
    "sac.steps_per_epoch=7",
    "training.epochs=2",
    "training.tasks_per_epoch=8",
    "training.evaluate_every=1",
    "env.num_train_tasks=8",
    "env.num_test_tasks=4",
]


def pearl(latent_dim: int = 2) -> PearlEncoder:
    torch.manual_seed(0)
    return PearlEncoder(5, latent_dim)


def test_the_posterior_is_a_product_of_gaussians() -> None:
    # N(1, 1) N(3, 1 / 3): precision 1 + 3, mean (1 + 9) / 4
    state = torch.tensor([[1.0, 1.0]]) + torch.tensor([[3.0, 9.0]])
    posterior = pearl(1).posterior(state)
    assert (posterior.mean.item(), posterior.std.item()) == (2.5, 0.5)
    empty = pearl(1).infer(pearl(1).initial_state(1))
    assert (empty.mean.item(), empty.std.item()) == (0.0, 1.0), "the prior"


def test_episodes_sets_and_single_steps_agree_in_any_order() -> None:
    encoder, x = pearl(), torch.randn((3, 6, 5), generator=generator())
    along = encoder.encode_episodes(x)
    state = encoder.initial_state(3)
    for step in range(6):
        torch.testing.assert_close(along.mean[:, step], encoder.infer(state).mean)
        state = encoder.advance(state, x[:, step])
    for order in (torch.arange(6), torch.tensor([3, 1, 5, 0, 2, 4])):
        torch.testing.assert_close(along.mean[:, -1], encoder.encode_sets(x[:, order]).mean)
        torch.testing.assert_close(along.std[:, -1], encoder.encode_sets(x[:, order]).std)


def test_a_batch_goes_task_by_task_with_a_context_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, replay = tiny_model(method="pearl", num_components=1), ReplayBuffer(1000, 9)
    replay.add(two_task_episodes(10, steps=9), np.random.default_rng(0))
    batch = PearlView(model, replay, np.random.default_rng(0)).sample(128, generator())
    assert batch.context.shape == (4, PearlView.CONTEXT, 7)
    sign = torch.sign(batch.context[..., 4] * batch.context[..., 5])  # reward = +-(first coordinate of next_obs)
    assert (sign == sign[:, :1]).all() and len(sign.unique()) == 2
    first = torch.sign(batch.transitions.reward * batch.transitions.next_obs[:, 0]).unflatten(0, (4, 32))
    assert torch.equal(first, sign[:, :1].expand(4, 32))


def test_the_critics_teach_the_encoder_and_the_actor_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model, replay = tiny_model(method="pearl", num_components=1), ReplayBuffer(1000, 9)
    replay.add(two_task_episodes(10, steps=9), np.random.default_rng(0))
    learner = PearlLearner(model, SACConfig(actor_every=2), generator=generator())
    view = PearlView(model, replay, np.random.default_rng(0))

    def encoder() -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.encoder.parameters()])

    start = encoder()
    learner.step(view.sample(64, generator()))
    before = encoder()
    assert not torch.equal(start, before)
    monkeypatch.setattr(learner, "KL_WEIGHT", 0.0)
    learner.step(view.sample(64, generator()))  # critics alone
    after = encoder()
    assert not torch.equal(before, after)
    monkeypatch.setattr(learner, "_critic_step", lambda batch: {})
    learner.steps = 2
    learner.step(view.sample(64, generator()))  # the actor alone
    assert torch.equal(after, encoder())


def test_pearl_explores_with_one_draw_an_episode() -> None:
    controller = Controller(tiny_model(method="pearl", num_components=1), 3)
    noise = generator(4)
    first, second = (controller._explored(noise) for _ in range(2))
    assert np.array_equal(first, second) and first.std() > 0.1, "drawn from the prior, then held"
    controller.reset()
    assert not np.array_equal(controller._explored(noise), first)


def test_whoever_is_told_acts_on_the_code() -> None:
    controller, other = (Controller(tiny_model(), 2) for _ in range(2))
    code = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    controller.tell(code, torch.tensor([False, True]))
    for subject in (controller, other):
        subject.observe(subject.act(np.zeros((2, 2))), np.ones(2), np.ones((2, 2)))
    told, inferred = controller.estimate.latent, other.estimate.latent
    assert np.array_equal(told[1], code[1].numpy()) and np.array_equal(told[0], inferred[0])
    controller.reset()
    assert not np.array_equal(controller.estimate.latent[1], code[1].numpy())


@pytest.mark.parametrize("settings", [PEARL, TOLD], ids=["pearl", "told"])
def test_a_baseline_trains_and_its_bundle_loads(tmp_path: Path, settings: list[str]) -> None:
    config = load_config("point_robot", [*TINY, *settings])
    collector = LocalCollector(config.env, num_threads=1)
    trainer = Trainer(config, tmp_path, collector=collector, progress=make_progress(io.StringIO()))
    assert trainer.run()
    bundle = load_bundle(tmp_path / BEST)
    assert bundle.info.model == config.model


def test_a_told_policy_is_evaluated_with_the_codes_of_its_tasks() -> None:
    config = load_config("point_robot", TOLD)
    tasks = [evaluation.tasks_of(config.env).task(name, 0.5) for name in ("goal_left", "goal_up")]
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        model = tiny_model(num_components=4, latent_dim=6)
        episodes = evaluation.evaluate(collector, model, tasks, seed=0, told=True)
    code = TaskCode(evaluation.tasks_of(config.env), 6)
    expected = code(torch.from_numpy(episodes.base_task), torch.from_numpy(episodes.parameter))
    assert np.array_equal(episodes.latent[:, 1:], expected.numpy())


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match=r"(?s)num_components is 4.*steps_per_epoch.*told_share is 0\.5"):
        load_config("point_robot", ["model.method=pearl", "sac.told_share=0.5"])
