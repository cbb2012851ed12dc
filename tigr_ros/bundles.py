# SPDX-License-Identifier: Apache-2.0
"""The trained policy that comes with the package."""

from __future__ import annotations

from pathlib import Path

import tigr_core


def shipped_bundle() -> Path | None:
    """Return the bundle to take where none is named, if this installation has one."""
    folder = Path(tigr_core.__file__).parent / "bundles"
    return next(iter(sorted(folder.glob("*.tigr"))), None)
