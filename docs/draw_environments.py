# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/environments.png.

    python docs/draw_environments.py

Each environment once, with a task of it, after a few random steps.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import envs
from envs.tasks import TaskLike
from tigr_core.colours import base_task_colour
from tigr_core.scene import Scene
from tigr_core.targets import target_strokes
from tigr_core.video import SMALL

PICTURE = Path(__file__).parent / "images" / "environments.png"
COLUMNS, WIDTH_IN, HEIGHT_IN, DPI = 4, 10.0, 2.1, 110
SHOWN: dict[str, tuple[TaskLike, int]] = {  # a task, and random steps before the picture
    "tigr/HalfCheetahEight-v0": (("velocity_forward", 3.0), 12),
    "tigr/HalfCheetahDir-v0": (("direction_backward", -1.0), 20),
    "tigr/HalfCheetahVel-v0": (("velocity", 2.0), 16),
    "tigr/AntNine-v0": (("velocity_up", 3.0), 10),
    "tigr/AntDir-v0": (("direction", 5.5), 16),
    "tigr/AntGoal-v0": (("goal_2D", (1.0, 0.6)), 12),
    "tigr/HumanoidDir-v0": (("direction", 0.3), 12),
    "tigr/WalkerRandParams-v0": (("run", (0.0,) * 28), 14),
    "tigr/HopperRandParams-v0": (("run", (0.0,) * 16), 20),
    "tigr/PointRobot-v0": (("goal", (0.6, 0.5)), 5),
    "tigr/PointRobotAxes-v0": (("goal_left", 0.7), 5),
    "tigr/SparsePointRobot-v0": (("goal_on_arc", 1.0), 5),
}


def main() -> None:
    rows = -(-len(SHOWN) // COLUMNS)
    with rc_context(SMALL):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN * rows), dpi=DPI)
        grid = figure.subplots(rows, COLUMNS)
        figure.subplots_adjust(0.03, 0.05, 0.98, 0.93, 0.26, 0.42)
        for axes, (env_id, (task, steps)) in zip(grid.flat, SHOWN.items(), strict=False):
            with closing(envs.make_vector(env_id)) as env, closing(envs.ENVIRONMENTS[env_id].make_robot(1)) as robot:
                env.reset(seed=1, options={"tasks": [task]})
                rng = np.random.default_rng(0)
                for _ in range(steps):
                    env.step(rng.uniform(-1.0, 1.0, env.action_space.shape))
                capsules, now = robot.capsules(env.joint_positions[0]), env.tasks[0]
                base_task = env.task_set.base_tasks[now.index]
                target = target_strokes(base_task, now.parameter, capsules.centre)
                scene = Scene(axes, robot.view)
                scene.show(capsules, target, [], base_task_colour(now.index))
            axes.set_title(f"{env_id.removeprefix('tigr/')}\n{base_task.describe(now.parameter)}", fontsize=8)
            axes.set(xlabel="", ylabel="")
            axes.xaxis.set_major_formatter("{x:.0f} m")
            axes.yaxis.set_major_formatter("{x:.0f} m")
        FigureCanvasAgg(figure).print_png(PICTURE)
    print(f"{PICTURE}: {len(SHOWN)} environments")


if __name__ == "__main__":
    main()
