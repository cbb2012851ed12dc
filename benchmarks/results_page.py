# SPDX-License-Identifier: Apache-2.0
"""The results page: text, tables and pictures from stored measurements alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import results_plots
from results_data import ALL, Run, Table, pairs, read_runs
from results_numbers import (
    accuracy,
    band,
    best,
    difference,
    first_reaching,
    median_error,
    steps_after_changes,
    value_at,
    worst_base_task,
)
from results_parts import contexts, inference_parts, specialists_table
from results_plots import Group
from results_text import DASH, count, error_text, minutes, percent, short, table, times

from tigr_core import plots
from tigr_core.colours import base_task_colour
from tigr_core.files import write_atomically
from tigr_core.plots import INK, spoken

EIGHT = "HalfCheetahEight-v0"  # the task set that has targets; it comes first
TARGET_RETURN, TARGET_WORST, TARGET_ERROR = -60.0, -120.0, 0.15
TARGET_ACCURACY = {"20": 0.95, "100": 0.99}
TARGET_STEPS, TARGET_SHARE = 20, 0.90
LABELS = {
    "tigr": "TIGR",
    "pearl": "PEARL",
    "told": "told the task (oracle)",
}
ABLATION = "ablation_"
SPECIALISTS = "specialists"  # a folder beside the runs, with a progress.csv for each base task

HOW = """\
One deterministic policy (the most likely action, the mean of z) on tasks that training did not see; a task is one
episode. *Return* is the undiscounted sum of rewards. *Error* is |value - parameter| / |parameter|, the mean over the
second half of the episode. *Accuracy* is the share of episodes in which the most likely component is that of the true
base task after so many steps. The bundle of a run is its best by return on *training* tasks; among seeds, the tables
show the one whose bundle is best in the same sense. Curves with several seeds are their median, and the range
shaded. Repeat it with

    tigr train CONFIGURATION --seed 0
    python benchmarks/results.py measure RUN/best.tigr --run RUN --name NAME
    python benchmarks/results.py page

