# SPDX-License-Identifier: Apache-2.0
"""The text of message definitions, as recordings carry it so that other tools can read them."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

SEPARATOR = "=" * 80
NESTED = re.compile(r"\b([a-z]\w*)/(\w+)\b")


def type_name(kind: type) -> str:
    """Return ``package/msg/Name`` of a message type."""
    return f"{_package(kind)}/msg/{kind.__name__}"


@cache
def definition(kind: type) -> str:
    """Return the definition of a message type, and after it those of all the types inside it."""
    name = f"{_package(kind)}/{kind.__name__}"
    texts, wanted = {name: _read(name)}, [kind]
    while wanted:
        for field in wanted.pop().get_fields_and_field_types().values():  # type: ignore[attr-defined]
            for package, inner in NESTED.findall(field):
                if f"{package}/{inner}" not in texts:
                    texts[f"{package}/{inner}"] = _read(f"{package}/{inner}")
                    wanted.append(getattr(__import__(f"{package}.msg").msg, inner))
    first, *others = texts.items()
    return "\n".join([first[1], *(f"{SEPARATOR}\nMSG: {inner}\n{text}" for inner, text in others)])


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _read(name: str) -> str:
    package, _, message = name.partition("/")
    try:
        share = Path(get_package_share_directory(package))
    except (PackageNotFoundError, OSError):  # installed by pip
        share = Path(sys.prefix) / "share" / package
    return (share / "msg" / f"{message}.msg").read_text()
