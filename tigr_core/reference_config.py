# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON configurations of TIGR's reference implementation (arXiv 2108.03718), as they are.

`reference_keys` says of every key what becomes of it here. Whatever is not said in a file has the reference's default,
not ours. What the reference's program does beyond its keys is in `FIXED` there and in docs/reference.md.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tigr_core.config import Config, make_config, override_config
from tigr_core.errors import UserError, nearest
from tigr_core.reference_keys import (
    CHOICES,
    FIXED,
    IGNORED,
    KEYS,
    OPTION,
    RENAMED,
    SAME,
    SECTIONS,
    TRAIN,
    UNSUPPORTED,
    Key,
    rule_of,
)

_ORDER = (UNSUPPORTED, IGNORED, OPTION, RENAMED, SAME)
_OF_A_SHOWCASE = {"env_name", "env_params.task_variants", "path_to_weights", "train_or_showcase", "showcase_itr"}
_OF_A_SHOWCASE |= {"util_params.base_log_dir"}


@dataclass(frozen=True)
class Note:
    """What became of a key that a file gives."""

    key: str
    value: Any
    kind: str
    here: str  # our settings, as key: value; what is done instead of what is not supported
    why: str


@dataclass(frozen=True)
class Reference:
    """A configuration of the reference; everything in it is known."""

    path: Path
    given: dict[str, Any]  # what the file says, by dotted key

    @cached_property
    def values(self) -> dict[str, Any]:
        """All keys, by the file or by default."""
        return {key: rule.default for key, rule in KEYS.items()} | self.given

    @property
    def showcase(self) -> str | None:
        """Which of `SHOWCASES` is asked for; None: a training."""
        mode = self.values["train_or_showcase"]
        return None if mode == TRAIN else mode

    @property
    def name(self) -> str:
        """The configuration's name: the file's, in letters that ours may have."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self.path.stem.replace("-", "_"))

    @property
    def run_folder(self) -> Path:
        """Where the reference would put a run that begins now, below its folder of all runs."""
        stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
        return Path(self.values["env_name"], f"{stamp}_{self.run_name}")

    @property
    def run_name(self) -> str:
        """The reference's name of the run, without the date."""
        return f"{self.path.stem.replace('-', '_')}_{self.values['inference_option']}"

    def settings(self) -> dict[str, Any]:
        """Return our settings by dotted key."""
        settings: dict[str, Any] = {"name": self.name}
        for key, rule in KEYS.items():
            settings |= rule.ours(self.values[key], self.values)
        return settings | FIXED

    def config(self, overrides: list[str] | None = None) -> Config:
        """Return our configuration, with ``key=value`` overrides (our keys); mistakes are told by the file's keys."""
        data: dict[str, Any] = {}
        for key, value in self.settings().items():
            *sections, last = key.split(".")
            place = data
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        names = {ours: f"{key} (here {ours})" for key, rule in KEYS.items() for ours in rule.to}
        return override_config(make_config(data, str(self.path), names), overrides or [])

    def notes(self) -> list[Note]:
        """Return what became of each key of the file, what matters most first."""
        notes = [self._note(key, rule_of(key), value) for key, value in self.given.items()]
        return sorted(notes, key=lambda note: _ORDER.index(note.kind))

    def _note(self, key: str, rule: Key, value: Any) -> Note:
        if self.showcase is not None and key not in _OF_A_SHOWCASE:
            return Note(key, value, IGNORED, "", "the run that is shown has its own")
        kind, here, why = rule.kind, "", rule.why
        if rule.to:
            here = ", ".join(f"{key}: {_text(ours)}" for key, ours in rule.ours(value, self.values).items())
        if kind == UNSUPPORTED and value == rule.default:
            kind = SAME
        elif kind == UNSUPPORTED:
            here = f"{_text(rule.default)} is used"
        elif key == "path_to_weights" and value is not None and self.showcase is None:
            kind, why = UNSUPPORTED, "a training begins with new networks, or goes on with --resume"
        return Note(key, value, kind, here, why)

    def variant(self, folder_name: str) -> dict[str, Any]:
        """Return the whole configuration as the reference stores it in a run's variant.json."""
        nested: dict[str, Any] = {}
        names = {"exp_name": folder_name, "util_params.exp_name": self.run_name}
        for key, value in (self.values | names).items():
            *sections, last = key.split(".")
            (nested.setdefault(sections[0], {}) if sections else nested)[last] = value
        return nested


def is_reference(config: str) -> bool:
    """Tell whether a configuration's name is that of a JSON file, which only the reference has."""
    return config.endswith(".json")


def read_reference(path: Path) -> Reference:
    """Read a file of the reference.

    Raises:
        UserError: no such file, malformed JSON, unknown keys, or values of a wrong type; all of them at once.
    """
    data = _parse(path)
    given: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in data.items():
        if "." in key:
            wrong.append(f"{key}: found a dot, expected a key inside its group of keys")
        elif key not in SECTIONS:
            given[key] = value
        elif isinstance(value, dict):
            given |= {f"{key}.{inner}": content for inner, content in value.items()}
        else:
            wrong.append(f"{key}: found {_text(value)}, expected a group of keys in braces")
    wrong += [problem for key, value in given.items() if (problem := _problem(key, value))]
    if wrong:
        lines = "\n  ".join(wrong)
        raise UserError(
            f"{path} has {len(wrong)} mistake(s):\n  {lines}",
            expected="keys and values of the reference's configurations",
            fix="mend these keys; `tigr config keys` lists all",
        )
    return Reference(path, given)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", expected="a readable UTF-8 JSON file", fix="check the path") from None
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{place}: {error.msg}", expected="well-formed JSON", fix="mend the file at that place"
        ) from None
    except _Twice as error:
        raise UserError(f"{path}: key '{error}' is given twice", expected="each key once", fix="keep one") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} holds {_text(data)}", expected="an object of keys", fix="see `tigr config keys`")
    return data


class _Twice(ValueError):
    """A key that an object has twice; JSON would drop the first without a word."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise _Twice(key)
    return dict(pairs)


def _unknown(key: str) -> str:
    leaf = key.split(".")[-1]
    elsewhere = [known for known in KEYS if known.split(".")[-1] == leaf]
    hint = f" (did you mean '{elsewhere[0]}'?)" if elsewhere else nearest(key, KEYS)
    return f"{key}: unknown key{hint}"


_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list of texts"}


def _problem(key: str, value: Any) -> str | None:
    """Return what is wrong with a key or its value."""
    try:
        rule, choices = rule_of(key), CHOICES.get(key)
    except KeyError:
        return _unknown(key)
    if choices is not None and value not in choices:
        texts = ["null" if choice is None else choice for choice in choices]
        return f"{key}: found {_text(value)}{nearest(str(value), texts)}, expected one of {', '.join(texts)}"
    kind = type(rule.default)
    if rule.kind == IGNORED or rule.default is None:
        return None
    fits = isinstance(value, (int, float) if kind is float else kind) and (isinstance(value, bool) == (kind is bool))
    if fits and kind is list:
        fits = bool(value) and all(isinstance(entry, str) for entry in value)
    return None if fits else f"{key}: found {_text(value)}, expected {_EXPECTED[kind]}"


def _text(value: Any) -> str:
    return json.dumps(value)
