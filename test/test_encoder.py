# SPDX-License-Identifier: Apache-2.0
"""One encoder, three readers: whole episodes, single steps, and the controller. All say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_model, two_task_episodes

from tigr_core.controller import Controller
from tigr_core.encoder import Encoder, windows_of
from tigr_core.mixture import MixturePosterior
from tigr_core.replay import ReplayBuffer
from tigr_core.sac_learner import TransitionView

CONTEXTS = ["stream", "window"]


def encoder(context: str, length: int = 3) -> Encoder:
    torch.manual_seed(1)
    return Encoder(4, 2, 3, width=1.5, context=context, context_length=length)  # type: ignore[arg-type]


def assert_same(found: MixturePosterior, expected: MixturePosterior) -> None:
    for name in ("logits", "mean", "std"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6)


def numpy_gru_state(gru: torch.nn.GRU, x: np.ndarray) -> np.ndarray:
    """h' = (1 - z) n + z h with n = tanh(W_n x + b_n + r (U_n h + c_n)), from h = 0 over x [T, X]."""
    w_ih, w_hh, b_ih, b_hh = (p.detach().double().numpy() for p in gru.parameters())
    h = np.zeros(gru.hidden_size)
    for row in x:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(w_ih @ row + b_ih, 3), np.split(w_hh @ h + b_hh, 3)
        r, z = (1.0 / (1.0 + np.exp(-v)) for v in (r_x + r_h, z_x + z_h))
        h = (1.0 - z) * np.tanh(n_x + r * n_h) + z * h
    return h


@pytest.mark.parametrize("context", CONTEXTS)
@torch.no_grad()
def test_estimates_equal_a_hand_written_gru(context: str) -> None:
    subject, x = encoder(context), torch.randn(2, 5, 4)
    found = subject.encode_episodes(x)
    for episode, seen in np.ndindex(2, 6):
        before = x[episode, :seen].double().numpy()
        if context == "window":
            before = np.concatenate([np.zeros((3, 4)), before])[-3:]
        hidden = np.maximum(numpy_gru_state(subject.gru, before), 0.0)
        (w1, b1), (w2, b2) = ([p.double().numpy() for p in subject.head[i].parameters()] for i in (0, 2))
        head = (w2 @ np.maximum(w1 @ hidden + b1, 0.0) + b2).reshape(2, 7)  # per component: 3 means, 3 std, 1 logit
        np.testing.assert_allclose(found.mean[episode, seen], head[:, :3], atol=1e-5)
        np.testing.assert_allclose(found.std[episode, seen], np.log1p(np.exp(head[:, 3:6])), atol=1e-5)
        np.testing.assert_allclose(found.logits[episode, seen], head[:, 6], atol=1e-5)


@torch.no_grad()
def test_window_by_window_equals_whole_episodes() -> None:
    subject, x = encoder("window"), torch.randn(5, 7, 4)
    whole, state = subject.encode_episodes(x), subject.initial_state(5)
    assert_same(subject.infer(state), whole[:, 0])
    for t in range(7):
        state = subject.advance(state, x[:, t])
        assert_same(subject.infer(state), whole[:, t + 1])


def test_windows_hold_the_last_transitions_after_zeros() -> None:
    x = torch.tensor([[[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]]])
    windows = windows_of(x, 2)
    assert windows[0, ..., 0].tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    assert windows[0, 3].tolist() == [[2.0, -2.0], [3.0, -3.0]]


@pytest.mark.parametrize("settings", [*({"context": context} for context in CONTEXTS), {"reward_changes": True}])
def test_controller_builds_the_context_that_training_reads(settings: dict[str, Any]) -> None:
    model, episodes = tiny_model(**settings), two_task_episodes(3, steps=6)
    replay = ReplayBuffer(100, 6)
    replay.add(episodes, np.random.default_rng(0))
    model.normaliser.update(replay.obs[:, :-1].flatten(0, 1), replay.action.flatten(0, 1), replay.reward.flatten())
    view = TransitionView(model, replay, torch.arange(3))
    trained = view.rows.unflatten(0, (3, 7))[..., :4]  # [episode, time, obs + latent]
    controller = Controller(model, 3)
    latent = [controller.estimate.latent]
    action, reward = np.empty_like(episodes.action[:, 0]), np.empty_like(episodes.reward[:, 0])  # filled anew each step
    for t in range(6):
        action[:], reward[:] = episodes.action[:, t], episodes.reward[:, t]
        controller.observe(action, reward, episodes.obs[:, t + 1], obs=episodes.obs[:, t])
        latent.append(controller.estimate.latent)
    np.testing.assert_allclose(np.stack(latent, axis=1), trained[..., 2:], rtol=1e-5, atol=1e-6)
    assert np.ptp(trained[0, :, 2].numpy()) > 1e-3  # the estimate does move
