# SPDX-License-Identifier: Apache-2.0
"""One fixed colour per base task, the same in reports, rviz and terminals; no plotting library is needed."""

from __future__ import annotations

import numpy as np

Colour = tuple[float, float, float]

# Okabe and Ito's palette for colour-blind readers (2008) without its black and its yellow, which do not show on black
# and on white. Those after it were searched: of all colours of middle lightness the farthest from the ones before,
# from the grey of robots and from black, to whichever eye they look nearest.
_PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#8A2BE2", "#74471F", "#B4B469", "#9687FF", "#E11E4B", "#5A00FF", "#D2A5A5"),
)


def base_task_colour(index: int) -> Colour:
    """Return red, green, blue in [0, 1]. Beyond the palette the colours repeat, each time darker."""
    turn, place = divmod(index, len(_PALETTE))
    code = _PALETTE[place]
    red, green, blue = (int(code[i : i + 2], 16) / 255 * 0.65**turn for i in (1, 3, 5))
    return red, green, blue


def component_colours(component_to_task: np.ndarray) -> list[Colour]:
    """Return a colour per component [K]: that of its base task, paler for the task's further components."""
    colours: list[Colour] = []
    for component, task in enumerate(component_to_task.tolist()):
        siblings = component_to_task == task
        strength = 1 - 0.75 * siblings[:component].sum() / siblings.sum()
        red, green, blue = (float(1 - (1 - channel) * strength) for channel in base_task_colour(task))
        colours.append((red, green, blue))
    return colours
