# SPDX-License-Identifier: Apache-2.0
"""Episodes of one run in the replay data of another: which, under what labels, and what is refused."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pytest
import torch

from tigr_core.collector import LocalCollector
from tigr_core.config import load_config
from tigr_core.errors import UserError
from tigr_core.progress import make_progress
from tigr_core.stored_run import StoredRun, import_run
from tigr_core.trainer import Trainer

SETTINGS = [
    "training.epochs=1",
    "training.exploration_episodes=0",
    "training.tasks_per_epoch=6",
    "inference.first_epoch_steps=1",
    "inference.batch_size=8",
    "sac.steps_per_epoch=1",
    "training.relabel_share=0.5",
]


def trained(folder: Path, *overrides: str) -> Path:
    """A run of one epoch on the point robot's axes."""
    config = load_config("point_robot", [*SETTINGS, *overrides])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        Trainer(config, folder, collector=collector, progress=make_progress(io.StringIO())).run()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return trained(folder / "all"), trained(folder / "up", "env.base_tasks=[goal_up]", "seed=1")


def test_the_last_episodes_come_under_the_label_of_their_name(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    every, up = runs
    before, taken = StoredRun.read(every), StoredRun.read(up)
    import_run(up, every, episodes=4)
    assert "added    4 episodes of goal_up" in capsys.readouterr().out
    after, fields = StoredRun.read(every).replay, ("obs", "action", "own_reward", "own_parameter", "quantities")
    assert after.num_episodes == before.replay.num_episodes + 4 == 10
    for name in fields:
        assert torch.equal(getattr(after, name)[6:], getattr(taken.replay, name)[-4:]), name
        assert torch.equal(getattr(after, name)[:6], getattr(before.replay, name)), name
    # Whatever relabelling made of them, they come as what they were.
    assert torch.equal(after.reward[6:], taken.replay.own_reward[-4:])
    label = before.base_tasks.index("goal_up")
    assert taken.base_tasks.index("goal_up") == 0 != label
    assert (after.base_task[6:] == label).all() and (after.own_base_task[6:] == label).all()


def test_what_was_read_goes_on_training(runs: tuple[Path, Path], tmp_path: Path) -> None:
    every, up = runs
    import_run(up, every, episodes=None)
    config = load_config("point_robot", [*SETTINGS, "training.epochs=2"])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        trainer = Trainer(config, every, collector=collector, progress=make_progress(io.StringIO()))
        trainer.resume()
        assert trainer.run() and trainer.replay.num_episodes >= 6 + 6 + 6


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["env.episode_steps=10", "env.base_tasks=[goal_up]"], "episodes of 10 steps"),
        (["training.relabel_share=0", "env.base_tasks=[goal_up]"], "training.relabel_share 0"),
    ],
)
def test_runs_that_do_not_fit_are_refused(
    runs: tuple[Path, Path], overrides: list[str], found: str, tmp_path: Path
) -> None:
    every, _ = runs
    other = trained(tmp_path / "other", *overrides)
    before = StoredRun.read(every).replay.num_added
    with pytest.raises(UserError, match=found):
        import_run(other, every, episodes=None)
    assert StoredRun.read(every).replay.num_added == before


def test_episodes_of_unknown_base_tasks_come_as_what_they_are_best_at(runs: tuple[Path, Path]) -> None:
    every, up = runs
    before, taken = StoredRun.read(up).replay, StoredRun.read(every).replay
    import_run(every, up, episodes=6)
    after, added = StoredRun.read(up).replay, slice(before.num_episodes, None)
    assert torch.equal(after.obs[added], taken.obs[-6:]) and (after.own_base_task[added] == 0).all()
    # The distance to a goal straight up, at the parameter that each was given.
    goal = after.own_parameter[added, 0, 0]
    last = after.obs[added, -1] - torch.stack([torch.zeros(6), goal], dim=1)
    torch.testing.assert_close(after.own_reward[added, -1], -last.norm(dim=1))
    assert after.own_parameter[added, 0, 0].unique().numel() > 1


def test_unknown_base_tasks_need_relabelling(runs: tuple[Path, Path], tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", "training.relabel_share=0", "env.base_tasks=[goal_up]")
    with pytest.raises(UserError, match="episodes of goal_left, goal_right, goal_down"):
        import_run(runs[0], plain, episodes=None)


def test_a_folder_without_a_run_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        import_run(tmp_path, runs[0], episodes=None)
    assert list(tmp_path.iterdir()) == []
