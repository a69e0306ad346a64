"""Reading facts of a source between two instants: all at once, batch by batch, or those of given numbers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from feast.data_source import DataSource

from millrace.errors import FeatureError
from millrace.features.base import INSTANT

_TEXT_BYTES, _BATCH_BYTES = 32, 16_000_000


@dataclass(slots=True, kw_only=True)
class Scan:
    """Facts of a source; their numbers are their places in the order in which they are read.

    Attributes:
        dataset: the source as it is at this moment.
        condition: which rows are meant; None for all.
    """

    dataset: Any
    condition: Any | None
    _fragments: list[Any] = field(default_factory=list)
    _rows: dict[int, int] = field(default_factory=dict)

    def rows_at_most(self) -> int:
        """Rows of the files that can hold facts that are meant, by their metadata."""
        return sum(fragment.count_rows() for fragment in self._files())

    def width(self, columns: Sequence[str]) -> int:
        """About how many bytes a row of these columns takes in memory."""
        return sum(_width(self.dataset.schema.field(name).type) for name in columns)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """All facts, each column in one piece."""
        return self.dataset.to_table(columns=list(columns), filter=self.condition).combine_chunks()

    def stream(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """All facts batch by batch, with the number of the first of each."""
        first = 0
        for index, _ in enumerate(self._files()):
            begin = first
            for batch in self._batches(index, columns):
                yield first, batch
                first += batch.num_rows
            self._rows[index] = first - begin

    def gather(self, columns: Sequence[str], numbers: Any) -> pa.Table:
        """The facts of these numbers, which ascend; files that hold none of them are left alone once they are known."""
        found, first = [], 0
        for index, _ in enumerate(self._files()):
            known = self._rows.get(index)
            if known is not None and not _within(numbers, first, known).size:
                first += known
                continue
            for batch in self._batches(index, columns):
                wanted = _within(numbers, first, batch.num_rows)
                if wanted.size:
                    found.append(batch.take(pa.array(wanted - first)))
                first += batch.num_rows
        schema = pa.schema([self.dataset.schema.field(name) for name in columns])
        return pa.Table.from_batches(found, schema).combine_chunks()

    def take(self, columns: Sequence[str], numbers: Any) -> pa.Table:
        """The facts of these numbers, in their order."""
        ascending, places = np.unique(numbers, return_inverse=True)
        return self.gather(columns, ascending).take(pa.array(places))

    def _files(self) -> list[Any]:
        if not self._fragments:
            self._fragments = list(self.dataset.get_fragments(filter=self.condition))
        return self._fragments

    def _batches(self, index: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = max(1024, min(131_072, _BATCH_BYTES // max(self.width(columns), 1)))
        scanner = self._files()[index].scanner(
            schema=self.dataset.schema,
            columns=list(columns),
            filter=self.condition,
            batch_size=rows,
            batch_readahead=2,
            fragment_readahead=1,
        )
        yield from (batch for batch in scanner.to_batches() if batch.num_rows)


def scan_source(
    source: DataSource,
    dataset: Any,
    columns: Sequence[str],
    *,
    timestamp_field: str = "",
    earliest: int | None = None,
    latest: int | None = None,
) -> Scan:
    """Facts of a source with earliest <= event_timestamp <= latest; files out of these bounds are not opened.

    Args:
        source: the source.
        dataset: what `open_source` gave for it.
        columns: columns that will be asked for.
        timestamp_field: column of the event timestamp; by default as the source says.
        earliest: microseconds since 1970; None for no bound.
        latest: the same.

    Raises:
        FeatureError: the source has no such column.
    """
    name = timestamp_field or source.timestamp_field
    require_columns(source, dataset, [*columns, *([name] if name else [])])
    if not name or (earliest is None and latest is None):
        return Scan(dataset=dataset, condition=None)
    kind = dataset.schema.field(name).type
    condition = None
    for bound, compare in ((earliest, pads.field(name).__ge__), (latest, pads.field(name).__le__)):
        if bound is not None:
            limit = compare(_bound(bound, kind))
            condition = limit if condition is None else condition & limit
    return Scan(dataset=dataset, condition=condition)


def require_columns(source: DataSource, dataset: Any, columns: Sequence[str]) -> None:
    """Raise where a source lacks a column.

    Raises:
        FeatureError: it does.
    """
    if absent := [name for name in dict.fromkeys(columns) if name not in dataset.schema.names]:
        raise FeatureError(
            f"source {source.name!r} has no column {', '.join(map(repr, absent))}",
            remedy=f"it has {', '.join(dataset.schema.names)}; correct the feature view, or build the table again",
        )


def _within(numbers: Any, first: int, rows: int) -> Any:
    begin, end = np.searchsorted(numbers, (first, first + rows))
    return numbers[begin:end]


def _width(kind: pa.DataType) -> int:
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:
        return _TEXT_BYTES


def _bound(microseconds: int, kind: pa.DataType) -> pa.Scalar:
    most = (2**63 - 1) // (1000 if pa.types.is_timestamp(kind) and kind.unit == "ns" else 1)
    instant = pa.scalar(max(-most, min(microseconds, most)), pa.int64())  # beyond it there is nothing to compare with
    if pa.types.is_timestamp(kind):
        plain = instant.cast(pa.timestamp("us") if kind.tz is None else INSTANT)
        return plain.cast(kind, safe=False)
    return instant.cast(INSTANT)
