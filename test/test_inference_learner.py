# SPDX-License-Identifier: Apache-2.0
"""Training of task inference: the loss with known numbers, who gets gradients, what is decoded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import episodes_of, generator, numbered_episodes, tiny_model, two_task_episodes
from torch import Tensor, nn

from envs.tasks import BaseTask, TaskSet
from tigr_core.config import InferenceConfig
from tigr_core.early_stopping import EarlyStopping
from tigr_core.errors import UserError
from tigr_core.inference_learner import InferenceLearner
from tigr_core.mixture import MixturePosterior
from tigr_core.model import TaskInferenceModel
from tigr_core.replay import ReplayBuffer
from tigr_core.rollout import Episodes
from tigr_core.task_code import TaskCode

RANGES = {"slow": (0.0, 2.0), "fast": (2.0, 6.0)}
TASKS = TaskSet(tuple(BaseTask(name, "speed", "m/s", *ends, "absolute") for name, ends in RANGES.items()))
BOTH_CONTEXTS = pytest.mark.parametrize("context", ["stream", "window"])


def learner(model: TaskInferenceModel, **settings: Any) -> InferenceLearner:
    sizes = {"batch_size": 64, "sequence_length": 12, "targets_per_sequence": 8, "segment_length": 4}
    config = InferenceConfig(**{**sizes, "decoded_per_target": 4, **settings})
    return InferenceLearner(model, config, TASKS, rng=np.random.default_rng(0), generator=generator())


def replay_of(episodes: Episodes) -> ReplayBuffer:
    replay = ReplayBuffer(10_000, episodes.reward.shape[1])
    replay.add(episodes, np.random.default_rng(0))
    return replay


def with_constant_outputs(model: TaskInferenceModel) -> TaskInferenceModel:
    """Decoders that say 0; means (1, 2) and (3, -2), std e^-30, weights 1/4 and 3/4, so z = (2.5, -1)."""
    outputs = {model.encoder.head: [1.0, 2.0, -30.0, -30.0, 0.0, 3.0, -2.0, -30.0, -30.0, math.log(3.0)]}
    outputs |= {model.decoder.next_obs: [0.0, 0.0], model.decoder.reward: [0.0]}
    for network, values in outputs.items():
        last = network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor(values)
    return model


@BOTH_CONTEXTS
def test_loss_with_known_numbers(context: str) -> None:
    obs, action = np.broadcast_to([1.0, 3.0], (4, 7, 2)), np.zeros((4, 6, 2))
    replay = replay_of(episodes_of(obs, action, np.full((4, 6), 3.0), base_task=[1] * 4, parameter=[6.0] * 4))
    weights = {"kl_weight": 0.1, "separation_weight": 1e9, "sparsity_weight": 0.5}
    weights |= {"supervision_weight": 2.0, "anchor_weight": 0.25}
    total, terms = learner(with_constant_outputs(tiny_model(context=context)), **weights).loss(replay)
    expected = {
        "state": 5.0,  # (1^2 + 3^2) / 2
        "reward": 9.0,  # 3^2
        "kl": (4 * (60.0 - 1.0) + 1.0 + 4.0 + 9.0 + 4.0) / 2.0,  # -ln std^2 = 60 and mean^2 of each of the four
        "separation": 4.0 * math.exp(-30.0) / 20.0,  # distance^2 = 2^2 + 4^2
        "sparsity": 3.5,
        "supervision": -math.log(0.75),
        "anchor": 2.5**2 + 2.5**2,  # z* = (0, 1.5): second task, parameter at the end of its range
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    by_hand = (expected["state"] + expected["reward"]) / 3.0 + 0.1 * expected["kl"] + 1e9 * expected["separation"]
    by_hand += 0.5 * expected["sparsity"] + 2.0 * expected["supervision"] + 0.25 * expected["anchor"]
    assert total.item() == terms["loss"].item() == pytest.approx(by_hand, rel=1e-4)


@BOTH_CONTEXTS
def test_reconstructions_are_rebalanced_by_their_validation_losses(context: str) -> None:
    subject = learner(tiny_model(context=context), rebalance_every=2)
    replay = replay_of(two_task_episodes(10, steps=12))
    assert "validation_state" not in subject.step(replay)
    assert subject.balance.tolist() == pytest.approx([1.0 / 3.0, 1.0 / 3.0])
    metrics = subject.step(replay)
    state, reward = metrics["validation_state"].item(), metrics["validation_reward"].item()
    assert subject.balance.tolist() == pytest.approx([reward / (state + reward), state / (state + reward)])


def test_an_epoch_ends_when_its_validation_loss_no_longer_falls() -> None:
    def stops(patience: int) -> list[int]:
        stopping, at = EarlyStopping(patience), []
        for epoch in range(2):  # of 10 steps, validated every second
            stopping.begin(10 * epoch)
            for step, loss in zip(range(2, 12, 2), [5.0 - epoch, 3.0, 4.0, 3.0, 2.0], strict=True):
                stopping.update(10 * epoch + step, loss)
                if stopping.reached:
                    at.append(10 * epoch + step)
                    break
        return at

    assert stops(0) == stops(4) == []  # the lowest loss, 3 after 4 steps, is 4 steps old when 2 comes
    assert stops(3) == [8, 18]


def test_the_validation_loss_decides_and_a_checkpoint_keeps_it() -> None:
    subject = learner(tiny_model(), rebalance_every=1, early_stopping_steps=1)
    replay = replay_of(two_task_episodes(10, steps=12))
    metrics = subject.step(replay)
    lowest = subject.early_stopping.lowest
    assert lowest == pytest.approx((metrics["validation_state"] + metrics["validation_reward"]).item())
    subject.early_stopping.lowest = 0.0
    resumed = learner(tiny_model(), rebalance_every=1, early_stopping_steps=1)
    resumed.load_state_dict(subject.state_dict())
    for _ in range(2):
        assert not resumed.early_stopping.reached
        resumed.step(replay)
    assert resumed.early_stopping.reached


@BOTH_CONTEXTS
def test_without_supervision_labels_make_no_difference(context: str) -> None:
    def loss(flip: bool, supervision_weight: float) -> float:
        episodes = two_task_episodes(10, steps=12)
        episodes.base_task[:] = episodes.base_task ^ flip
        subject = learner(tiny_model(context=context), supervision_weight=supervision_weight)
        return subject.loss(replay_of(episodes))[0].item()

    assert loss(False, 0.0) == loss(True, 0.0)
    assert loss(False, 0.1) != loss(True, 0.1)


def test_windows_are_decoded_from_where_their_last_task_began() -> None:
    episodes = numbered_episodes([8] * 20, steps=8)
    episodes.parameter[:, 4:] += 0.5
    subject = learner(tiny_model(1, 1, context="window"))
    replay = replay_of(episodes)
    targets, _ = subject._draw(replay, subject._draw_numbers(replay, validation=False), validation=False)
    new, decoded = targets.decoded[..., 0] % 100 >= 4, targets.weight > 0
    assert (new == new[:, -1:])[decoded].all() and decoded[:, -1].all()
    assert (new[:, -1:] & ~new & ~decoded).any(), "some began under the old task"
    torch.testing.assert_close(targets.weight.sum(dim=1), torch.ones(len(new)))


def test_decoded_transitions_lie_in_the_segment_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes are numbered and z is the number of the last transition seen, so the decoder's inputs tell."""
    model, decoded = tiny_model(1, 1, latent_dim=1, num_components=1), []
    monkeypatch.setattr(model.encoder, "hidden_sequence", lambda x, start: torch.cat([x[:, :1, :1], x[:, :, :1]], 1))

    def posterior(hidden: Tensor) -> MixturePosterior:
        mean = hidden.unsqueeze(-2)
        return MixturePosterior(hidden.new_zeros(len(hidden), 1), mean, torch.zeros_like(mean))

    monkeypatch.setattr(model.encoder, "posterior", posterior)
    model.decoder.register_forward_pre_hook(lambda _, inputs: decoded.append((inputs[0], inputs[2])))
    learner(model, supervision_weight=0.0, segment_length=6).loss(replay_of(numbered_episodes([10] * 40, steps=10)))
    obs, seen = decoded[0]
    assert obs.shape == (64, 4, 1)
    assert torch.equal(obs // 100, seen // 100)
    assert (obs < seen).any() and (obs > seen).any()  # before and after the target alike


def test_half_of_the_streams_go_on_where_the_last_step_left_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, starts, ends = tiny_model(), [], []
    run = model.encoder.hidden_sequence

    def spy(x: Tensor, start: Tensor) -> Tensor:
        hidden = run(x, start)
        starts.append(start)
        ends.append(hidden[:, -1].detach())
        return hidden

    monkeypatch.setattr(model.encoder, "hidden_sequence", spy)
    subject, replay = learner(model), replay_of(two_task_episodes(10, steps=12))
    for _ in range(2):
        subject.loss(replay)
    half = len(starts[0]) // 2
    assert half > 0 and not starts[0].any() and not starts[1][half:].any()
    assert torch.equal(starts[1][:half], ends[0][:half]) and ends[0][:half].any()


def test_windows_are_zero_before_the_episode() -> None:
    model, read = tiny_model(1, 1, context="window"), []
    model.encoder.gru.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model.normaliser.mean += 1.0  # a zero of the replay is no zero of the encoder
    model.normaliser.refresh()
    learner(model).loss(replay_of(numbered_episodes([10] * 4, steps=10)))
    (windows,) = read
    seen = (windows[:, -1, 0] + 1.0) % 100 + 1.0  # transitions of the episode so far
    padded = torch.arange(3) < 3 - seen.unsqueeze(1)
    assert padded.any() and (windows[padded] == 0.0).all()
    assert (windows[~padded][:, 1] != 0.0).all()


@BOTH_CONTEXTS
def test_a_few_steps_reduce_the_loss(context: str) -> None:
    settings = {"encoder_learning_rate": 1e-2, "decoder_learning_rate": 1e-2, "anchor_weight": 0.1}
    model = tiny_model(context=context, context_length=8, decoder_width=3.0)
    subject, replay = learner(model, **settings), replay_of(two_task_episodes(40, steps=12))
    metrics = [subject.step(replay) for _ in range(120)]
    for name in ("loss", "state", "reward", "supervision", "anchor"):
        first, last = (sum(m[name].item() for m in part) / 5.0 for part in (metrics[:5], metrics[-5:]))
        assert last < 0.5 * first, (name, first, last)


@BOTH_CONTEXTS
def test_gradients_reach_encoder_and_decoder_and_stop_there(context: str) -> None:
    model = tiny_model(context=context)
    learner(model).loss(replay_of(two_task_episodes(10, steps=12)))[0].backward()
    for part in (model.encoder, model.decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0.0, name
    assert all(p.grad is None for p in model.actor.parameters())


def test_task_code_by_hand() -> None:
    code = TaskCode(TASKS, 3)
    # 1 + p / 2 on the axis of the base task, with 0, 1, 2 of [0, 2] and 5 of [2, 6] scaled to -1, 0, 1 and 0.5
    found = code(torch.tensor([0, 0, 0, 1]), torch.tensor([[0.0], [1.0], [2.0], [5.0]]))
    assert found.tolist() == [[0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.0, 1.25, 0.0]]


def test_nearly_equal_directions_have_nearly_equal_codes() -> None:
    direction = BaseTask("way", "place", "m", 0, 6.2831853, "along", axis=(1.0, 1.0), form="direction")
    place = BaseTask("place", "x", "m", 0, 2, "absolute")
    code = TaskCode(TaskSet((direction, place)), 3)
    angles = torch.tensor([[0.0], [math.pi / 2], [6.2831853], [2.0]])
    found = code(torch.tensor([0, 0, 0, 1]), angles)
    # 1 + cos / 2 on the axis of the base task, the sine on one of its own; a place at the end of its range
    expected = torch.tensor([[1.5, 0.0, 0.0], [1.0, 0.0, 1.0], [1.5, 0.0, 0.0], [0.0, 1.5, 0.0]])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0.0)
    with pytest.raises(UserError, match="at least 3 for 2 base tasks"):
        TaskCode(TaskSet((direction, place)), 2)


def test_task_code_needs_room_for_every_base_task() -> None:
    with pytest.raises(UserError, match=r"latent_dim is 1\n.*at least 2 for 2 base tasks(.|\n)*set model.latent_dim=2"):
        learner(tiny_model(latent_dim=1), anchor_weight=0.1)
