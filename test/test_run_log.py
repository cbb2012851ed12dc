# SPDX-License-Identifier: Apache-2.0
"""progress.csv and TensorBoard: the same names, rows that survive a resume, damage that is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tigr_core.errors import UserError
from tigr_core.run_log import RunLog, read_progress

COLUMNS = ["epoch", "env_steps", "test_return/jump"]


def scalars(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def write(folder: Path, epochs: int) -> None:
    log = RunLog(folder, COLUMNS)
    for epoch in range(1, epochs + 1):
        log.append({"epoch": epoch, "env_steps": 1000 * epoch, "test_return/jump": -0.1 * epoch})
    log.close()


def test_rows_keep_the_order_of_the_columns_and_numbers_read_back_exactly(tmp_path: Path) -> None:
    log = RunLog(tmp_path, COLUMNS)
    log.append({"test_return/jump": -100 / 3, "epoch": 1, "env_steps": 16000.0})
    log.append({"epoch": 2, "env_steps": 32000, "test_return/jump": math.nan})
    text = (tmp_path / "progress.csv").read_text()  # on the disk before the log is closed
    assert text.splitlines()[0] == "epoch,env_steps,test_return/jump"
    assert text.splitlines()[2] == "2,32000,"
    table = read_progress(tmp_path / "progress.csv")
    assert table["env_steps"] == [16000.0, 32000.0]
    assert table["test_return/jump"][0] == -100 / 3 and math.isnan(table["test_return/jump"][1])
    log.close()


def test_tensorboard_has_the_same_tags_and_no_empty_values(tmp_path: Path) -> None:
    log = RunLog(tmp_path, COLUMNS)
    log.append({"epoch": 1, "env_steps": 10, "test_return/jump": -7.5})
    log.append({"epoch": 2, "env_steps": 20})
    log.close()
    accumulator = scalars(tmp_path)
    assert set(accumulator.Tags()["scalars"]) == set(COLUMNS[1:])
    assert [(e.step, e.value) for e in accumulator.Scalars("test_return/jump")] == [(1, -7.5)]
    assert [e.step for e in accumulator.Scalars("env_steps")] == [1, 2]


def test_a_name_that_is_no_column_is_an_error(tmp_path: Path) -> None:
    log = RunLog(tmp_path, COLUMNS)
    with pytest.raises(KeyError, match="train_retrun"):
        log.append({"epoch": 1, "train_retrun": 0.0})
    log.close()


def test_resume_drops_the_epochs_after_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, epochs=4)
    log = RunLog.resume(tmp_path, COLUMNS, epochs_done=2)
    assert read_progress(tmp_path / "progress.csv")["epoch"] == [1, 2]
    log.append({"epoch": 3, "env_steps": 99})
    log.close()
    assert read_progress(tmp_path / "progress.csv")["env_steps"] == [1000, 2000, 99]
    assert [e.value for e in scalars(tmp_path).Scalars("env_steps")] == [1000, 2000, 99]
    assert not list(tmp_path.glob("*.tmp"))


def test_resume_survives_a_row_cut_off_while_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, epochs=2)
    with (tmp_path / "progress.csv").open("a") as stream:
        stream.write("3,30")
    RunLog.resume(tmp_path, COLUMNS, epochs_done=2).close()
    assert read_progress(tmp_path / "progress.csv")["env_steps"] == [1000, 2000]


def test_resume_with_other_columns_names_the_difference(tmp_path: Path) -> None:
    write(tmp_path, epochs=1)
    with pytest.raises(UserError, match="test_return/flip"):
        RunLog.resume(tmp_path, [*COLUMNS, "test_return/flip"], epochs_done=1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "line 1"),
        ("time,value\n", "line 1"),
        ("epoch,a\n1,2\n2\n", "line 3 has 1 cells"),
        ("epoch,a\n1,2\n2,x7\n", "line 3, column a: found 'x7'"),
        ("epoch,a\n,2\n", "line 2, column epoch"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "progress.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=found):
        read_progress(file)


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_progress(tmp_path / "progress.csv")


def test_embedding_writes_the_vectors_and_labels(tmp_path: Path) -> None:
    log = RunLog(tmp_path, COLUMNS)
    log.embedding(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32), ["jump", "flip"], step=1)
    log.close()
    assert next(tmp_path.rglob("metadata.tsv")).read_text().split() == ["jump", "flip"]
    assert len(next(tmp_path.rglob("tensors.tsv")).read_text().splitlines()) == 2


def test_the_mixture_is_a_histogram_over_components_for_each_base_task(tmp_path: Path) -> None:
    log = RunLog(tmp_path, COLUMNS)
    log.mixture({"jump": np.array([0.1, 0.9]), "flip": np.array([1.0, 0.0])}, step=3)
    log.close()
    assert sorted(scalars(tmp_path).Tags()["histograms"]) == ["mixture/flip", "mixture/jump"]
    [event] = scalars(tmp_path).Histograms("mixture/jump")
    shown = event.histogram_value
    assert event.step == 3 and (shown.min, shown.max) == (-0.5, 1.5)
    assert dict(zip(shown.bucket_limit, shown.bucket, strict=True)) == pytest.approx({0.5: 0.1, 1.5: 0.9})
