# SPDX-License-Identifier: Apache-2.0
"""Draws docs/images/meta_world.png, with Meta-World's own renderer: needs the extra ``metaworld``.

    MUJOCO_GL=egl python docs/draw_meta_world.py           # or osmesa, where there is no graphics driver at all

Each task of ML10 once, after some steps of its scripted policy; the five that are held out last.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from envs.meta_world_simulator import Simulator
from envs.meta_world_tasks import ML10
from tigr_core.colours import base_task_colour

PICTURE = Path(__file__).parent / "images" / "meta_world.png"
COLUMNS, WIDTH_IN, HEIGHT_IN, DPI = 5, 2.0, 1.7, 100
STEPS, COLOURS = 70, 128
TOP, BOTTOM = 100, 460  # rows of a picture that show the table


def main() -> None:
    rng = np.random.default_rng(0)
    rows = -(-len(ML10) // COLUMNS)
    figure = Figure(figsize=(WIDTH_IN * COLUMNS, HEIGHT_IN * rows), dpi=DPI)
    for label, (axes, base_task) in enumerate(zip(figure.subplots(rows, COLUMNS).flat, ML10, strict=False)):
        with closing(Simulator(base_task.name, camera="corner2")) as simulator:
            state = simulator.begin(tuple(base_task.sample(rng)))
            for _ in range(STEPS):
                state = simulator.step(simulator.scripted_ctrl(state))
            axes.imshow(simulator.picture()[TOP:BOTTOM])
        axes.set_title(base_task.name + (" (held out)" if base_task.held_out else ""), fontsize=8, pad=3)
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set(color=base_task_colour(label), linewidth=2)
    figure.tight_layout(pad=0.3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {len(ML10)} tasks")


if __name__ == "__main__":
    main()
