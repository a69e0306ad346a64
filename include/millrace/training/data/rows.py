"""Training rows that stream by: read in batches as often as they are needed, never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import TrainingError
from millrace.lake.digest import ContentDigest

BATCH_ROWS = 16_384
INSTANT = pa.timestamp("us", tz="UTC")
PARTITION = "partition"
LABEL, KNOWN_AT, WEIGHT = "label", "label_known_at", "label_weight"


class TrainingRows(Protocol):
    """Rows of a training set in time order, each with its `partition`."""

    @property
    def schema(self) -> pa.Schema:
        """Columns, in their order."""
        ...

    @property
    def num_rows(self) -> int:
        """How many."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Partition → number of its rows; partitions without rows are left out. In order, as the rows are."""
        ...

    @property
    def partitions(self) -> list[str]:
        """Keys of the partitions that have rows, in order."""
        ...

    @property
    def digest(self) -> str:
        """sha256 of all columns: equal rows in equal order, equal digest, wherever they lie."""
        ...

    def batches(self, columns: Sequence[str] | None = None, *, coded: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows from the first to the last, at most `BATCH_ROWS` at a time.

        Args:
            columns: names, in the order wanted; all by default.
            coded: whether text may come as codes into a dictionary, which may hold more than the rows have.
        """
        ...

    def only(self, partitions: Sequence[str], *, known_until: str | None = None) -> TrainingRows:
        """Those of some partitions.

        Args:
            partitions: keys.
            known_until: ISO instant that labels must be known by.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Rows of an Arrow table, which may lie in memory or in a mapped file.

    Attributes:
        table: in time order, with `partition`.
    """

    table: pa.Table = field(repr=False)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""
        return self.table.schema

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return int(self.table.num_rows)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """As of the protocol."""
        counted = pc.value_counts(self.table.column(PARTITION).cast(pa.string())).to_pylist()
        return {item["values"]: item["counts"] for item in sorted(counted, key=lambda item: str(item["values"]))}

    @property
    def partitions(self) -> list[str]:
        """As of the protocol."""
        return list(self.sizes)

    @cached_property
    def digest(self) -> str:
        """As of the protocol."""
        return digest_rows(self)

    def batches(self, columns: Sequence[str] | None = None, *, coded: bool = False) -> Iterator[pa.RecordBatch]:
        """As of the protocol; nothing is copied."""
        table = self.table if columns is None else self.table.select(list(columns))
        yield from (batch for batch in table.to_batches(max_chunksize=BATCH_ROWS) if batch.num_rows)

    def only(self, partitions: Sequence[str], *, known_until: str | None = None) -> TableRows:
        """As of the protocol."""
        chosen = pc.is_in(self.table.column(PARTITION), value_set=pa.array(partitions, self._key_type))
        if known_until is not None:
            chosen = pc.and_(chosen, known_by(self.table.column(KNOWN_AT), known_until))
        return TableRows(table=self.table.filter(chosen))

    @property
    def _key_type(self) -> pa.DataType:
        kind = self.schema.field(PARTITION).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind


def as_rows(rows: pa.Table | TrainingRows) -> TrainingRows:
    """Rows of a table as a stream; a stream as it is."""
    return TableRows(table=rows) if isinstance(rows, pa.Table) else rows


def digest_rows(rows: TrainingRows) -> str:
    """The digest of rows in one pass over them."""
    found = ContentDigest(rows.schema)
    for batch in rows.batches():
        found.update(batch)
    return found.hexdigest()


def known_by(instants: pa.ChunkedArray | pa.Array, limit: str) -> pa.ChunkedArray | pa.Array:
    """Which instants are not after an ISO instant; a missing one is none of them."""
    return pc.fill_null(pc.less_equal(instants, pa.scalar(datetime.fromisoformat(limit), INSTANT)), False)


def save_rows(rows: TrainingRows, path: Path) -> None:
    """Write rows to an Arrow file, which `open_rows` maps."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        for batch in rows.batches():
            writer.write_batch(batch)


def open_rows(path: Path) -> TableRows:
    """Rows of an Arrow file, mapped into memory: only what is read is loaded.

    Raises:
        TrainingError: the file is missing, or not one that `save_rows` wrote.
    """
    try:
        return TableRows(table=pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all())
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainingError(
            f"rows cannot be read: {error}", where=str(path), remedy="write them again with `save_rows`"
        ) from error
