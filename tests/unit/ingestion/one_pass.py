"""What tests of sources other than files share: one pass over a partition, to its end."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from millrace.errors import SourceError
from millrace.ingestion.base import REJECTS, Connection, Reading, Source
from millrace.partition import Partition

JANUARY, FEBRUARY = Partition("2020-01"), Partition("2020-02")
FIRST, LAST = "2020-01", "2020-12"


def rows_of(source: Source, partition: Partition = JANUARY) -> list[dict[str, Any]]:
    """All rows of a partition."""
    return table_of(source, source.read(partition)).to_pylist()


def table_of(source: Source, reading: Reading) -> pa.Table:
    """All rows of a reading, each batch with the declared columns."""
    return pa.Table.from_batches(reading.batches(), schema=source.schema)


def rejects_of(source: Source, partition: Partition = JANUARY) -> list[dict[str, Any]]:
    """The records that a reading sets aside, with what they say."""
    reading = source.read(partition)
    for _ in reading.batches():
        pass
    found = pa.Table.from_batches(reading.rejects(), schema=REJECTS).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in found]


def notes_of(source: Source, partition: Partition = JANUARY) -> list[str]:
    """What a reading notes."""
    reading = source.read(partition)
    for _ in reading.batches():
        pass
    return reading.notes()


def no_connections(name: str) -> Connection:
    """There are none."""
    raise SourceError(f"no connection {name!r}", where="test", remedy="name none")