The numbers are in `benchmarks/results/`, with the whole configuration of each run."""

CHANGES = """\
Episodes in which the task changes every {steps} steps, twice: from the test tasks to tasks drawn at random (changes
*between* base tasks), and within each base task alone (changes *within*). The change is *recognised* from the first of
10 steps in a row whose most likely component is that of the new base task. It is *followed* from the first of 10 steps
whose mean reward is at most 0.1 (or 10 %) below that of undisturbed episodes of the base task, of the same policy; a
base task whose reward does not get better than three quarters of that for doing nothing is never followed. The way to
a far goal counts, too, and a task like the one before is followed at once."""


def write_page(results: Path, docs: Path) -> Path:
    """Write docs/results.md and its pictures; return the page. Raises `UserError` for data it cannot use."""
    sets = {name: TaskSet(name, runs, results / name / SPECIALISTS, docs) for name, runs in read_runs(results).items()}
    first, *others = sorted(sets.values(), key=lambda s: (s.name != EIGHT, s.name))
    parts = ["# Results", *first.parts("##")]
    for other in others:
        parts += [f"## {other.name}", *other.parts("###")]
    parts += [*inference_parts(results), *contexts(results)]
    parts += ["## How this was measured", HOW]
    page = docs / "results.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, lambda file: file.write(("\n\n".join(parts) + "\n").encode()))
    return page


class TaskSet:
    """All runs on one task set and their part of the page. `main` is the run that most tables are about."""

    def __init__(self, name: str, runs: Sequence[Run], specialists: Path, docs: Path) -> None:
        self.name, self.docs = name, docs
        groups: dict[str, list[Run]] = {}
        for run in runs:
            groups.setdefault(run.group, []).append(run)
        methods = [g for g in LABELS if g in groups]
        methods += [g for g in groups if g not in LABELS and not g.startswith(ABLATION)]
        ablations = [g for g in groups if g.startswith(ABLATION)]
        first = (methods or ablations)[0]
        self.main = best(groups[first])
        self.methods = [_group(g, groups[g], i, first) for i, g in enumerate(methods)]
        with_main = [first, *(a for a in ablations if a != first)]
        self.ablations = [_group(g, groups[g], i, first) for i, g in enumerate(with_main)][1:]
        self.main_group = _group(first, groups[first], 0, first)
        self.is_relative = all(reward == "relative" for reward in self.main["base_tasks"].text("reward"))
        self.has_targets = name == EIGHT
        files = {task: specialists / f"{task}.csv" for task in self.main.base_tasks}
        wanted = ("env_steps", "sac_steps", "wall_s", "test_return")
        self.specialists = {task: Table.read(file, wanted) for task, file in files.items() if file.is_file()}

    def parts(self, heading: str) -> Iterable[str]:
        """Yield paragraphs, tables and pictures."""
        yield self._summary()
        if any(len(band(group.runs, "env_steps", "test_return")) for group in self.methods):
            target = TARGET_RETURN if self.has_targets else None
            yield self._picture("curves", "Test return", results_plots.curves(self.methods, target))
        if self.has_targets:
            yield from (f"{heading} Targets", self._targets())
        if len(self.methods) > 1:
            yield from (f"{heading} Methods compared", *self._methods())
        yield from (f"{heading} Base tasks", self._base_tasks())
        if "accuracy" in self.main and "confusion" in self.main and len(self.main.base_tasks) > 1:
            yield from (f"{heading} Recognition", *self._recognition())
        if "changes" in self.main:
            yield from (f"{heading} After a change of the task", *self._changes())
        if self.main["generalisation"].text("base_task"):
            yield from (f"{heading} Outside the training range", *self._generalisation())
        if self.specialists:
            yield from (f"{heading} Specialists", *self._specialists())
        if self.ablations:
            yield from (f"{heading} What each part does", *self._ablations())
        yield from (f"{heading} Cost", self._cost())

    def _picture(self, name: str, caption: str, figure: results_plots.Figure) -> str:
        place = f"images/results/{self.name}_{name}.png"
        file = self.docs / place
        file.parent.mkdir(parents=True, exist_ok=True)
        results_plots.save(figure, file)
        return f"![{caption}]({place})"

    def _summary(self) -> str:
        run, facts = self.main, self.main.facts
        idle = f" (doing nothing: -{facts['episode_steps']})" if self.is_relative else ""
        text = [
            f"{self.main_group.label} reaches a mean return of **{short(run.test_return)}**{idle} on "
            f"{len(run['tests'].text('return'))} unseen test tasks, after {count(facts['env_steps'])} environment "
            f"steps and {count(facts['sac_steps'])} SAC steps."
        ]
        if pairs(run["settings"]).get("sac.teachers", "[]") != "[]":
            taught = facts["teacher_env_steps"]
            cost = f"took {count(taught)} environment steps more" if taught else "took steps that are not among these"
            text.append(f"The specialists that taught it {cost} ([how](method.md)).")
        if len(run.base_tasks) > 1:
            worst = worst_base_task(run)
            text.append(f"Its worst base task is {spoken(worst[0])} ({short(worst[1])}).")
        shares = {step: accuracy(run, step) for step in TARGET_ACCURACY}
        known = [f"after {step} steps in {percent(share)}" for step, share in shares.items() if not math.isnan(share)]
        if known and len(run.base_tasks) > 1:
            text.append(f"It knows the base task {', '.join(known)} of the episodes.")
        changes = steps_after_changes(run, "between", "recognised")
        if len(changes):
            text.append(
                f"After a change of base task it is right again within {TARGET_STEPS} steps in "
                f"{percent(float(np.mean(changes <= TARGET_STEPS)))} of {len(changes)} cases."
            )
        if self.is_relative:
            text.append(f"The error of the tracked value is {percent(median_error(run))} in the median base task.")
        for group in self.methods[1:]:
            other = best(group.runs)
            text.append(
                f"{group.label[0].upper()}{group.label[1:]}: {short(other.test_return)} after "
                f"{count(other.facts['env_steps'])} environment steps."
            )
        if self.has_targets:
            reached = [value for *_, value in self._target_rows()]
            text.append(f"**{sum(reached)} of {len(reached)} targets are reached.**")
        text.append(self._seeds())
        return "\n".join(text)

    def _seeds(self) -> str:
        runs = self.main_group.runs
        if len(runs) == 1:
            return "These are numbers of one training run."
        returns = sorted(run.test_return for run in runs)
        return (
            f"These are numbers of the best of {len(runs)} seeds by training tasks; over all seeds the mean return is "
            f"{short(returns[0])} to {short(returns[-1])}, {short(float(np.median(returns)))} in the median."
        )

    def _target_rows(self) -> list[tuple[str, str, str, bool]]:
        run = self.main
        name, lowest = worst_base_task(run)
        changes = steps_after_changes(run, "between", "recognised")
        share = float(np.mean(changes <= TARGET_STEPS)) if len(changes) else math.nan
        error = median_error(run)
        return [
            ("mean return", f"at least {TARGET_RETURN:.0f}", short(run.test_return), run.test_return >= TARGET_RETURN),
            (
                "worst base task",
                f"at least {TARGET_WORST:.0f}",
                f"{short(lowest)} ({spoken(name)})",
                lowest >= TARGET_WORST,
            ),
            *(
                (f"accuracy at step {step}", f"at least {percent(least)}", percent(got), got >= least)
                for step, least in TARGET_ACCURACY.items()
                for got in [accuracy(run, step)]
            ),
            (
                f"right component within {TARGET_STEPS} steps of a change",
                f"in {percent(TARGET_SHARE)}",
                percent(share),
                share >= TARGET_SHARE,
            ),
            ("error, median base task", f"at most {percent(TARGET_ERROR)}", percent(error), error <= TARGET_ERROR),
        ]

    def _targets(self) -> str:
        rows = [(*texts, "yes" if value else "no") for *texts, value in self._target_rows()]
        return table(("", "target", "measured", "reached"), rows)

    def _methods(self) -> Iterable[str]:
        pearl = next((g for g in self.methods if g.label == LABELS["pearl"]), None)
        level, reached = math.nan, {"env_steps": math.nan, "sac_steps": math.nan}
        if pearl is not None and len(points := band(pearl.runs, "env_steps", "test_return")):
            level = points[:, 2].max()
            reached = {x: first_reaching(pearl.runs, x, level) for x in reached}
        bands = [(group, band(group.runs, "env_steps", "test_return")) for group in self.methods]
        bands = [(group, points) for group, points in bands if len(points)]
        common = min((points[-1, 0] for _, points in bands), default=math.nan)
        rows = []
        for group, points in bands:
            last, low, median, high = points[-1]
            steps = {x: first_reaching(group.runs, x, level) for x in reached}
            rows.append(
                (
                    *(group.label, str(len(group.runs)), count(last)),
                    short(median) + (f" ({short(low)} to {short(high)})" if len(group.runs) > 1 else ""),
                    short(value_at(group.runs, "test_return", common)),
                    *(count(steps["env_steps"]), times(reached["env_steps"], steps["env_steps"])),
                    *(count(steps["sac_steps"]), times(reached["sac_steps"], steps["sac_steps"])),
                )
            )
        if not math.isnan(level):
            yield (
                f"Environment and SAC steps until the test return reaches {short(level)}, PEARL's best one, and how "
                "many times fewer these are than the steps after which PEARL first reaches it."
            )
        header = ("", "seeds", "env steps", "last test return", f"at {count(common)} env steps")
        yield table((*header, "env steps to PEARL's best", "", "SAC steps to it", ""), rows)

    def _base_tasks(self) -> str:
        run, tasks = self.main, self.main["base_tasks"]
        compared = [best(group.runs) for group in self.methods]
        returns, errors = [other.per_base_task("return") for other in compared], run.per_base_task("error")
        ranges = zip(tasks.numbers("low"), tasks.numbers("high"), tasks.text("unit"), tasks.text("reward"), strict=True)
        rows = [
            (
                *(spoken(name), f"{low:.3g} to {high:.3g} {unit}" if low < high else f"{low:.3g} {unit}"),
                error_text(errors[name], reward, unit),
                *(short(values[name]) for values in returns),
            )
            for name, (low, high, unit, reward) in zip(run.base_tasks, ranges, strict=True)
        ]
        if len(rows) > 1:
            error = f"{percent(median_error(run))} in the median" if self.is_relative else ""
            rows.append(("all", "", error, *(short(other.test_return) for other in compared)))
        labels = [f"return: {group.label}" for group in self.methods]
        return table(("base task", "parameter", f"error: {self.main_group.label}", *labels), rows)

    def _recognition(self) -> Iterable[str]:
        run = self.main
        steps = [name for name in run["accuracy"].columns if name != "base_task"]
        rows = [(spoken(name), *(percent(accuracy(run, step, name)) for step in steps)) for name in run.base_tasks]
        rows.append((ALL, *(percent(accuracy(run, step)) for step in steps)))
        yield table(("accuracy", *(f"step {step}" for step in steps)), rows)
        shares = np.stack([run["confusion"].numbers(name) for name in run.base_tasks], axis=1)
        step = run.facts["confusion_step"]
        yield f"Inferred base task after {step} steps, in per cent of the test episodes of each true one:"
        yield self._picture("confusion", "Confusion matrix", plots.confusion_matrix(shares, run.base_tasks))

    def _changes(self) -> Iterable[str]:
        longest = int(self.main.facts["change_steps"])
        names = {
            "right component, change between base tasks": ("between", "recognised"),
            "followed, change between base tasks": ("between", "followed"),
            "followed, change within a base task": ("within", "followed"),
        }
        lines = {label: steps_after_changes(self.main, *which) for label, which in names.items()}
        lines = {label: steps for label, steps in lines.items() if len(steps)}
        target = (TARGET_STEPS, TARGET_SHARE) if self.has_targets else None
        figure = results_plots.adaptation(lines, longest, float(self.main.facts["control_dt"]), target)
        yield CHANGES.format(steps=longest)
        yield self._picture("changes", "Steps until a change is recognised and followed", figure)
        rows = []
        for group in self.methods:
            run = best(group.runs)
            for label, which in names.items():
                if len(steps := steps_after_changes(run, *which)):
                    middle = np.median(np.where(np.isnan(steps), np.inf, steps))
                    within = [percent(float(np.mean(steps <= n))) for n in (10, TARGET_STEPS, 50)]
                    never = percent(float(np.isnan(steps).mean()))
                    median = f"{middle:.0f}" if np.isfinite(middle) else "never"
                    rows.append((group.label, label, str(len(steps)), median, *within, never))
        yield table(("", "", "changes", "median", "within 10", f"within {TARGET_STEPS}", "within 50", "never"), rows)

    def _generalisation(self) -> Iterable[str]:
        outside = self.main["generalisation"]
        beyond, names = outside.numbers("beyond"), np.array(outside.text("base_task"))
        yield (
            "Parameters beyond each end of the training range, by a share of that end (10 % beyond 5 is 5.5, beyond "
            "1 it is 0.9), three episodes each; below, the mean over both ends."
        )
        if not any(" " in parameter for parameter in outside.text("parameter")):
            yield self._picture(
                "generalisation",
                "Error against the parameter",
                results_plots.generalisation(self.main),
            )
            yield (
                "Filled: test tasks. Hollow: at and beyond the ends of the shaded range of the training tasks. Errors "
                "above 120 % are drawn there."
            )
        tasks = self.main["base_tasks"]
        rows = []
        for label, name in enumerate(self.main.base_tasks):
            if name in names:
                reward, unit = tasks.text("reward")[label], tasks.text("unit")[label]
                cells = []
                for share in np.unique(beyond):
                    mine = (names == name) & (beyond == share)
                    if not mine.any():
                        cells.append(DASH)
                        continue
                    returns, error = (float(outside.numbers(c)[mine].mean()) for c in ("return", "error"))
                    cells.append(f"{short(returns)}, {error_text(error, reward, unit)}")
                rows.append((spoken(name), *cells))
        header = [percent(share) + " beyond" if share else "at the ends" for share in np.unique(beyond)]
        yield table(("return, error", *header), rows)

    def _specialists(self) -> Iterable[str]:
        yield "Policies that are told their tasks, each of one base task alone, from whom one policy for all learns."
        figure = results_plots.specialists(self.specialists, self.main.base_tasks)
        yield self._picture("specialists", "Test return of the specialists", figure)
        yield specialists_table(self.specialists, self.main, self.main_group.label)

    def _ablations(self) -> Iterable[str]:
        main = band(self.main_group.runs, "env_steps", "test_return")
        shown = [g for g in self.ablations if len(band(g.runs, "env_steps", "test_return"))]
        if len(main) and shown:
            figure = results_plots.curves([self.main_group, *shown], None)
            yield self._picture("ablations", "Test return with one part changed", figure)
        rows = []
        for group in self.ablations:
            cells = [DASH] * 5
            points = band(group.runs, "env_steps", "test_return")
            if len(main) and len(points):
                steps = min(main[-1, 0], points[-1, 0])
                values = [
                    value_at(runs, column, steps)
                    for column in ("test_return", "component_accuracy/20")
                    for runs in (group.runs, self.main_group.runs)
                ]
                cells = [count(steps), *map(short, values[:2]), *map(percent, values[2:])]
            rows.append((group.label, difference(group.runs[0], self.main), str(len(group.runs)), *cells))
        yield f"Last evaluations at equal environment steps, beside {self.main_group.label} at the same steps."
        name = self.main_group.label
        yield table(
            (
                *("", "what differs", "seeds", "env steps"),
                *("return", f"return of {name}", "accuracy at 20", f"accuracy of {name}"),
            ),
            rows,
        )

    def _cost(self) -> str:
        rows = []
        for group in (*self.methods, *self.ablations):
            for run in group.runs:
                facts = run.facts
                epochs, steps, wall = DASH, facts["env_steps"], facts["wall_s"]
                if "curve" in run:
                    last = {name: run["curve"].numbers(name)[-1] for name in ("epoch", "env_steps", "wall_s")}
                    epochs = f"{last['epoch']:.0f} of {pairs(run['settings']).get('training.epochs', DASH)}"
                    steps, wall = last["env_steps"], last["wall_s"]
                done = (facts[name] for name in ("env_steps", "inference_steps", "sac_steps"))
                cells = (spoken(run.name), f"`{facts['config']}`", *map(count, done), epochs, count(steps))
                rows.append((*cells, minutes(wall), facts["machine"]))
        header = ("run", "configuration", "bundle: env steps", "inference steps", "SAC steps")
        return table((*header, "run: epochs", "env steps", "minutes", "machine"), rows)


def _group(name: str, runs: Sequence[Run], place: int, main: str) -> Group:
    label = LABELS.get(name) or spoken(name.removeprefix(ABLATION))
    told = name == "told"
    return Group(label, runs, INK if told else base_task_colour(place), emphasis=name == main, dashed=told)
