# SPDX-License-Identifier: Apache-2.0
"""The trained policies that come with the package."""

from __future__ import annotations

from pathlib import Path

import tigr_core

DEFAULT = "half_cheetah_eight.tigr"  # shows most of what there is


def shipped_bundles() -> list[Path]:
    """Return the bundles of this installation."""
    return sorted((Path(tigr_core.__file__).parent / "bundles").glob("*.tigr"))


def shipped_bundle() -> Path | None:
    """Return the bundle to take where none is named, if this installation has it."""
    return next((path for path in shipped_bundles() if path.name == DEFAULT), None)
