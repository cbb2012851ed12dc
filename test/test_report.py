# SPDX-License-Identifier: Apache-2.0
"""The report page: complete, self-contained, and written for small and unfinished runs as well."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from math import nan
from pathlib import Path

import numpy as np
import pytest

from tigr_core import colours, plots
from tigr_core.report import write_report
from tigr_core.rollout import Episodes

SECTIONS = [
    "headline",
    "learning",
    "tracking",
    "latent",
    "accuracy",
    "confusion",
    "adaptation",
    "configuration",
]


@dataclass(frozen=True)
class NamedTask:
    name: str
    unit: str


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.figures = 0
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "section":
            self.sections.append(values["id"] or "")
        self.figures += tag == "svg"
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def record(num_base_tasks: int, num_components: int, latent_dim: int, *, change: bool = False) -> Episodes:
    """Six episodes of 20 steps with random numbers; with `change`, the task differs in the second half."""
    rng = np.random.default_rng(0)
    num, steps = 6, 20
    label = np.repeat((np.arange(num) % num_base_tasks)[:, None], steps, axis=1)
    if change:
        label[:, 10:] = (label[:, 10:] + 1) % num_base_tasks
    return Episodes(
        obs=np.zeros((num, steps + 1, 2)),
        action=np.zeros((num, steps, 1)),
        reward=-rng.random((num, steps)),
        terminated=np.zeros((num, steps), dtype=bool),
        length=np.full(num, steps),
        base_task=label,
        parameter=rng.random((num, 1, 1)).repeat(steps, axis=1),
        quantities=np.zeros((num, steps, 1)),
        tracked_value=rng.random((num, steps)),
        tracked_target=np.ones((num, steps)),
        tracking_error=rng.random((num, steps)),
        mixture_weights=rng.dirichlet(np.ones(num_components), (num, steps + 1)),
        latent=rng.normal(size=(num, steps + 1, latent_dim)),
    )


PROGRESS = {
    "epoch": [1.0, 2.0, 3.0],
    "env_steps": [100.0, 200.0, 300.0],
    "train_return": [-20.0, -19.0, -15.0],
    "test_return": [-21.5, nan, -12.25],
    "test_return/goal_left": [-30.0, nan, -11.0],
    "test_return/goal_right": [-13.0, nan, -13.5],
    "component_accuracy/10": [0.5, nan, 0.9],
}


def write(path: Path, progress: dict[str, list[float]], num: int, test: Episodes, changes: Episodes | None) -> str:
    tasks = [NamedTask("goal_left", "m"), NamedTask("goal_right", "m")][:num]
    write_report(
        path / "report.html",
        progress=progress,
        test=test,
        changes=changes,
        base_tasks=tasks,
        component_to_task=np.arange(test.mixture_weights.shape[2]) % num,
        control_dt=0.05,
        summary={"environment": "tigr/PointRobotAxes-v0", "seed": 3, "environment steps": 1_920_000},
        config_text="env:\n  note: <b>&",
    )
    return (path / "report.html").read_text(encoding="utf-8")


def test_the_page_has_every_section_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    text = write(tmp_path, PROGRESS, 2, record(2, 3, 4), record(2, 3, 4, change=True))
    page = Page(text)
    assert page.sections == SECTIONS
    assert page.figures == 6
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in page.references)
    assert "http" not in text and "@import" not in text and not re.search(r"url\((?!#)", text)


def test_numbers_and_configuration_are_on_the_page(tmp_path: Path) -> None:
    text = write(tmp_path, PROGRESS, 2, record(2, 3, 4), None)
    minus = "\N{MINUS SIGN}"
    assert all(f"<td>{minus}{number}</td>" in text for number in ("30.0", "11.0", "13.5", "21.5"))  # first, last
    assert "1,920,000" in text
    assert "note: &lt;b&gt;&amp;" in text


def test_text_and_axes_follow_the_colour_of_the_page(tmp_path: Path) -> None:
    text = write(tmp_path, PROGRESS, 2, record(2, 2, 2), None)
    figures = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert plots.INK not in figures and "currentColor" in figures


@pytest.mark.parametrize("progress", [PROGRESS, {"epoch": [1.0], "env_steps": [9.0], "test_return": [nan]}, {}])
def test_one_component_one_task_one_latent_and_no_changes(tmp_path: Path, progress: dict[str, list[float]]) -> None:
    text = write(tmp_path, progress, 1, record(1, 1, 1), None)
    assert Page(text).sections == [name for name in SECTIONS if progress or name != "learning"]
    assert "No episodes with a task change" in text


def test_changes_of_the_parameter_alone_have_nothing_to_recover_from(tmp_path: Path) -> None:
    text = write(tmp_path, PROGRESS, 1, record(1, 1, 1), record(1, 1, 1, change=True))
    assert "0 of 0" in text


def test_a_policy_that_is_seldom_right_after_a_change_recovers_never(tmp_path: Path) -> None:
    changes = record(2, 2, 2, change=True)
    changes.mixture_weights[:] = np.eye(2)[np.arange(21) % 2]  # right at every other step, never five in a row
    text = write(tmp_path, PROGRESS, 2, record(2, 2, 2), changes)
    assert "<b>never</b><span>steps to recover after a change, median" in text and "0 of 6" in text


def test_examples_are_the_stationary_episodes_of_middle_return() -> None:
    episodes = record(2, 2, 2)
    episodes.reward[:] = np.array([-1, -9, -3, -7, -2, -8])[:, None]  # tasks 0 1 0 1 0 1
    assert plots.example_episodes(episodes) == [4, 5]


def test_every_base_task_and_component_has_a_colour_of_its_own() -> None:
    assert len({colours.base_task_colour(index) for index in range(50)}) == 50
    assert len(set(colours.component_colours(np.array([0, 0, 0, 1, 1])))) == 5
    assert colours.component_colours(np.array([1, 0]))[0] == plots.base_task_colour(1)
