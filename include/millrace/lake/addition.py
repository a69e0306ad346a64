"""Rows appended to a table once, however often it is tried."""

from __future__ import annotations

import dataclasses
import time

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import LakeConflictError
from millrace.lake.commits import ATTEMPTS
from millrace.lake.replacement import Target


def append(table: Target, rows: pa.Table, *, partition: str, marker: str) -> DatasetRef:
    """Append rows, unless something was appended under this marker before.

    Args:
        table: a table that is there and has the columns.
        rows: with the partition column.
        partition: key.
        marker: Delta's application id of the transaction.

    Raises:
        LakeConflictError: other writers won every attempt.
    """
    from deltalake import CommitProperties, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    properties = CommitProperties(
        custom_metadata={"millrace.partition": partition, "millrace.digest": marker},
        app_transactions=[Transaction(app_id=marker, version=1)],
        max_commit_retries=0,
    )
    for attempt in range(ATTEMPTS):
        snapshot = table.open()
        ref = DatasetRef(
            table=table.name,
            version=int(snapshot.version()),
            partition=partition,
            rows=rows.num_rows,
            digest=marker,
            changed=False,
        )
        if snapshot.transaction_version(marker) is not None:
            return ref
        try:
            with table.writing():
                write_deltalake(snapshot, rows, mode="append", commit_properties=properties)
        except CommitFailedError:
            time.sleep(0.05 * 2**attempt)
        else:
            return dataclasses.replace(ref, version=ref.version + 1, changed=True)
    raise LakeConflictError(
        f"{ATTEMPTS} commits to {table.name!r} lost to other writers",
        where=table.uri,
        remedy="run the task again once the other writer is done",
    )
