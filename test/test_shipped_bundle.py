# SPDX-License-Identifier: Apache-2.0
"""The bundles that come with the package act as they did when they were trained."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tigr_core import analysis, evaluation, run_report
from tigr_core.bundle import load_bundle
from tigr_core.collector import LocalCollector
from tigr_ros.bundles import shipped_bundle, shipped_bundles

MARGIN = 0.1  # of the recorded return: one floating-point rounding makes another episode in the end


def test_the_default_one_is_there() -> None:
    assert shipped_bundle() in shipped_bundles()


@pytest.mark.slow
@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_it_reaches_its_recorded_return_and_knows_its_tasks(path: Path) -> None:
    bundle = load_bundle(path)  # compares its hash
    config = run_report.config_of(bundle)
    _, tasks = evaluation.split_tasks(config)
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        episodes = evaluation.evaluate(collector, bundle.model, tasks, seed=config.seed)
    recorded = bundle.info.source.evaluation["test_return"]
    assert episodes.returns.mean() > recorded - MARGIN * abs(recorded)
    labels = np.array(bundle.info.component_to_task)
    assert analysis.component_accuracy(episodes, 50, labels) >= 0.95
