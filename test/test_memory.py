# SPDX-License-Identifier: Apache-2.0
"""What is freed is kept for what is asked for next."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

ROUNDS = """
import resource
from tigr_core.memory import keep_freed_memory

keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * (16 << 20) for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_blocks_that_are_asked_for_again_cause_no_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", ROUNDS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of 16,384 pages
