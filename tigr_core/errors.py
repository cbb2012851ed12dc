# SPDX-License-Identifier: Apache-2.0
"""The one exception for mistakes a user can mend: the command line prints it without a trace-back and exits with 2."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A mistake in the input or the surroundings. The message says what was found, what was expected and the fix."""

    def __init__(self, found: str, *, expected: str, fix: str) -> None:
        super().__init__(f"{found}\n  expected: {expected}\n  fix: {fix}")
        self.found, self.expected, self.fix = found, expected, fix

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole."""
        return functools.partial(type(self), self.found, expected=self.expected, fix=self.fix), ()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
