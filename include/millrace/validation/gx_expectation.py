"""Expectations of a contract as Great Expectations builds them.

Importing this module costs some seconds (Great Expectations'), so steps import it when they run.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import Any

for _name in ("great_expectations", "great_expectations.data_context.types.base"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # some 300 lines while it is imported

import great_expectations as gx  # noqa: E402
from great_expectations.data_context.types.base import (  # noqa: E402
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions import ExpectationNotFoundError  # noqa: E402
from great_expectations.expectations.expectation import (  # noqa: E402
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.registry import (  # noqa: E402
    get_expectation_impl,
    list_registered_expectation_implementations,
)
from pydantic.v1 import ValidationError  # noqa: E402

from millrace.artifact import digest_of  # noqa: E402
from millrace.errors import SpecError  # noqa: E402
from millrace.spec.contract import ExpectationSpec  # noqa: E402

_ROW_LEVEL = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
_COLUMN_KEYS = ("column", "column_A", "column_B")


def open_context() -> Any:
    """A context in memory: no telemetry, no progress bars, no folder of its own for pages."""
    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )


def build_expectation(item: ExpectationSpec, columns: Sequence[str]) -> Any:
    """The `great_expectations` expectation of a spec.

    Args:
        item: type, arguments and what a failure does.
        columns: names of the columns it may be about.

    Raises:
        SpecError: unknown type, refused arguments, unknown column, or a quarantine of a type that knows no rows.
    """
    try:
        kind = get_expectation_impl(item.type)
    except ExpectationNotFoundError as error:
        near = difflib.get_close_matches(item.type, list_registered_expectation_implementations(), n=3)
        raise SpecError(
            f"unknown expectation {item.type!r}",
            where=f"contract, {item.name}",
            remedy=f"did you mean {' or '.join(near)}?" if near else "use a type of Great Expectations' gallery",
        ) from error
    try:
        expectation = kind(**item.kwargs)
    except (ValidationError, TypeError, ValueError) as error:
        raise SpecError(
            f"{item.type} refuses its arguments: {_refusal(error)}",
            where=f"contract, {item.name}, kwargs",
            remedy=f"correct them; it takes: {', '.join(_arguments(kind))}",
        ) from error
    if item.on_failure == "quarantine" and not issubclass(kind, _ROW_LEVEL):
        raise SpecError(
            f"{item.type} judges the table as a whole and names no rows to quarantine",
            where=f"contract, {item.name}, on_failure",
            remedy="use on_failure: block or warn",
        )
    if item.type != "expect_column_to_exist":
        _check_columns(item, columns)
    return expectation


def build_suite(contract: Sequence[ExpectationSpec], columns: Sequence[str]) -> dict[str, Any]:
    """Identity → expectation, each once, in the order of the contract.

    Great Expectations drops an expectation that equals one of its suite; two of ours, with other consequences, may
    share one of its.

    Raises:
        SpecError: as `build_expectation`.
    """
    suite: dict[str, Any] = {}
    for item in contract:
        expectation = build_expectation(item, columns)
        expectation.meta = {"identity": identity(item), "name": item.name, "on_failure": item.on_failure}
        suite.setdefault(identity(item), expectation)
    return suite


def identity(item: ExpectationSpec) -> str:
    """What expectations of the same type and arguments share."""
    return digest_of([item.type, item.kwargs])


def needed_columns(contract: Sequence[ExpectationSpec], columns: Sequence[str]) -> list[str]:
    """The columns pandas must see: those named; all where an expectation is about the set of columns or a condition."""
    whole = any(
        "row_condition" in item.kwargs
        or item.type == "expect_column_to_exist"
        or item.type.startswith(("expect_table_column", "expect_query", "unexpected_rows"))
        for item in contract
    )
    named = {name for item in contract for name in named_columns(item)}
    return [name for name in columns if whole or name in named]


def named_columns(item: ExpectationSpec) -> list[str]:
    """The columns an expectation judges."""
    return [str(item.kwargs[key]) for key in _COLUMN_KEYS if key in item.kwargs] + [
        str(name) for name in item.kwargs.get("column_list") or []
    ]


def _check_columns(item: ExpectationSpec, columns: Sequence[str]) -> None:
    for name in named_columns(item):
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            raise SpecError(
                f"{item.type} names column {name!r}, which clean rows do not have",
                where=f"contract, {item.name}, kwargs",
                remedy=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(columns)}",
            )


def _arguments(kind: Any) -> list[str]:
    common = {"id", "meta", "notes", "result_format", "description", "catch_exceptions", "rendered_content"}
    return sorted(set(kind.__fields__) - common - {"batch_id", "windows", "severity"})


def _refusal(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    told = (f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
    return "; ".join(dict.fromkeys(told))
