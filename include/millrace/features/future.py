"""Another future: rows of which everything that was not known by an instant is different."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.features.base import INSTANT, KNOWN_AT
from millrace.spec import SourceSpec

WHOLE_ROW = "*"
"""In place of a column: the row is known only from its instant on."""
_HOUR = 3_600_000_000


def known_column(source: SourceSpec, schema: pa.Schema) -> str | None:
    """The column that tells when a row's late columns, or the row itself, become known.

    It is `known_at`, else the only instant among the late columns; None where a source has none.
    """
    if KNOWN_AT in schema.names and pa.types.is_timestamp(schema.field(KNOWN_AT).type):
        return KNOWN_AT
    late = [name for name in source.known_late if pa.types.is_timestamp(schema.field(name).type)]
    return late[0] if len(late) == 1 else None


def change_future(
    source: SourceSpec, rows: pa.Table, columns: Collection[str], instant: datetime, seed: int
) -> pa.Table:
    """Rows with other values in late columns, or without rows, where these become known after an instant or never.

    Args:
        source: whose rows they are.
        rows: clean rows.
        columns: late columns to change, or `WHOLE_ROW`; none changes nothing.
        instant: the end of what is known.
        seed: decides what the values become.
    """
    known = known_column(source, rows.schema)
    if known is None or not columns:
        return rows
    later = pc.greater(rows[known], pa.scalar(instant, INSTANT))
    if WHOLE_ROW in columns:
        return rows.filter(pc.invert(pc.fill_null(later, False)))
    unknown = pc.fill_null(later, True).combine_chunks()
    random = np.random.default_rng(seed)
    for name in columns:
        values = rows[name].combine_chunks()
        other = _later(values, random) if name == known else _others(values, random)
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, rows.schema.field(position), pc.if_else(unknown, other, values))
    return rows


def _later(instants: pa.Array, random: np.random.Generator) -> pa.Array:
    """Up to two days later; what was not known later still is not, and the other way round."""
    moved = pc.add(instants.cast(pa.int64()), pa.array(random.integers(1, 48, len(instants)) * _HOUR))
    return moved.cast(instants.type)


def _others(values: pa.Array, random: np.random.Generator) -> pa.Array:
    """For each value another one that the column has, null among them."""
    coded = values.dictionary_encode(null_encoding="encode")
    count = len(coded.dictionary)
    if count < 2:
        return pa.nulls(len(values), values.type)
    shift = random.integers(1, count, len(values))
    return coded.dictionary.take(pa.array((coded.indices.to_numpy() + shift) % count))
