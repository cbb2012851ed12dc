# SPDX-License-Identifier: Apache-2.0
"""What became of a reference's configuration, for people: a table on the terminal, and our YAML with comments."""

from __future__ import annotations

import itertools
import json
from typing import Any

import yaml
from rich.table import Column, Table
from rich.text import Text

from tigr_core.config import Config
from tigr_core.reference_config import Reference
from tigr_core.reference_keys import FIXED, IGNORED, KEYS, OPTION, RENAMED, SAME, UNSUPPORTED, rule_of

STYLES = {UNSUPPORTED: "bold red", IGNORED: "yellow", OPTION: "cyan", RENAMED: "green", SAME: "dim"}


def notes_table(reference: Reference) -> Table:
    """Return a row for each key of the file, what matters most first."""
    rest = "by the reference's defaults" if reference.showcase is None else "the run's own"
    table = _table("in the file", f"all else is {rest}")
    table.title = f"{reference.path}: a configuration of TIGR's reference implementation"
    for kind, notes in itertools.groupby(reference.notes(), key=lambda note: note.kind):
        table.add_section()
        table.add_row(Text(kind, style=STYLES[kind]), "")
        for note in notes:
            table.add_row(_said(note.key, note.value), Text(_joined(note.here, note.why)))
    return table


def keys_table() -> Table:
    """Return a row for each key that there is, with the reference's default."""
    table = _table("key and default", "")
    for section, keys in itertools.groupby(KEYS, key=lambda key: key.rpartition(".")[0]):
        table.add_section()
        if section:
            table.add_row(Text(section, style="bold"), "")
        for key in keys:
            rule = KEYS[key]
            kind = Text("this alone: " if rule.kind == UNSUPPORTED else f"{rule.kind}: ", style=STYLES[rule.kind])
            table.add_row(_said(key, rule.default), kind + Text(_joined(", ".join(rule.to), rule.why), style="default"))
    return table


def _table(left: str, caption: str) -> Table:
    return Table(
        Column(left, overflow="fold", max_width=48),
        Column("here", overflow="fold"),
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
    )


def _said(key: str, value: Any) -> Text:
    return Text(f"  {key.split('.')[-1]}: {_inline(value)}")


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def to_native_yaml(reference: Reference) -> str:
    """Return our configuration with a comment on each key: what the reference calls it, and what was left out.

    Raises:
        UserError: values that cannot be.
    """
    reference.config()
    settings, origin = reference.settings(), _origins(reference)
    lines = [f"# Made from {reference.path.name}, a configuration of TIGR's reference implementation."]
    lines += [_line(key, settings[key], origin, "") for key in settings if "." not in key]
    for section in Config.model_fields:
        inside = [key for key in settings if key.startswith(f"{section}.")]
        if inside:
            lines += [f"{section}:", *(_line(key, settings[key], origin, "  ") for key in inside)]
    left_out = [note for note in reference.notes() if not rule_of(note.key).to]
    if left_out:
        lines.append("\n# Of the file, but no setting here:")
    for note in left_out:
        lines.append(f"# {note.key}: {_inline(note.value)}  ({_joined(note.kind, note.here, note.why)})")
    return "\n".join(lines) + "\n"


def _origins(reference: Reference) -> dict[str, str]:
    """Return our key -> the comment on it."""
    origins = dict.fromkeys(FIXED, "as the reference always does")
    for key, rule in KEYS.items():
        told = f"{key}: {_inline(reference.values[key])}"
        comment = told if key in reference.given else f"{told}, the reference's default"
        origins |= dict.fromkeys(rule.to, comment)
    return origins


def _line(key: str, value: Any, origin: dict[str, str], indent: str) -> str:
    text = yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()[1:-1]
    comment = f"  # {origin[key]}" if key in origin else ""
    return f"{indent}{key.split('.')[-1]}: {text}{comment}"


def _inline(value: Any) -> str:
    return json.dumps(value)
