"""A table begun anew with other columns; earlier versions stay readable."""

from __future__ import annotations

import logging
import time

import pyarrow as pa

from millrace.errors import LakeConflictError
from millrace.lake import column, commits
from millrace.lake.commits import ATTEMPTS, PARTITION
from millrace.lake.replacement import Target

log = logging.getLogger(__name__)


def restart(table: Target, schema: pa.Schema, *, partitioned: bool) -> bool:
    """Empty a table and give it other columns, where it has not these.

    Args:
        table: a table that is there.
        schema: columns, with the partition column where there is one.
        partitioned: whether the table is written by partitions.

    Returns:
        Whether anything was done.

    Raises:
        LakeConflictError: other writers won every attempt.
    """
    from deltalake import CommitProperties, write_deltalake
    from deltalake.exceptions import CommitFailedError

    for attempt in range(ATTEMPTS):
        snapshot = table.open()
        if column.are_those_of(snapshot, schema):
            return False
        marked = CommitProperties(custom_metadata={commits.RESTART: "columns"}, max_commit_retries=0)
        try:
            with table.writing():
                write_deltalake(
                    snapshot,
                    schema.empty_table(),
                    mode="overwrite",
                    schema_mode="overwrite",
                    partition_by=[PARTITION] if partitioned else None,
                    commit_properties=marked,
                )
        except CommitFailedError:
            time.sleep(0.05 * 2**attempt)
        else:
            log.info("%s: begun anew with other columns", table.name)
            return True
    raise LakeConflictError(
        f"{table.name!r} could not be begun anew: {ATTEMPTS} commits lost to other writers",
        where=table.uri,
        remedy="run the task again once the other writer is done",
    )
