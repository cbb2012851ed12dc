# SPDX-License-Identifier: Apache-2.0
"""Node parameters as one table per node: default, description, range. A wrong value is refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node

from tigr_core.errors import UserError


@dataclass(frozen=True)
class Parameter:
    """One parameter. Its type is that of the default; a whole number is taken where a float is meant."""

    name: str
    default: bool | int | float | str
    description: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    or_list: bool = False  # several numbers instead of one are fine too
    read_only: bool = False
    hint: str = ""  # when a change takes effect

    def parse(self, value: object) -> Any:
        """Return the value in the right type.

        Raises:
            ValueError: wrong type, out of range or none of the choices.
        """
        if self.or_list and isinstance(value, Sequence) and not isinstance(value, str):
            return [self._parse_one(entry) for entry in value]
        return self._parse_one(value)

    def _parse_one(self, value: object) -> Any:
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"found {value!r} for parameter {self.name!r}, expected a {kind.__name__}")
        if self.choices and value not in self.choices:
            raise ValueError(f"found {value!r} for parameter {self.name!r}, expected one of {', '.join(self.choices)}")
        if isinstance(value, (int, float)) and not (math.isfinite(value) and self.low <= value <= self.high):
            raise ValueError(
                f"found {value} for parameter {self.name!r}, expected a finite number in [{self.low:g}, {self.high:g}]"
            )
        return value

    def descriptor(self) -> ParameterDescriptor:
        """Return what tools show."""
        hint = "set at start, fixed afterwards" if self.read_only else self.hint
        choices = f"one of: {', '.join(repr(choice) for choice in self.choices)}" if self.choices else ""
        described = ParameterDescriptor(
            description=self.description,
            additional_constraints="; ".join(part for part in (choices, hint) if part),
            read_only=self.read_only,
            dynamic_typing=True,  # whole numbers for floats; `parse` checks the type
        )
        if math.isfinite(self.low) and math.isfinite(self.high):
            if isinstance(self.default, float):
                described.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
            else:
                described.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
        return described


Check = Callable[[Mapping[str, Any]], None]


class Parameters(Mapping[str, Any]):
    """The present values by name; always all of one accepted set, also when read from another thread."""

    def __init__(self, table: Sequence[Parameter], values: Mapping[str, Any], check: Check) -> None:
        self._table = {parameter.name: parameter for parameter in table}
        self._check = check
        self._values: dict[str, Any] = {}
        self.update(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def update(self, values: Mapping[str, Any]) -> None:
        """Take new values, all or none; raises ValueError with the reason. Names of others are ignored."""
        parsed = {name: self._table[name].parse(value) for name, value in values.items() if name in self._table}
        proposed = {**self._values, **parsed}
        self._check(proposed)
        self._values = proposed

    def snapshot(self) -> Mapping[str, Any]:
        """Return values that belong together; later changes do not touch them."""
        return self._values


def declare(node: Node, table: Sequence[Parameter], check: Check = lambda values: None) -> Parameters:
    """Declare the parameters of a node and keep them checked.

    Args:
        check: gets all values together and raises ValueError for a combination that cannot be.

    Raises:
        UserError: a value given at start is refused.
    """
    try:
        declared: list[Any] = [node.declare_parameter(p.name, p.default, p.descriptor()) for p in table]
        parameters = Parameters(table, {p.name: p.value for p in declared}, check)
    except (ParameterException, ValueError) as error:
        raise UserError(
            f"{node.get_fully_qualified_name()}: {error}",
            expected="a value as the parameter's description says",
            fix="mend it in the parameter file or on the command line",
        ) from None

    def on_set(changed: Sequence[Any]) -> SetParametersResult:
        try:
            parameters.update({parameter.name: parameter.value for parameter in changed})
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
    return parameters
