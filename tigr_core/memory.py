# SPDX-License-Identifier: Apache-2.0
"""How the process treats memory that it has freed."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h has them


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is asked for next, where it is glibc.

    A step of inference asks for tens of megabytes and frees them, with `window` contexts for gigabytes. Given back to
    the system in between, they come back as page faults: 6 % of a step of the fast mode, a third of one with windows.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return
    # Older releases refuse more than 32 MB. Without this, the second call would fix the threshold at 128 KB.
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in (1 << 30, 1 << 25)):
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
