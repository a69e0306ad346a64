"""What rows of a feature table must be: the declared columns and types, no null keys or times, inside the partition."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.features.base import ARROW_TYPES, EVENT_TIMESTAMP, INSTANT, KNOWN_AT, key_kind
from millrace.partition import Partition
from millrace.spec import FeatureTableSpec


def conform(rows: pa.Table, table: FeatureTableSpec) -> pa.Table:
    """The declared columns in their order and types.

    Raises:
        FeatureError: a declared column is missing or does not convert.
    """
    declared = [*table.entities, EVENT_TIMESTAMP, KNOWN_AT, *table.features]
    what = "SQL" if table.sql else "function"
    if absent := [column for column in declared if column not in rows.column_names]:
        raise FeatureError(
            f"the {what} does not return {', '.join(map(repr, absent))}",
            where=table.origin,
            remedy=f"select them; it returns {', '.join(rows.column_names)}",
        )
    if doubled := [column for column in declared if rows.column_names.count(column) > 1]:
        raise FeatureError(
            f"the {what} returns {', '.join(map(repr, doubled))} more than once",
            where=table.origin,
            remedy="give each column a name of its own",
        )
    columns = []
    for column in declared:
        values = rows.column(column)
        wanted = INSTANT if column in (EVENT_TIMESTAMP, KNOWN_AT) else _declared_type(table, column, values.type)
        try:
            columns.append(values.cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise FeatureError(
                f"column {column!r} of type {values.type} does not convert to {wanted}: {error}",
                where=table.origin,
                remedy=f"cast it in the {what}, or declare its type in `features`",
            ) from error
    return pa.table(columns, names=declared)


def check_rows(rows: pa.Table, table: FeatureTableSpec, partition: Partition) -> None:
    """Hold rows against the contract of feature tables.

    Raises:
        FeatureError: a key or time is null, or `event_timestamp` lies outside of the partition.
    """
    what = "SQL" if table.sql else "function"
    for column in (*table.entities, EVENT_TIMESTAMP, KNOWN_AT):
        if nulls := rows.column(column).null_count:
            raise FeatureError(
                f"{column!r} is null in {nulls} rows", where=table.origin, remedy=f"filter them in the {what}"
            )
    if table.static or not rows.num_rows:
        return
    bounds = pc.min_max(rows.column(EVENT_TIMESTAMP))
    first, last = bounds["min"], bounds["max"]  # may lie beyond the years that Python knows
    start, end = pa.scalar(partition.start, INSTANT), pa.scalar(partition.end, INSTANT)
    if pc.less(first, start).as_py() or pc.greater_equal(last, end).as_py():
        raise FeatureError(
            f"event_timestamp runs from {_told(first)} to {_told(last)}, outside of {partition.key}",
            where=table.origin,
            remedy="return rows with event_timestamp >= start and event_timestamp < end alone",
        )


def in_order(rows: pa.Table, table: FeatureTableSpec) -> pa.Table:
    """The rows by keys and times, and rows that are alike in these by their values: one order for equal content."""
    keys = [*table.entities, EVENT_TIMESTAMP, KNOWN_AT]
    counted = rows.select(keys).group_by(keys, use_threads=False).aggregate([([], "count_all")])
    tied = counted.num_rows < rows.num_rows
    order = [(column, "ascending") for column in (rows.column_names if tied else keys)]
    return rows.sort_by(order)


def _told(instant: pa.Scalar) -> str:
    try:
        return str(instant.as_py())
    except (OverflowError, ValueError):
        return "beyond the year 9999"


def _declared_type(table: FeatureTableSpec, column: str, found: pa.DataType) -> pa.DataType:
    if column in table.features:
        return ARROW_TYPES[table.features[column]]
    return pa.string() if key_kind(column, found) == "string" else pa.int64()
