# SPDX-License-Identifier: Apache-2.0
"""Writing files so that nothing is ever lost: complete or not at all, and one writer a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tigr_core.errors import UserError


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write through a temporary file, fsync and rename; what was there stays until the new file is complete.

    Raises `UserError` when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # already renamed, or never made
            temporary.unlink()


def _unwritable(path: Path, error: Exception) -> UserError:
    if getattr(error, "errno", None) == errno.ENOSPC or "file write failed" in str(error):
        found, fix = f"no space left on the disk for {path}", "free some space, then go on with --resume"
    else:
        found, fix = (
            f"cannot write {path}: {error}",
            "choose another place with --output, or mend its permissions",
        )
    return UserError(found, expected="a writable disk; the previous file is untouched", fix=fix)


class FolderLock:
    """Holds a folder for one process (flock, so that a killed process leaves no stale lock)."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if need be and take the lock; raises `UserError` if it is taken or not writable."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / ".lock").open("w")
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(
                f"the run folder {folder} is in use by another process",
                expected="one training a folder",
                fix="wait for it or stop it, or choose another folder with --output",
            ) from None

    def release(self) -> None:
        """Let the folder go."""
        self._file.close()
