# SPDX-License-Identifier: Apache-2.0
"""The results page: its numbers are those of the stored CSV files, and bundles are measured into such files."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bundles import tiny_bundle

from tigr_core.collector import LocalCollector
from tigr_core.config import load_config
from tigr_core.progress import make_progress
from tigr_core.run_log import RunLog
from tigr_core.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = ("run", "settings", "base_tasks", "tests", "generalisation")
Command = Callable[..., int]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the folder `benchmarks`, which is no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def results(load: Callable[[str], ModuleType], tmp_path: Path) -> Command:
    """The command line, on folders of this test."""
    main = load("results").main

    def run(*arguments: object) -> int:
        command, *others = map(str, arguments)
        docs = ["--docs", str(tmp_path / "docs")] if command == "page" else []
        return int(main(["--results", str(tmp_path / "results"), command, *others, *docs]))

    return run


@pytest.fixture
def store(load: Callable[[str], ModuleType], tmp_path: Path) -> Callable[..., Path]:
    """Write a made-up run of two base tasks, with two test tasks each."""
    data = load("results_data")

    def write(
        name: str, returns: Sequence[float], curve: Sequence[tuple[int, float]], kl: float = 0.1, **facts: object
    ) -> Path:
        known: dict[str, object] = {**dict.fromkeys(data.FACTS, 0), "config": "made_up", "machine": "abacus"}
        known |= {"episode_steps": 100, "control_dt": 0.05, "change_steps": 50, "confusion_step": 50}
        known |= {"env_steps": 3000, "sac_steps": 30, "wall_s": 90, **facts}
        settings = {"inference.kl_weight": kl, "training.epochs": 9, "name": name}
        tables: dict[str, Any] = {
            "run": {"key": list(known), "value": list(known.values())},
            "settings": {"key": list(settings), "value": list(settings.values())},
            "base_tasks": {
                **{"name": ["run_far", "hop"], "unit": ["m", "m/s"]},
                **{"low": [1.0, 2.0], "high": [5.0, 4.0], "reward": ["relative"] * 2},
            },
            "tests": {
                **{"base_task": ["run_far", "run_far", "hop", "hop"], "parameter": [2.0, 3.0, 2.5, 3.5]},
                **{"return": returns, "error": [0.1, 0.3, 0.3, 0.5]},
            },
            "generalisation": {
                **{"base_task": ["hop"] * 4, "end": ["low", "low", "high", "high"], "beyond": [0.0, 0.5] * 2},
                **{"parameter": [2.0, 1.0, 4.0, 6.0], "return": [-10, -30, -20, -50], "error": [0.1, 0.3, 0.2, 0.5]},
            },
            "curve": {
                "epoch": range(len(curve)),
                "env_steps": [steps for steps, _ in curve],
                "sac_steps": [steps // 100 for steps, _ in curve],
                "inference_steps": [0] * len(curve),
                "wall_s": [steps / 100 for steps, _ in curve],
                "test_return": [value for _, value in curve],
            },
        }
        if name.startswith("tigr"):
            tables["accuracy"] = {
                "base_task": ["run_far", "hop", "all"],
                **{"20": [1.0, 0.92, 0.96], "100": [1.0, 0.96, 0.98]},
            }
            tables["confusion"] = {"base_task": ["run_far", "hop"], "run_far": [1.0, 0.25], "hop": [0.0, 0.75]}
            tables["changes"] = {
                **{"kind": ["between"] * 4 + ["within"] * 2, "base_task": ["hop"] * 6},
                "recognised": [5, 20, 21, np.nan, np.nan, np.nan],
                "followed": [12, 30, np.nan, np.nan, 0, 8],
            }
        folder = tmp_path / "results" / "HalfCheetahEight-v0" / name
        data.write_run(folder, tables)
        return folder

    return write


def row(page: str, *start: str) -> list[str]:
    """Return the cells of the one table row that starts with these."""
    found = [line for line in page.splitlines() if line.startswith("| " + " | ".join(start) + " |")]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].split("|")[1:-1]][len(start) :]


def test_the_page_tells_the_stored_numbers(results: Command, store: Callable[..., Path], tmp_path: Path) -> None:
    store("tigr_seed0", [-40, -60, -70, -90], [(1000, -200), (2000, -100), (3000, -50)], train_return=-66)
    store("tigr_seed1", [-50, -70, -80, -100], [(1000, -180), (2000, -140), (3000, -70)], train_return=-70)
    store("pearl", [-160] * 4, [(1000, -200), (2000, -170), (4000, -120), (4500, -130), (5000, np.nan)])
    store("ablation_no_kl", [-90] * 4, [(1000, -200), (2000, -180)], kl=0.0)
    assert results("page") == 0
    page = (tmp_path / "docs" / "results.md").read_text()

    assert "mean return of **-65** (doing nothing: -100) on 4 unseen test tasks, after 3,000" in page
    assert "worst base task is hop (-80)" in page
    assert "within 20 steps in 50 % of 4 cases" in page
    assert "best of 2 seeds by training tasks; over all seeds the mean return is -75 to -65, -70 in the median" in page

    # (0.2 + 0.4) / 2 is the error of the median base task
    assert row(page, "mean return") == ["at least -60", "-65", "no"]
    assert row(page, "worst base task") == ["at least -120", "-80 (hop)", "yes"]
    assert row(page, "accuracy at step 20") == ["at least 95 %", "96 %", "yes"]
    assert row(page, "accuracy at step 100") == ["at least 99 %", "98 %", "no"]
    assert row(page, "right component within 20 steps of a change") == ["in 90 %", "50 %", "no"]
    assert row(page, "error, median base task") == ["at most 15 %", "30 %", "no"]
    assert "**2 of 6 targets are reached.**" in page

    # the median of the seeds is -190, -120, -60: PEARL's best, -120, at 2000 instead of 4000 steps; at 3000 it has -145
    common = ["the same", "20", "2.0 times fewer"]
    assert row(page, "TIGR", "2") == ["3,000", "-60 (-70 to -50)", "-60", "2,000", "2.0 times fewer", *common[1:]]
    assert row(page, "PEARL", "1") == ["4,500", "-130", "-145", "4,000", common[0], "40", common[0]]

    assert row(page, "hop", "2 to 4 m/s") == ["40 %", "-80", "-160"]
    assert row(page, "all", "", "30 % in the median") == ["-65", "-160"]
    recognised = row(page, "TIGR", "right component, change between base tasks")
    assert recognised == ["4", "20", "25 %", "50 %", "75 %", "25 %"]
    within = row(page, "TIGR", "followed, change within a base task")
    assert within == ["2", "4", "100 %", "100 %", "100 %", "0 %"]
    assert "-15, 15 % | -40, 40 % |" in page  # hop at the ends and 50 % beyond
    difference = "`inference.kl_weight` 0 instead of 0.1"
    assert row(page, "no kl", difference) == ["1", "2,000", "-180", "-120", "\N{EN DASH}", "\N{EN DASH}"]
    cost = row(page, "pearl", "`made_up`")
    assert cost == ["3,000", "0", "30", "4 of 9", "5,000", "0.8", "abacus"]

    pictures = {f"HalfCheetahEight-v0_{name}" for name in ("curves", "confusion", "changes", "generalisation")}
    pictures.add("HalfCheetahEight-v0_ablations")
    assert {file.stem for file in (tmp_path / "docs" / "images" / "results").iterdir()} == pictures
    assert all(f"(images/results/{name}.png)" in page for name in pictures)


def test_specialists_stand_beside_the_policy_that_they_taught(
    results: Command, store: Callable[..., Path], tmp_path: Path
) -> None:
    folder = store("tigr", [-40, -60, -70, -90], [(1000, -200)]).parent / "specialists"
    folder.mkdir()
    curve = "env_steps,sac_steps,wall_s,test_return\n0,0,1,-200\n4000,100,300,\n8000,200,600,-30\n"
    (folder / "hop.csv").write_text(curve)
    assert results("page") == 0
    page = (tmp_path / "docs" / "results.md").read_text()
    assert row(page, "hop", "8,000") == ["200", "10", "-30", "-80"]
    assert "HalfCheetahEight-v0_specialists.png" in page


def test_parts_of_inference_are_means_over_seeds(results: Command, store: Callable[..., Path], tmp_path: Path) -> None:
    store("tigr", [-40, -60, -70, -90], [(1000, -200)])
    stored = "variant,seed,steps,accuracy/5,state,reward\nall,0,70,0.5,0.1,0.2\nall,1,70,0.7,0.3,0.2\nnone,0,70,0,1,1\n"
    (tmp_path / "results" / "inference_parts.csv").write_text(stored)
    assert results("page") == 0
    page = (tmp_path / "docs" / "results.md").read_text()
    assert row(page, "all", "2") == ["70", "60 %", "20 %", "20 %"]
    assert row(page, "none", "1") == ["70", "0 %", "100 %", "100 %"]


def test_contexts_are_medians_of_all_seeds(results: Command, store: Callable[..., Path], tmp_path: Path) -> None:
    store("tigr", [-40, -60, -70, -90], [(1000, -200)])
    stored = "variant,seed,test_return,accuracy,wall_s\n" + "".join(
        f"model.context=window model.context_length=5,{seed},{value},{0.1 * seed},{30 + seed}\n"
        for seed, value in enumerate((-9, -12, -30))
    )
    (tmp_path / "results" / "context_point_robot.csv").write_text(stored)
    untimed = "variant,seed,test_return,accuracy\nmodel.context=stream,0,-95,0.5\n"
    (tmp_path / "results" / "context_half_cheetah.csv").write_text(untimed)
    assert results("page") == 0
    page = (tmp_path / "docs" / "results.md").read_text()
    assert row(page, "window of 5") == ["-12 (-9, -12, -30)", "10 %", "31 s"]
    assert row(page, "stream") == ["-95 (-95)", "50 %"]


def test_encoders_learn_anew_from_the_episodes_of_a_run(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    sizes = ["training.epochs=1", "inference.first_epoch_steps=0", "sac.steps_per_epoch=0"]
    config = load_config("point_robot", [*sizes, "training.exploration_episodes=5"])
    with closing(LocalCollector(config.env, num_threads=1)) as collector:
        Trainer(config, tmp_path / "run", collector=collector, progress=make_progress(io.StringIO())).run()
    learn = load("inference_parts").main
    found = []
    for name, steps in (("none", 0), ("some", 200)):
        table = tmp_path / f"{name}.csv"
        variants = ["--variants", "all parts", "no separation"]
        learn([str(tmp_path / "run"), "--steps", str(steps), *variants, "--output", str(table)])
        with table.open() as file:
            rows = list(csv.DictReader(file))
        assert [row["variant"] for row in rows] == ["all parts", "no separation"]
        found.append([float(row["accuracy/10"]) for row in rows])
    none, some = found
    assert none[0] == none[1] and some[0] != some[1]
    assert some[0] > none[0] + 0.2
    with pytest.raises(SystemExit, match="no checkpoint at"):
        learn([str(tmp_path / "nowhere")])


def test_the_page_is_the_same_when_it_is_built_again(
    results: Command, store: Callable[..., Path], tmp_path: Path
) -> None:
    store("other", [-40, -60, -70, -90], [(1000, -200), (2000, -100)])
    written = []
    for _ in range(2):
        assert results("page") == 0
        written.append({file: file.read_bytes() for file in (tmp_path / "docs").rglob("*") if file.is_file()})
    assert written[0] == written[1]


def test_the_page_in_the_repository_tells_the_numbers_stored_beside_it(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    stored, page = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
    assert page.is_file() == any(stored.glob("*/*/run.csv"))
    if page.is_file():
        assert load("results_page").write_page(stored, tmp_path).read_text() == page.read_text()


def save_bundle(file: Path, *settings: str, **model: Any) -> None:
    """Save an untrained policy for the point robot, which says that it was trained for 160 steps."""
    shorter = ("env.num_test_tasks=6", "env.num_train_tasks=8", "training.task_change_steps=12")
    config = load_config("point_robot", [*shorter, *settings])
    bundle = tiny_bundle(config.env.id, **model)
    told = {"config": config.model_dump(mode="json"), "evaluation": {"train_return": -20.0}}
    source = bundle.info.source.model_copy(update={**told, "env_steps": 160, "sac_steps": 5})
    replace(bundle, info=bundle.info.model_copy(update={"source": source})).save(file)


def test_a_measured_bundle_has_its_place_on_the_page(results: Command, tmp_path: Path) -> None:
    save_bundle(tmp_path / "teacher.tigr")
    save_bundle(tmp_path / "best.tigr", f"sac.teachers=[{tmp_path / 'teacher.tigr'}]")
    columns = ["epoch", "env_steps", "inference_steps", "sac_steps", "wall_s", "test_return"]
    log = RunLog(tmp_path, columns)
    for values in ([0, 80, 0, 0, 1.5, -30.0], [1, 160, 7, 5, 120.0, -20.0], [2, 240, 14, 10, 240.0, np.nan]):
        log.append(dict(zip(columns, values, strict=True)))
    log.close()
    arguments = ("--name", "tigr", "--run", tmp_path, "--machine", "abacus")
    assert results("measure", tmp_path / "best.tigr", *arguments) == 0
    files = {file.stem for file in (tmp_path / "results" / "PointRobotAxes-v0" / "tigr").iterdir()}
    assert files == {*ALWAYS, "curve", "accuracy", "confusion", "changes"}

    assert results("page") == 0
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "on 6 unseen test tasks, after 160 environment" in page
    assert "The specialists that taught it took 160 environment steps more" in page
    assert row(page, "tigr", "`point_robot`") == ["160", "7", "5", "2 of 10", "240", "4.0", "abacus"]
    for kind in ("right component, change between base tasks", "followed, change within a base task"):
        assert int(row(page, "TIGR", kind)[0]) >= 40


@pytest.mark.parametrize(
    ("settings", "model", "more"),
    [
        (["sac.told_share=1.0", "training.told_share=1.0"], {"latent_dim": 4}, set()),
        (
            [f"model.{s}" for s in ("method=pearl", "num_components=1")]
            + [f"inference.{s}=0" for s in ("steps_per_epoch", "first_epoch_steps")],
            {"method": "pearl", "num_components": 1},
            {"changes"},
        ),
    ],
)
def test_only_what_means_something_is_measured(
    settings: list[str], model: dict[str, Any], more: set[str], results: Command, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "best.tigr", *settings, **model)
    assert results("measure", tmp_path / "best.tigr", "--name", "other") == 0
    files = {file.stem for file in (tmp_path / "results" / "PointRobotAxes-v0" / "other").iterdir()}
    assert files == {*ALWAYS, *more}
    assert results("page") == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tests.csv").write_text("base_task,parameter,return\n"), "no column error"),
        (lambda folder: (folder / "tests.csv").unlink(), "tests.csv"),
        (lambda folder: (folder / "run.csv").write_text("key,value\nseed,0\n"), "no row env_id"),
        (lambda folder: (folder / "run.csv").unlink(), "no measured run"),
    ],
)
def test_unfit_data_is_one_clear_message(
    damage: Callable[[Path], object],
    message: str,
    results: Command,
    store: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(store("tigr", [-40, -60, -70, -90], [(1000, -200)]))
    assert results("page") == 2
    error = capsys.readouterr().err
    assert message in error and "fix:" in error


def test_what_cannot_be_measured_is_one_clear_message(
    results: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results("measure", tmp_path / "none.tigr", "--name", "tigr") == 2
    assert "no bundle at" in capsys.readouterr().err
    assert results("measure", tmp_path / "none.tigr", "--name", "../x") == 2
    assert "--name" in capsys.readouterr().err
    bundle = tmp_path / "best.tigr"
    tiny_bundle("tigr/PointRobotAxes-v0", bundle)
    RunLog(tmp_path, ["epoch", "env_steps", "sac_steps"]).close()
    assert results("measure", bundle, "--name", "tigr", "--run", tmp_path) == 2
    assert "has no epoch with 0 env steps" in capsys.readouterr().err
