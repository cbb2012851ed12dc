# SPDX-License-Identifier: Apache-2.0
"""Means of metrics over steps and launches, and what a checkpoint keeps of them."""

from __future__ import annotations

import torch

from tigr_core.metric_means import MetricMeans


def test_launches_count_as_many_steps_as_they_take() -> None:
    means = MetricMeans()
    for number in (float, torch.tensor):  # numbers of C++ and of PyTorch
        means.add("sac", {"loss": number(7.0)})
        means.add("sac", {"loss": number(1.0), "entropy": number(2.0)}, steps=2)
    assert means.pop() == {"sac/loss": 3.0, "sac/entropy": 2.0}
    assert means.pop() == {}


def test_numbers_of_both_kinds_are_added_in_double() -> None:
    means = MetricMeans()
    means.add("sac", {"loss": 50331651.0})
    means.add("sac", {"loss": torch.tensor(0.5)})
    assert means.pop() == {"sac/loss": 25165825.75}


def test_a_checkpoint_goes_on_and_does_not_change() -> None:
    means, resumed = MetricMeans(), MetricMeans()
    means.add("sac", {"loss": torch.tensor(3.0)})
    saved = means.state_dict()
    for subject in (means, resumed):
        subject.load_state_dict(saved)
        subject.add("sac", {"loss": torch.tensor(5.0)})
        assert subject.pop() == {"sac/loss": 4.0}
