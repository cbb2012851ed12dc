# SPDX-License-Identifier: Apache-2.0
"""The command line as its users meet it: what it prints, what it leaves behind, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tigr_core.cli
from tigr_core import analysis
from tigr_core.checkpoint import load_checkpoint
from tigr_core.files import FolderLock
from tigr_core.run_log import read_progress
from tigr_core.trainer import BEST, CHECKPOINT

TINY = [
    "model.policy_hidden=[16]",
    "model.encoder_width=1.0",
    "inference.first_epoch_steps=5",
    "inference.steps_per_epoch=5",
    "inference.batch_size=32",
    "sac.steps_per_epoch=5",
    "sac.batch_size=16",
    "training.epochs=1",
    "training.tasks_per_epoch=8",
    "env.num_train_tasks=8",
    "env.num_test_tasks=4",
]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]


def tigr(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the command line in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["tigr", *map(str, arguments)])
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        tigr_core.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    return 0


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("output")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert tigr(monkeypatch, "train", "point_robot", *SETTINGS, "--output", output, "--seed", "3") == 0
    (folder,) = output.glob("PointRobotAxes-v0/point_robot-seed3-*")
    return folder


def test_a_run_folder_is_complete(run_folder: Path) -> None:
    names = {file.name for file in run_folder.iterdir()}
    assert names >= {"config.yaml", "progress.csv", "tensorboard", "checkpoint.pt", "best.tigr", "last.tigr"}
    assert names >= {"evaluation.npz", "report.html"}
    assert "seed: 3" in (run_folder / "config.yaml").read_text()


def test_eval_of_a_run_gives_the_numbers_it_was_saved_with(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tigr(monkeypatch, "eval", run_folder) == 0
    saved = read_progress(run_folder / "progress.csv")["test_return"][-1]
    assert f"{saved:.1f}" in capsys.readouterr().out


def test_eval_of_chosen_tasks_that_change(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    chosen = ["--tasks", "goal_left=0.5, goal_up=1.5", "--episodes", "2", "--non-stationary", "--report", str(page)]
    assert tigr(monkeypatch, "eval", run_folder / BEST, *chosen) == 0
    assert "after a change of base task" in capsys.readouterr().out and page.stat().st_size > 10_000


def test_eval_says_never_where_a_policy_does_not_recover(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(analysis, "recovery_steps", lambda *_: np.array([np.nan, 4.0, np.nan]))
    assert tigr(monkeypatch, "eval", run_folder / BEST, "--tasks", "goal_left=0.5", "--non-stationary") == 0
    assert "never right again (median of 3 changes), within 20 steps in 33%" in capsys.readouterr().out


def test_info_envs_and_configs(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, expected in [
        (["info", str(run_folder / BEST)], "goal_left [m]"),
        (["envs"], "tigr/HalfCheetahEight-v0"),
        (["configs"], "half_cheetah_eight"),
    ]:
        assert tigr(monkeypatch, *command) == 0
        assert expected in capsys.readouterr().out


def test_resuming_a_complete_run_trains_on_for_more_epochs(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tigr(monkeypatch, "train", "--resume", run_folder, "--set", "training.epochs=2") == 0
    assert read_progress(run_folder / "progress.csv")["epoch"] == [0.0, 1.0, 2.0]
    assert "going on with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["train", "no_such"], "no configuration 'no_such'"),
        (["train", "quik"], "did you mean 'quick'?"),
        (["train", "quick", "--set", "sac.discont=0.9"], "did you mean 'discount'?"),
        (["train", "quick", "--set", "sac.discount=2.0"], "sac.discount"),
        (["train", "quick", "--set", "training.epochs=many"], "training.epochs"),
        (["train", "quick", "--set", "seed"], "expected: key=value"),
        (["train", "quick", "--set", "env.id=tigr/HalfCheeta-v0"], "did you mean 'tigr/HalfCheetah-v0'?"),
        (["train", "quick", "--set", "env.base_tasks=[velocity_forwards]"], "did you mean 'velocity_forward'?"),
        (["train", "quick", "--device", "tpu"], "cpu, cuda or auto"),
        (["train", "--resume", "nowhere"], "no checkpoint at nowhere"),
        (["eval", "nowhere.tigr"], "no bundle at nowhere.tigr"),
        (["info", "nowhere.tigr"], "no bundle at nowhere.tigr"),
    ],
)
def test_a_mistake_is_one_message_status_2_and_nothing_written(
    arguments: list[str],
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tigr(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and found in error and "expected: " in error and "fix: " in error
    assert "Traceback" not in error and list(tmp_path.iterdir()) == []


def test_mistakes_about_a_run_folder(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = (run_folder / CHECKPOINT).read_bytes()
    lock = FolderLock(run_folder)
    assert tigr(monkeypatch, "train", "--resume", run_folder) == 2
    assert "in use by another process" in capsys.readouterr().err
    lock.release()
    assert tigr(monkeypatch, "train", "--resume", run_folder, "--seed", "4") == 2
    assert "belong to the run" in capsys.readouterr().err
    assert tigr(monkeypatch, "eval", run_folder, "--tasks", "goal_lft=1") == 2
    assert "did you mean 'goal_left'?" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert tigr(monkeypatch, "train", "point_robot", "--output", tmp_path / "file") == 2
    assert "cannot write" in capsys.readouterr().err
    assert (run_folder / CHECKPOINT).read_bytes() == before


@pytest.mark.slow
def test_ray_workers_on_this_machine_collect_while_the_learner_learns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray, the optional extra for --workers, is not installed")
    settings = [*SETTINGS, "--set", "training.epochs=3", "--set", "training.asynchronous=true"]
    assert tigr(monkeypatch, "train", "point_robot", *settings, "--output", tmp_path, "--workers", "1") == 0
    (progress,) = tmp_path.glob("*/*/progress.csv")
    assert read_progress(progress)["collect_staleness"][1:] == [0.0, 1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_saves_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    long = [*SETTINGS, "--set", "training.epochs=100000", "--output", str(tmp_path)]
    command = [sys.executable, "-c", "from tigr_core.cli import main; main()", "train", "point_robot", *long]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("2/100000" in line for line in lines)
        process.send_signal(number)
        rest = "".join(lines)
        assert process.wait() == 0
    assert "stopped and saved; go on with:  tigr train --resume" in rest and "Traceback" not in rest
    (checkpoint,) = tmp_path.glob("*/*/checkpoint.pt")
    assert load_checkpoint(checkpoint)["epoch"] >= 2
