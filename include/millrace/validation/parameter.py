"""What an expectation may say about the partition it judges, in Great Expectations' own notation of parameters.

`max_value: {$PARAMETER: partition_end}` stands for another instant in every partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.artifact import iso
from millrace.errors import SpecError
from millrace.partition import Partition
from millrace.spec.contract import ExpectationSpec

PARAMETER = "$PARAMETER"
PARTITION_START, PARTITION_END, PARTITION_KEY = "partition_start", "partition_end", "partition"


def parameters_of(partition: Partition) -> dict[str, str]:
    """`partition_start` and `partition_end` (ISO instants, UTC; the end is the first instant after it), `partition`."""
    return {
        PARTITION_START: iso(partition.start),
        PARTITION_END: iso(partition.end),
        PARTITION_KEY: partition.key,
    }


def bind(contract: Sequence[ExpectationSpec], partition: Partition | None) -> list[ExpectationSpec]:
    """The contract with the values of this partition in place of parameters; names and order stay.

    Args:
        contract: expectations as declared.
        partition: the one to judge; None for a static source, which has no parameters.

    Raises:
        SpecError: a parameter that is not known, or that a static source does not have.
    """
    known = parameters_of(partition) if partition else {}
    return [_bound(item, known) for item in contract]


def check_parameters(contract: Sequence[ExpectationSpec], *, static: bool) -> None:
    """Refuse parameters that no partition of this source has.

    Raises:
        SpecError: as `bind`.
    """
    bind(contract, None if static else Partition("2000-01"))


def _bound(item: ExpectationSpec, known: Mapping[str, str]) -> ExpectationSpec:
    kwargs = {name: _value(item, name, value, known) for name, value in item.kwargs.items()}
    return item if kwargs == item.kwargs else item.model_copy(update={"kwargs": kwargs, "id": item.name})


def _value(item: ExpectationSpec, name: str, value: Any, known: Mapping[str, str]) -> Any:
    if not isinstance(value, Mapping) or PARAMETER not in value:
        return value
    wanted = str(value[PARAMETER])
    if wanted not in known:
        raise SpecError(
            f"{item.name}: there is no parameter {wanted!r}" + ("" if known else " of a source without partitions"),
            where=f"contract, {item.name}, kwargs.{name}",
            remedy=f"use one of {', '.join(known)}" if known else "write the value itself",
        )
    return known[wanted]
