"""From feature tables to the online store, columnar: newest facts by DuckDB, packed by numpy, one upsert."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from millrace.errors import FeatureError
from millrace.features.asof import History, microseconds, newest
from millrace.features.base import EVENT_TIMESTAMP, INSTANT, KNOWN_AT
from millrace.lake import Table
from millrace.online import ViewLayout
from millrace.online.writer import OnlineWriter, pack_table

log = logging.getLogger(__name__)


def materialize_view(
    writer: OnlineWriter, table: Table, view: str, layout: ViewLayout, *, at: datetime, since: datetime | None = None
) -> tuple[int, int]:
    """Bring one view of the online store to an instant: for each key the newest fact that was known and not expired.

    Args:
        writer: the online store.
        table: feature table in the lake.
        view: name of the view.
        layout: its layout.
        at: the instant, which becomes the view's high-water mark.
        since: facts older than this are left as they are in the store; None for all that the TTL allows.

    Returns:
        keys written, and rows of the view in the store afterwards.

    Raises:
        FeatureError: the feature table is not there, or lacks a column.
    """
    if not table.exists():
        raise FeatureError(
            f"feature table {table.name!r} is not there yet",
            where=table.uri,
            remedy="build the features of a partition first",
        )
    mark = instant(at)
    earliest = mark - layout.ttl_us if layout.ttl_us else None
    if since is not None:
        earliest = max(instant(since), earliest) if earliest is not None else instant(since)
    rows = newest_rows(table.open().to_pyarrow_dataset(), layout, at=mark, earliest=earliest)
    packed = pack_table(layout, rows, event_timestamp=EVENT_TIMESTAMP, known_at=KNOWN_AT)
    stored = writer.write(view, layout, packed, high_water_mark=mark)
    log.info("%s: %d keys as of %s written to the online store, which holds %d", view, len(packed), at, stored)
    return len(packed), stored


def newest_rows(
    dataset: Any,
    layout: ViewLayout,
    *,
    at: int,
    earliest: int | None,
) -> pa.Table:
    """For each key its newest fact known at an instant, of those that happened at `earliest` or later."""
    features = [name for name, _ in layout.features]
    columns = [*(name for name, _ in layout.entities), *features, EVENT_TIMESTAMP, KNOWN_AT]
    if absent := [name for name in columns if name not in dataset.schema.names]:
        raise FeatureError(
            f"the feature table has no column {', '.join(map(repr, absent))}", remedy="build the features again"
        )
    condition = pads.field(EVENT_TIMESTAMP) <= _scalar(at)
    if earliest is not None:
        condition &= pads.field(EVENT_TIMESTAMP) >= _scalar(earliest)
    rows = dataset.to_table(columns=columns, filter=condition)
    history = History(
        keys=[rows.column(name) for name, _ in layout.entities],
        event_timestamp=rows.column(EVENT_TIMESTAMP),
        known_at=rows.column(KNOWN_AT),
        values=lambda: [rows.column(name) for name in sorted(features)],
    )
    return rows.take(newest(history, at=at))


def instant(moment: datetime) -> int:
    """Microseconds since 1970 of an instant; without zone it is read as UTC."""
    return int(microseconds(pa.array([moment]))[0].as_py())


def _scalar(value: int) -> pa.Scalar:
    return pa.scalar(value, pa.int64()).cast(INSTANT)
