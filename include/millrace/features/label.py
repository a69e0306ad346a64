"""Label and weight of a use case: SQL that gives one value for one clean row, the same at every run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from millrace.cleanup.expression import parse_expression, unrepeatable_functions
from millrace.errors import FeatureError
from millrace.spec import UseCaseSpec

_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL(\(.*\))?|BIGNUM|VARINT")


def label_faults(connection: Any, use_case: UseCaseSpec, where: str) -> Iterator[FeatureError]:
    """What is wrong with the expressions of label and weight.

    Args:
        connection: a DuckDB connection with a view of the entity's source, with rows or without.
        use_case: its use case.
        where: place of the spec.
    """
    label = use_case.label
    expressions = [("expression", "label", label.expression)]
    if label.weight:
        expressions.append(("weight", "weight", label.weight))
    for key, noun, expression in expressions:
        place = f"{where}: label.{key}"
        parsed = parse_expression(connection, expression)
        if parsed.fault:
            yield FeatureError(
                f"the {noun} is no value of one row: {parsed.fault}",
                where=place,
                remedy="write one SQL expression over the columns of the clean row",
            )
        elif moving := unrepeatable_functions(parsed):
            yield FeatureError(
                f"the {noun} calls {moving[0]}, which gives another value at every run",
                where=place,
                remedy="compute it from the columns of the clean row",
            )
        else:
            yield from _type_faults(connection, use_case, (key, noun, expression), place)


def _type_faults(
    connection: Any, use_case: UseCaseSpec, item: tuple[str, str, str], place: str
) -> Iterator[FeatureError]:
    import duckdb

    key, noun, expression = item
    try:
        kind = str(connection.sql(f"SELECT (\n{expression}\n) FROM {use_case.entity.source}").types[0])
    except duckdb.Error as error:
        yield FeatureError(f"the {noun} does not compile: {error}", where=place, remedy="correct the expression")
        return
    as_text = key == "expression" and bool(use_case.classes)
    as_truth = key == "expression" and kind == "BOOLEAN"
    if not (as_text or as_truth or _NUMBER.fullmatch(kind) or kind in {"NULL", '"NULL"'}):
        yield FeatureError(
            f"the {noun} is {kind}, not a number",
            where=place,
            remedy="write an expression that gives a number, such as `CASE WHEN … THEN 1.0 ELSE 0.0 END`",
        )
