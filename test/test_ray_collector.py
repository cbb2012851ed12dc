# SPDX-License-Identifier: Apache-2.0
"""Collecting in Ray actors on a cluster of two nodes on this machine: the same numbers, whoever is lost.

All tests share the cluster; those that lose something of it come last, but for the one whose work goes on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_model
from test_collector import ENV, TASKS, assert_equal, collect, request

from tigr_core.collector import Request, split_request
from tigr_core.errors import UserError
from tigr_core.ray_collector import RayCollector
from tigr_core.rollout import Episodes
from tigr_core.run import make_collector
from tigr_core.stop import Interrupted, Stop

ray = pytest.importorskip("ray", reason="Ray, the optional extra for --workers, is not installed")

LIMIT_S = 300.0  # for a worker to start; on an idle machine it takes seconds
QUICK_TO_MISS_A_NODE = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
NOTES: list[str] = []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with room for one worker each."""
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)
    made = Cluster()
    add_node(made, include_dashboard=False, _system_config=QUICK_TO_MISS_A_NODE)  # the one that tests connect to
    add_node(made)
    signal.signal(signal.SIGTERM, handler)  # which starting nodes takes over, as connecting to them would
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


def add_node(cluster: Any, **settings: Any) -> None:
    cluster.add_node(wait=False, num_cpus=1, **settings)
    cluster.wait_for_nodes(LIMIT_S)


@pytest.fixture(scope="module")
def collector(cluster: Any) -> Iterator[RayCollector]:
    made = RayCollector(ENV, 2, address=cluster.address, tell=NOTES.append)
    wait_for_two(made)
    yield made
    made.close()


def in_shares(wanted: Request) -> Episodes:
    """Collect in this process what two workers are to collect."""
    return Episodes.concatenate([collect(share) for share in split_request(wanted, 2)])


def asked(collector: RayCollector, question: Any) -> list[Any]:
    """Ask every actor something about itself."""
    answers: list[Any] = ray.get([actor.__ray_call__.remote(question) for actor in collector._actors], timeout=LIMIT_S)
    return answers


def wait_for_two(collector: RayCollector) -> None:
    """Collect until both workers are there."""
    end = time.monotonic() + LIMIT_S
    while len(collector._actors) < 2:
        assert time.monotonic() < end, NOTES
        collector.collect(tiny_model(), request())
        time.sleep(0.1)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere"])
def test_a_cluster_that_is_not_there_is_one_message(address: str) -> None:
    with pytest.raises(UserError, match=f"no Ray at {address}: ") as caught:
        make_collector(ENV, 1, address)
    assert "ray start --address" in caught.value.fix


def test_an_address_without_workers_is_a_mistake() -> None:
    with pytest.raises(UserError, match="without workers"):
        make_collector(ENV, 0, "auto")


def test_workers_on_two_nodes_collect_what_one_process_does(collector: RayCollector) -> None:
    wanted = request(noise_seed=3)
    assert_equal(collector.collect(tiny_model(), wanted), in_shares(wanted))
    assert len(set(asked(collector, lambda worker: ray.get_runtime_context().get_node_id()))) == 2
    assert asked(collector, lambda worker: torch.get_num_threads()) == [1, 1]


def test_a_version_of_the_weights_is_put_and_fetched_once(collector: RayCollector) -> None:
    model = tiny_model()
    collector.collect(model, request())
    version = collector._weights.version
    collector.collect(model, request())
    assert [collector._weights.version] * 2 == [version] * 2 == asked(collector, lambda worker: worker.version)
    nothing_to_fetch = collector._actors[0].collect.remote(version, [None], request())
    assert_equal(ray.get(nothing_to_fetch, timeout=LIMIT_S), collect(request()))
    with torch.no_grad():
        next(model.actor.parameters()).add_(1.0)
    changed = collector.collect(model, request())
    assert collector._weights.version == version + 1
    assert not np.array_equal(changed.action, collect(request()).action)


def test_what_was_begun_keeps_its_weights(collector: RayCollector) -> None:
    newer = tiny_model()
    with torch.no_grad():
        next(newer.actor.parameters()).add_(1.0)
    wait = collector.begin(tiny_model(), request())
    assert not np.array_equal(collector.collect(newer, request()).action, in_shares(request()).action)
    assert_equal(wait(), in_shares(request()))


def test_a_mistake_found_by_a_worker_arrives_as_it_is(collector: RayCollector) -> None:
    far = replace(request(), tasks=[*request().tasks[:-1], TASKS.task("goal_up", 1e200)])
    with pytest.raises(UserError, match=r"PointRobotAxes-v0 gave a non-finite .* at step 1 of task goal_up\(1e\+200\)"):
        collector.collect(tiny_model(), far)


def test_ray_does_not_take_over_sigterm(collector: RayCollector) -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_killed_worker_leaves_no_trace_and_another_takes_its_place(collector: RayCollector) -> None:
    lost = collector._actors[0]
    wanted = request(noise_seed=3, episode_steps=1000)
    wait = collector.begin(tiny_model(), wanted)
    ray.kill(lost)
    assert_equal(wait(), in_shares(wanted))
    assert any("lost a Ray worker" in note for note in NOTES)
    wait_for_two(collector)
    assert lost not in collector._actors


def test_the_run_goes_on_without_a_killed_node_and_with_the_one_that_comes(
    collector: RayCollector, cluster: Any
) -> None:
    NOTES.clear()
    wanted = request(noise_seed=3, episode_steps=2000)
    wait = collector.begin(tiny_model(), wanted)
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    assert_equal(wait(), in_shares(wanted))
    assert any("lost a Ray worker" in note for note in NOTES) and len(collector._actors) == 1
    assert_equal(collector.collect(tiny_model(), request()), in_shares(request()))
    add_node(cluster)
    wait_for_two(collector)
    assert_equal(collector.collect(tiny_model(), request()), in_shares(request()))


def test_workers_are_not_waited_for_when_told_to_stop(collector: RayCollector) -> None:  # last: they go on
    collector.stop = lambda: Stop.AT_ONCE
    with pytest.raises(Interrupted):
        collector.collect(tiny_model(), request(episode_steps=1_000_000))
