"""Reading what was predicted: the first score of each row and role, and the labels that belong to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.lake.duck import arrow, connect
from millrace.lake.table import Table
from millrace.spec.use_case import UseCaseSpec

LIVE, SHADOW = "live", "shadow"
_INSTANT = pa.timestamp("us", tz="UTC")
LABELLED = pa.schema(
    [
        ("key", pa.string()),
        ("event_timestamp", _INSTANT),
        ("release", pa.int64()),
        ("role", pa.string()),
        ("prediction", pa.float64()),
        ("label", pa.float64()),
        ("label_known_at", _INSTANT),
    ]
)
_LOG = ["key", "event_timestamp", "release", "package", "role", "prediction", "recorded_at"]
_FIRST = """
    SELECT key, event_timestamp, release, role, prediction
    FROM predictions
    QUALIFY row_number() OVER (PARTITION BY key, role ORDER BY recorded_at, release, package) = 1
    ORDER BY role, event_timestamp, key
"""
_JOINED = """
    SELECT s.key, s.event_timestamp, s.release, s.role, s.prediction, l.label, l.label_known_at
    FROM scores s JOIN labels l ON l.key = s.key
    WHERE l.label IS NOT NULL AND l.label_known_at <= $cut
    ORDER BY s.role, s.event_timestamp, s.key
"""


def read_first_scores(use_case: UseCaseSpec, partition: str, *, lake: str) -> pa.Table | None:
    """The first score of each row and role of a partition, in the order of role, time and key.

    A row that was scored again, after its outcome or by another release, counts as it was first answered. None where
    nothing of the partition was scored.
    """
    table = Table(lake, use_case.table("predictions"))
    if partition not in table.partitions():
        return None
    return _query(_FIRST, {"predictions": table.read(partitions=[partition], columns=_LOG)})


def join_first_scores(scores: pa.Table, labels: pa.Table, *, cut: datetime) -> pa.Table:
    """Scores with their labels, those alone that were known by the cut.

    Args:
        scores: as `read_first_scores` gives them.
        labels: `key`, `label` (null for none) and `label_known_at`.
        cut: instant.
    """
    return _query(_JOINED, {"scores": scores, "labels": labels}, {"cut": cut}).cast(LABELLED)


def read_labelled(use_case: UseCaseSpec, partition: str, *, lake: str) -> pa.Table:
    """The labelled scores of a partition, in the order of role, time and key; empty where there are none."""
    table = Table(lake, use_case.table("labelled"))
    if partition not in table.partitions():
        return LABELLED.empty_table()
    rows = table.read(partitions=[partition], columns=LABELLED.names)
    return rows.sort_by([(name, "ascending") for name in ("role", "event_timestamp", "key")])


def of_role(rows: pa.Table, role: str) -> pa.Table:
    """The rows of one role."""
    return rows.filter(pc.equal(rows.column("role"), role))


def main_release(rows: pa.Table) -> int | None:
    """Version that most of the rows are from, the newer of two; None for no rows."""
    sizes = pc.value_counts(rows.column("release")).to_pylist()
    return max(sizes, key=lambda item: (item["counts"], item["values"]))["values"] if sizes else None


def _query(sql: str, tables: dict[str, pa.Table], parameters: dict[str, Any] | None = None) -> pa.Table:
    with connect(threads=1) as connection:
        for name, table in tables.items():
            connection.register(name, table)
        return arrow(connection.sql(sql, params=parameters))
