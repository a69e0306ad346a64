"""The quarantine of a partition after its rows were judged; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import ConservationError
from millrace.step.assessment import Assessment
from millrace.step.place import Place, locate_rows, positions
from millrace.validation.base import SetAside
from millrace.validation.contract import positions as rows_of
from millrace.validation.quarantine import SCHEMA, describe_records, describe_rows
from millrace.validation.settlement import dismissed, opened, settle, unsettled, without


def settle_partition(
    place: Place,
    connection: Any,
    found: Assessment,
    previous: pa.Table,
    *,
    records: pa.Table | None,
    raw: DatasetRef,
    folder: Path,
    now: datetime,
) -> pa.Table:
    """All entries of a partition, given those there were and how its rows fare now.

    Args:
        place: the partition.
        connection: what `found` was found with.
        found: what `assess` gave.
        previous: the quarantine as it was.
        records: what `read_records` gave.
        raw: the raw snapshot.
        folder: for what does not fit into memory.
        now: when rows are set aside, or closed.

    Raises:
        ConservationError: what was ingested is not what is clean and what is open together.
    """
    rows = describe(place, connection, found, found.aside, raw=raw, folder=folder, now=now)
    again = found.standing.reopened(previous, found.cleaned.aside, found.lost)
    failing = [rows, again]
    left_out = 0
    if records is not None:
        told = describe_records(records, source=place.name, snapshot=raw, now=now)
        failing.append(without(told, again["row_id"]))
        left_out = len(dismissed(previous).intersection(told["row_id"].to_pylist()))
    together = pa.concat_tables(failing)
    there = locate_rows(place, connection, unsettled(previous, together))
    settled = settle(previous, together, there, now=now, lost=found.lost)
    _check(place, connection, found, settled, 0 if records is None else records.num_rows - left_out)
    return settled


def describe(
    place: Place,
    connection: Any,
    found: Assessment,
    aside: Sequence[SetAside],
    *,
    raw: DatasetRef,
    folder: Path,
    now: datetime,
) -> pa.Table:
    """Entries for those of some positions that are raw rows."""
    added = positions(found.standing.added)
    of_raw = [
        SetAside(reason=item.reason, columns=item.columns, rows=np.setdiff1d(item.rows, added), stage=item.stage)
        for item in aside
    ]
    batches = describe_rows(
        connection,
        of_raw,
        source=place.name,
        snapshot=raw,
        now=now,
        cleaned=found.cleaned.table,
        spill=folder / "spill",
    )
    return pa.Table.from_batches(list(batches), schema=SCHEMA)


def _check(place: Place, connection: Any, found: Assessment, settled: pa.Table, records: int) -> None:
    came = int(connection.execute("SELECT count(*) FROM raw").fetchall()[0][0]) + records
    standing = int(connection.execute(f"SELECT count(*) FROM {found.standing.view}").fetchall()[0][0])
    lost_added = [row for row_id, row in found.standing.added.items() if row_id in found.lost]
    clean = standing - len(np.union1d(rows_of(found.aside), np.array(lost_added, np.int64)))
    if came != clean + opened(settled).num_rows:
        raise ConservationError(
            f"{came} records came in, and {clean} are clean and {opened(settled).num_rows} in quarantine",
            where=place.where,
            remedy="report this with the page of the validation; nothing was published",
        )
