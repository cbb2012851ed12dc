# SPDX-License-Identifier: Apache-2.0
"""Numbers as the results page writes them; what does not exist is a dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

DASH = "\N{EN DASH}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(text: str, otherwise: float = math.nan) -> float:
    return float(text) if text else otherwise


def short(value: float) -> str:
    """Three digits."""
    if math.isnan(value):
        return DASH
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share in per cent, three digits."""
    return DASH if math.isnan(share) else f"{100 * share:.3g} %"


def count(value: float | str) -> str:
    """Write a whole number."""
    value = number(value) if isinstance(value, str) else value
    return DASH if math.isnan(value) else f"{value:,.0f}"


def times(more: float, fewer: float) -> str:
    """Write how many times fewer, or more."""
    if not fewer > 0 or not more > 0:
        return DASH
    if more == fewer:
        return "the same"
    return f"{more / fewer:.1f} times fewer" if more > fewer else f"{fewer / more:.1f} times more"


def minutes(seconds: float | str) -> str:
    """Write seconds in minutes."""
    value = number(seconds) if isinstance(seconds, str) else seconds
    return DASH if math.isnan(value) else f"{value / 60:.0f}" if value >= 600 else f"{value / 60:.1f}"


def error_text(error: float, reward: str, unit: str) -> str:
    """Write an error: a share of the target, in the unit, or not at all where more than the target is better."""
    return {"relative": percent(error), "absolute": f"{short(error)} {unit}"}.get(reward, DASH)
