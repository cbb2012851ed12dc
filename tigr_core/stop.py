# SPDX-License-Identifier: Apache-2.0
"""How a running training is told to return: it asks a function, between its steps and amid what takes long."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class Stop(IntEnum):
    """How soon to return, the work saved. A plain bool will do too: True is `AT_STEP`."""

    NO = 0
    AT_STEP = 1  # after the step or the collecting that is running; nothing has to be done twice
    AT_ONCE = 2  # give up what cannot be cut in two; it is done again when the training goes on


AskStop = Callable[[], int]


class Interrupted(Exception):
    """Work was given up for `Stop.AT_ONCE`; none of it was kept."""


def never() -> Stop:
    """Answer that there is no need to stop."""
    return Stop.NO


def give_way(stop: AskStop) -> None:
    """Raise `Interrupted` if the answer is `Stop.AT_ONCE`."""
    if stop() >= Stop.AT_ONCE:
        raise Interrupted
