# SPDX-License-Identifier: Apache-2.0
"""What the results page says of parts of a training: of specialists, and of what makes up the learning of inference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from results_data import Run, Table
from results_text import count, minutes, percent, short, table

from tigr_core.plots import spoken

INFERENCE_PARTS = "inference_parts.csv"

READ = """\
A `stream` carries its state from transition to transition; a `window` is read anew each time, here of the last 64
transitions or as many as it says. An episode of `point_robot` has 20. Test return and component accuracy at the end of
10 epochs, the median of the seeds and all of them, and the time of a run beside other work:

    python benchmarks/compare.py point_robot --variant model.context=stream --variant model.context=window \\
      --variant "model.context=window model.context_length=5" --csv benchmarks/results/context_point_robot.csv
"""

READ_HALF_CHEETAH = """\
The same on a half-cheetah that runs forward or backward, an episode of 200 steps: `quick`, 8 epochs and 80,000
environment steps, inference steps on 1,600 contexts each, windows of the last 16 transitions:

    python benchmarks/compare.py quick \\
      --set inference.batch_size=1600 training.epochs=8 training.evaluate_every=8 \\
      --variant model.context=stream --variant "model.context=window model.context_length=16" \\
      --csv benchmarks/results/context_half_cheetah.csv
"""

CONTEXTS = {"context_point_robot.csv": READ, "context_half_cheetah.csv": READ_HALF_CHEETAH}

PARTS = """\
Encoders and decoders that begin anew and learn from the same stored episodes of one run, each without one part
(`benchmarks/inference_parts.py`; the run of seed 0 at higher rates in [the method](method.md)). On sequences of its
validation episodes, whose task changes on the way: the share of right components so many transitions after a change,
each component standing for the base task that it is most often found for; and the errors of the decoder, as shares of
the variances."""


def specialists_table(curves: Mapping[str, Table], main: Run, label: str) -> str:
    """Compare the specialists, by base task, with the run of one policy for all, told nothing."""
    untold, rows, returns = main.per_base_task("return"), [], []
    for name, curve in curves.items():
        env_steps, sac_steps, wall, value = (
            float(curve.numbers(column)[-1]) for column in ("env_steps", "sac_steps", "wall_s", "test_return")
        )
        returns.append(value)
        cells = count(env_steps), count(sac_steps), minutes(wall), short(value), short(untold[name])
        rows.append((spoken(name), *cells))
    rows.append(("mean", "", "", "", short(float(np.mean(returns))), short(float(np.mean(list(untold.values()))))))
    header = ("base task", "env steps", "SAC steps", "minutes", "return: specialist", f"return: {label}, untold")
    return table(header, rows)


def inference_parts(results: Path) -> list[str]:
    """Return the section on what each part of inference does: means over seeds; nothing where none was measured."""
    file = results / INFERENCE_PARTS
    if not file.is_file():
        return []
    stored = Table.read(file, ("variant", "seed"))
    variant = np.array(stored.text("variant"))
    shares = [name for name in stored.columns if name.startswith("accuracy/")]
    rows = []
    for name in dict.fromkeys(stored.text("variant")):
        mine = variant == name
        cells = [percent(float(stored.numbers(column)[mine].mean())) for column in (*shares, "state", "reward")]
        rows.append((name, str(mine.sum()), count(stored.numbers("steps")[mine][0]), *cells))
    after = [f"{name.removeprefix('accuracy/')} after" for name in shares]
    shown = table(("", "seeds", "inference steps", *after, "error of state", "of reward"), rows)
    return ["## What each part of inference does", PARTS, shown]


def contexts(results: Path) -> list[str]:
    """Return the section on streams and windows; nothing where none was measured."""
    parts: list[str] = []
    for name, text in CONTEXTS.items():
        if (results / name).is_file():
            parts += [text, _contexts_table(Table.read(results / name, ("variant", "seed")))]
    return ["## How the context is read", *parts] if parts else []


def _contexts_table(stored: Table) -> str:
    variant, rows = np.array(stored.text("variant")), []
    timed = "wall_s" in stored.columns
    for name in dict.fromkeys(stored.text("variant")):
        returns, accuracy = (stored.numbers(column)[variant == name] for column in ("test_return", "accuracy"))
        spoken_name = name.replace("model.context=", "").replace("model.context_length=", "of ")
        every = ", ".join(short(value) for value in returns)
        cells = f"{short(float(np.median(returns)))} ({every})", percent(float(np.median(accuracy)))
        seconds = (f"{np.median(stored.numbers('wall_s')[variant == name]):.0f} s",) if timed else ()
        rows.append((spoken_name, *cells, *seconds))
    return table(("context", "test return", "accuracy", *(["time"] if timed else [])), rows)
