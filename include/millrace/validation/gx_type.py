"""Expectations on the type of a column: Great Expectations judges a sample whose types are those of all rows.

pandas gives a column one type for all its values, which depends on what DuckDB holds and whether some are null; and
where that type is `object`, all values that are not null are of one Python type. So one value and one null tell all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from millrace.lake import duck
from millrace.validation.base import ROW
from millrace.validation.duckdb_aggregate import TableCheck
from millrace.validation.duckdb_column import Column, Kind, UncountedError
from millrace.validation.duckdb_metric import Counter
from millrace.validation.gx_metric import empty_engine
from millrace.validation.gx_pandas import make_frame, validate_frame

TYPES = frozenset(
    {
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_in_type_list",
        "expect_column_type_to_be",
    }
)
_SAMPLES: dict[Kind, Any] = {
    "small": 1,
    "big": 1,
    "single": 1.0,
    "double": 1.0,
    "text": "a",
    "bool": True,
    "time": datetime(2013, 1, 1, tzinfo=UTC),
    "date": date(2013, 1, 1),
}


def type_check(expectation: Any, columns: Mapping[str, Column]) -> TableCheck:
    """What a sample needs to know: rows and values of the column.

    Raises:
        UncountedError: the column is of a type that pandas holds in ways of its own.
    """
    column = columns[expectation.column]
    if column.kind not in _SAMPLES or getattr(expectation, "row_condition", None) is not None:
        raise UncountedError(f"type of column {column.name!r}")
    return TableCheck(aggregates={"rows": "count(*)", "values": f"count({column.sql})"}, finish=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeSample:
    """What Great Expectations says of a sample.

    Attributes:
        results: identity → its result.
        engine: its pandas engine over the sample.
        types: its metric `table.column_types`.
    """

    results: Mapping[str, Any]
    engine: Any
    types: list[dict[str, Any]]

    @classmethod
    def take(
        cls,
        counter: Counter,
        columns: Mapping[str, Column],
        expectations: Mapping[str, Any],
        numbers: Mapping[str, Mapping[str, Any]],
    ) -> TypeSample:
        """Judge a sample.

        Args:
            counter: of the table.
            columns: name → column of the table.
            expectations: identity → expectation on a type.
            numbers: identity → what `type_check` asks for.
        """
        counts = {expectation.column: numbers[key] for key, expectation in expectations.items()}
        names = ", ".join(duck.quoted(name) for name in counts)
        schema = duck.arrow(counter.connection.sql(f"SELECT {names} FROM {duck.quoted(counter.table)} LIMIT 0")).schema
        data = {
            name: pa.array(_sample(columns[name].kind, **count), schema.field(name).type)
            for name, count in counts.items()
        }
        length = len(next(iter(data.values())))
        frame = make_frame(pa.table({**data, ROW: pa.array(range(length), pa.int64())}))
        types = [{"name": name, "type": dtype} for name, dtype in frame.dtypes.items()]
        results = validate_frame(frame, expectations, "types")
        return cls(results=results, engine=empty_engine(frame), types=types)

    def settled(self) -> dict[str, Any]:
        """Identity → result, of the expectations that judge the column as a whole."""
        return {key: result for key, result in self.results.items() if "element_count" not in result.result}

    def by_value(self) -> dict[str, bool]:
        """Identity → whether a value fails, and so all do, of the expectations that judge values one by one."""
        return {
            key: bool(result.result["unexpected_count"])
            for key, result in self.results.items()
            if "element_count" in result.result
        }


def _sample(kind: Kind, *, rows: int, values: int) -> list[Any]:
    """Two rows, of a value where there is one and of a null where there is one; none of no rows."""
    value = _SAMPLES[kind] if values else None
    return [value, None if rows > values else value] if rows else []
