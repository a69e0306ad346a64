"""The quarantine: rows set aside as they came, each with its reasons, none of them ever lost."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, canonical, digest_of
from millrace.lake import Table
from millrace.lake.schema import TIMESTAMP
from millrace.lake.table import PARTITION, content_digest
from millrace.validation.base import ROW
from millrace.validation.contract import Reason

OPEN = "open"
SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("raw", pa.string()),
        ("reasons", pa.string()),
        ("status", pa.string()),
        ("raw_version", pa.int64()),
        (PARTITION, pa.string()),
        ("first_seen", TIMESTAMP),
    ]
)
_NOT_CONTENT = ["raw_version", "first_seen"]
"""When and in which snapshot a row was met differs between equal runs, so neither is part of the digest."""


def quarantine_rows(
    raw: pa.Table, cleaned: pa.Table, reasons: Sequence[Reason], *, source: str, snapshot: DatasetRef, now: datetime
) -> pa.Table:
    """Rows of the quarantine table, in the order of their ids.

    A row's id is a digest of source and content; equal rows are told apart by a running number.

    Args:
        raw: the raw partition, in the order of its positions.
        cleaned: its rows after clean-up with `row#`, from which reasons take the values.
        reasons: why each row is set aside.
        source: name of the raw table.
        snapshot: the raw snapshot they were read from.
        now: when they are met.
    """
    by_row: defaultdict[int, list[Reason]] = defaultdict(list)
    for reason in reasons:
        by_row[reason.row].append(reason)
    rows = sorted(by_row)
    values = _by_position(cleaned, rows)
    entries: list[tuple[str, str]] = []
    for row, content in zip(rows, raw.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
        seen_at = {**content, **values[row]}
        told = [
            {
                "expectation": item.expectation,
                "column": ",".join(item.columns),
                "value": _one_or_all([_plain(seen_at.get(name)) for name in item.columns]),
            }
            for item in by_row[row]
        ]
        as_it_came = {name: _plain(value) for name, value in content.items()}
        entries.append((canonical(as_it_came).decode(), canonical(told).decode()))
    seen: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for text, why in sorted(entries):
        found.append(
            {
                "row_id": digest_of([source, text, seen[text]]),
                "source": source,
                "raw": text,
                "reasons": why,
                "status": OPEN,
                "raw_version": snapshot.version,
                PARTITION: snapshot.partition,
                "first_seen": now,
            }
        )
        seen[text] += 1
    return pa.Table.from_pylist(sorted(found, key=lambda entry: str(entry["row_id"])), schema=SCHEMA)


def store_quarantine(table: Table, rows: pa.Table, partition: str) -> DatasetRef | None:
    """Replace a partition of the quarantine; rows that were there before keep the time they were first seen.

    Returns:
        The snapshot; None where there is nothing to set aside and never was.
    """
    known = _known(table, partition)
    if known is None and not rows.num_rows:
        return None
    digest = content_digest(rows.drop_columns(_NOT_CONTENT))
    if known is not None and known.num_rows:
        first = dict(zip(known["row_id"].to_pylist(), known["first_seen"].to_pylist(), strict=True))
        ids, met = rows["row_id"].to_pylist(), rows["first_seen"].to_pylist()
        kept = pa.array([first.get(row_id, now) for row_id, now in zip(ids, met, strict=True)], TIMESTAMP)
        rows = rows.set_column(SCHEMA.get_field_index("first_seen"), "first_seen", kept)
    return table.replace(rows.drop_columns([PARTITION]) if partition else rows, partition=partition, digest=digest)


def count_open(table: Table) -> int:
    """Rows with status open over all partitions."""
    if not table.exists():
        return 0
    return int(pc.sum(pc.equal(table.read(columns=["status"])["status"], OPEN)).as_py() or 0)


def _known(table: Table, partition: str) -> pa.Table | None:
    if partition not in table.newest():
        return None
    return table.read(partitions=[partition] if partition else None, columns=["row_id", "first_seen"])


def _by_position(cleaned: pa.Table, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    wanted = cleaned.filter(pc.is_in(cleaned[ROW], pa.array(rows, pa.int64())))
    return {int(item[ROW]): item for item in wanted.to_pylist()}


def _plain(value: Any) -> Any:
    """A value as JSON keeps it: infinity and not-a-number have no JSON form but their names."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values
