"""Rows that appear in a partition after it was closed: found by comparing what was published with what is there now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.lake import duck

_BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a new delivery of a partition differs from the published one, both taken as bags of rows.

    Attributes:
        connection: holds the difference as table `late`; closed by the caller.
        late: rows that are new, changed ones included.
        missing: published rows that are not delivered any more.
    """

    connection: Any
    late: int
    missing: int

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The late rows in a fixed order."""
        yield from self.connection.sql("SELECT * FROM late ORDER BY ALL").to_arrow_reader(_BATCH)


def compare(published: Sequence[Path], delivered: Path, *, memory_limit: str, folder: Path) -> Difference:
    """Compare two states of a partition.

    Args:
        published: Parquet files of the raw partition as it stands.
        delivered: Parquet file of what the source has now, with the same columns.
        memory_limit: of DuckDB; beyond it spills to `folder`.
        folder: for what does not fit into memory.
    """
    connection = duck.connect(memory_limit=memory_limit, spill=folder)
    files = ", ".join(duck.text(str(path)) for path in published)
    new = f"SELECT * FROM read_parquet({duck.text(str(delivered))}, hive_partitioning = false)"
    columns = ", ".join(duck.quoted(name) for name in connection.sql(f"{new} LIMIT 0").columns)
    old = f"SELECT {columns} FROM read_parquet([{files}], hive_partitioning = false)" if published else f"{new} LIMIT 0"
    connection.execute(f"CREATE TEMP TABLE late AS ({new}) EXCEPT ALL ({old})")
    late = int(connection.execute("SELECT count(*) FROM late").fetchall()[0][0])
    missing = connection.execute(f"SELECT count(*) FROM (({old}) EXCEPT ALL ({new}))").fetchall()[0][0]
    return Difference(connection=connection, late=late, missing=int(missing))
