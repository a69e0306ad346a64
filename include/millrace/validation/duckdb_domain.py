"""Which rows an expectation is about at all: Great Expectations' `row_condition` as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.validation.duckdb_column import EXACT, NUMERIC, Column, UncountedError, literal, real, within

EVERY = "true"
_OPERATORS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def row_domain(expectation: Any, columns: Mapping[str, Column]) -> str:
    """The condition in SQL; `true` where there is none.

    Raises:
        UncountedError: it is written for another engine, or pandas would take it in a way of its own.
    """
    condition = getattr(expectation, "row_condition", None)
    return EVERY if condition is None else f"coalesce({_condition(condition, columns)}, false)"


def _condition(given: Any, columns: Mapping[str, Column]) -> str:
    kind = getattr(given, "type", None)
    if kind in ("and", "or"):
        return "(" + f" {kind.upper()} ".join(_condition(part, columns) for part in given.conditions) + ")"
    name = str(getattr(getattr(given, "column", None), "name", ""))
    if name not in columns:
        raise UncountedError(f"row_condition {given!r}")
    if kind == "nullity":
        return f"{columns[name].sql} IS {'' if given.is_null else 'NOT '}NULL"
    if kind == "comparison":
        return _comparison(columns[name], getattr(given.operator, "value", given.operator), given.parameter)
    raise UncountedError(f"row_condition {given!r}")


def _comparison(column: Column, operator: str, value: Any) -> str:
    """Null in a comparison: false to pandas, but true to `!=`; null again where the column is of nullable integers."""
    if operator in ("IN", "NOT_IN"):
        _check([*value])
        found = f"coalesce({within(column, value)}, false)"
        return found if operator == "IN" else f"NOT {found}"
    _check([value])
    if operator not in _OPERATORS:
        raise UncountedError(f"operator {operator}")
    sign = _OPERATORS[operator]
    if column.kind == "text" and isinstance(value, str) and sign in ("=", "<>"):
        plain = f"{column.sql} {sign} {literal(value)}"
    elif column.kind == "big" and isinstance(value, int) and abs(value) <= EXACT and not isinstance(value, bool):
        return f"{column.sql} {sign} {literal(value)}"
    elif column.kind in NUMERIC - {"big", "single"}:
        plain = f"{column.number} {sign} {real(value)}"
    else:
        raise UncountedError(f"row_condition on {column.kind} column {column.name!r}")
    return f"coalesce({plain}, {'true' if sign == '<>' else 'false'})"


def _check(values: list[Any]) -> None:
    """Texts go through pandas' own parser of queries, which is safe with plain signs only."""
    for value in values:
        if isinstance(value, str) and not (value.isascii() and value.isprintable() and not set(value) & set("`'\"\\@")):
            raise UncountedError(f"{value!r} in a row_condition")
