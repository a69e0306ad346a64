"""The content of a row as text: what the quarantine keeps of it, what its id is made of, and the way back to a row."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical, digest_of
from millrace.errors import LakeError

_FIRST_MICROSECOND = -62_135_596_800_000_000
_AFTER_LAST_MICROSECOND = 253_402_300_800_000_000
"""Bounds of what Python calls a datetime: the years 1 to 9999."""


def contents_of(batch: pa.RecordBatch) -> tuple[list[str], list[str]]:
    """Each row as canonical JSON, and a digest that tells its content from others.

    Infinity, not-a-number and years beyond 9999 stand under names that JSON can hold. Nulls are not part of the
    digest, so that a column added later leaves the rows it is null in what they were.
    """
    columns = {field.name: plain_values(batch.column(index)) for index, field in enumerate(batch.schema)}
    names = sorted(columns)
    rows = zip(*(columns[name] for name in names), strict=True) if names else iter([()] * batch.num_rows)
    contents, digests = [], []
    for row in rows:
        text = canonical(dict(zip(names, row, strict=True)))
        contents.append(text.decode())
        if None in row:
            text = canonical({name: value for name, value in zip(names, row, strict=True) if value is not None})
        digests.append(hashlib.sha256(text).hexdigest())
    return contents, digests


def plain_values(column: pa.Array) -> list[Any]:
    """Values of a column as JSON keeps them."""
    if pa.types.is_timestamp(column.type):
        return _moments(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type) and pc.any(pc.invert(pc.is_finite(column))).as_py():
        return [str(value) if value is not None and not math.isfinite(value) else value for value in values]
    if pa.types.is_decimal(column.type) or pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return [None if value is None else str(value) for value in values]
    return values


def row_id(source: str, digest: str, number: int) -> str:
    """Id of a row: a digest of source, content, and its running number among equal rows of its partition."""
    return digest_of([source, digest, number])


def rows_of(contents: Iterable[str | None], schema: pa.Schema) -> pa.Table:
    """Rows back from their content, in the columns of a schema; what it does not name is null.

    Raises:
        LakeError: a content is no row of these columns.
    """
    try:
        rows = [orjson.loads(content or "{}") for content in contents]
        columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    except (orjson.JSONDecodeError, AttributeError, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise LakeError(
            f"a row kept in quarantine does not fit the raw columns: {str(error).splitlines()[0]}",
            where="quarantine, column raw or corrected",
            remedy="ingest and validate the partition again; its raw columns were retyped since",
        ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def reasons_text(reasons: Iterable[tuple[str, Sequence[str], Sequence[Any]]]) -> str:
    """Reasons as the quarantine keeps them: expectation, its columns, and the values judged."""
    told = [
        {"expectation": expectation, "column": ",".join(columns), "value": values[0] if len(values) == 1 else values}
        for expectation, columns, values in reasons
    ]
    return canonical(told).decode()


def reason_names(reasons: str) -> list[str]:
    """Names of the expectations in a text of reasons."""
    return [str(item["expectation"]) for item in orjson.loads(reasons)]


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array([float(value) if isinstance(value, str) else value for value in values], kind)
    if not pa.types.is_timestamp(kind):
        return pa.array(values, kind)
    moments = pa.array([datetime.fromisoformat(value) if isinstance(value, str) else None for value in values], kind)
    beyond = pa.array([value if isinstance(value, int) else None for value in values], pa.int64())
    return moments if beyond.null_count == len(beyond) else pc.coalesce(moments, beyond.view(kind))


def _moments(column: pa.Array) -> list[Any]:
    if column.type.unit != "us":
        column = pc.cast(column, pa.timestamp("us", column.type.tz), safe=False)
    since = column.cast(pa.int64())
    zone = "" if column.type.tz is None else "Z"
    named = pc.and_(pc.greater_equal(since, _FIRST_MICROSECOND), pc.less(since, _AFTER_LAST_MICROSECOND))
    sayable = pc.if_else(named, column.cast(pa.timestamp("us")), pa.scalar(None, pa.timestamp("us")))
    texts = pc.strftime(sayable, format=f"%Y-%m-%dT%H:%M:%S{zone}")
    told: list[Any] = pc.replace_substring(texts, f".000000{zone}", zone).to_pylist()
    if texts.null_count == since.null_count:
        return told
    return [number if text is None else text for text, number in zip(told, since.to_pylist(), strict=True)]
