# SPDX-License-Identifier: Apache-2.0
"""The bundle that comes with the package acts as it did when it was trained."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from tigr_core import analysis, evaluation, run_report
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector
from tigr_ros.bundles import shipped_bundle


@pytest.mark.slow
def test_it_reaches_its_recorded_return_and_knows_its_tasks() -> None:
    path = shipped_bundle()
    assert path is not None
    bundle = load_bundle(path)
    config = run_report.config_of(bundle)
    _, tasks = evaluation.split_tasks(config)
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        episodes = evaluation.evaluate(collector, bundle.model, tasks, seed=config.seed)
    recorded = bundle.info.source.evaluation
    assert episodes.returns.mean() > recorded["test_return"] - 10.0
    labels = np.array(bundle.info.component_to_task)
    assert analysis.component_accuracy(episodes, 50, labels) >= 0.95
