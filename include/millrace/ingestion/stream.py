"""A reading made of a stream of loose batches: what all sources but files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from millrace.ingestion.base import UNASSIGNED
from millrace.ingestion.cast import Mask, cast_column
from millrace.ingestion.conform import Fault, conform
from millrace.ingestion.spool import Spool
from millrace.lake.schema import TIMESTAMP
from millrace.partition import Partition
from millrace.spec.source import SourceSpec

MAX_ROWS = 1 << 16
MAX_KEYS = 1000
"""Of so many keys that are not declared a reading need know the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """Rows as a source has them.

    Attributes:
        batch: with at least the declared columns, in whatever types.
        records: what the rows were made of, where that is not the batch itself.
        keep: rows that belong to the reading; all by default.
        known: faults that are known already, with the rows that have them.
    """

    batch: pa.RecordBatch
    records: Sequence[Any] | None = None
    keep: Mask | None = None
    known: Sequence[tuple[Mask, Fault]] = ()


@dataclass(slots=True, kw_only=True)
class StreamReading:
    """One pass over the loose batches of a source, conformed one by one.

    Attributes:
        spec: the source.
        partition: the partition read.
        first: key of the domain's first partition.
        last: key of its last one.
        where: place, for messages.
        stream: starts the pass; told where to leave notes.
    """

    spec: SourceSpec
    partition: Partition
    first: str | None
    last: str | None
    where: str
    stream: Callable[[list[str]], Iterator[Loose]]
    _rejects: Spool = field(default_factory=Spool, init=False)
    _notes: list[str] = field(default_factory=list, init=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the partition in the declared types; batches without rows are left out.

        Raises:
            SourceError: the source has not what its spec declares.
            SourceUnavailableError: it went away in between.
        """
        number = 1
        for loose in self.stream(self._notes):
            good, bad = conform(
                loose.batch,
                self.spec,
                self.partition,
                where=self.where,
                first_record=number,
                first=self.first,
                last=self.last,
                records=loose.records,
                keep=loose.keep,
                known=loose.known,
            )
            number += loose.batch.num_rows
            if bad is not None:
                self._rejects.write(bad)
            if good.num_rows:
                yield good

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """The records that did not fit."""
        return self._rejects.read()

    def notes(self) -> list[str]:
        """What people should know."""
        return list(self._notes)


def note_undeclared(spec: SourceSpec, present: Sequence[str], notes: list[str], *, keys: bool = False) -> None:
    """Note the columns that a source has and its spec does not declare, once.

    Args:
        spec: the source.
        present: names of what it has.
        notes: where to leave the note.
        keys: whether the names are keys of its records, which may be personal where its values are: then only counted.
    """
    more = [name for name in present if name not in spec.columns]
    if not more or any(item.startswith("not declared") for item in notes):
        return
    if keys and spec.pii:
        notes.append(f"not declared, so not read: {'over ' if len(more) >= MAX_KEYS else ''}{len(more)} fields")
    else:
        notes.append(f"not declared, so not read: {', '.join(more[:20])}{' …' if len(more) > 20 else ''}")


def within(
    times: pa.Array, column: str, spec: SourceSpec, partition: Partition, *, where: str, nulls: bool
) -> tuple[Mask, list[tuple[Mask, Fault]]]:
    """Which rows lie in the partition by a column of times, and which of them tell no time.

    A row without a time belongs to no partition. It is set aside with one of them only, so that it counts once.

    Args:
        times: values of the column as the source has them.
        column: its name.
        spec: the source.
        partition: the partition asked for.
        where: place, for messages.
        nulls: whether rows without a time are set aside with this partition.
    """
    cast = cast_column(
        times,
        pa.field(column, TIMESTAMP),
        null_values=spec.null_values,
        clock=spec.clock,
        where=where,
    )
    instants = cast.values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    empty = cast.values.is_null().to_numpy(zero_copy_only=False)
    start, end = (int(moment.timestamp()) * 1_000_000 for moment in (partition.start, partition.end))
    inside = ~empty & (instants >= start) & (instants < end)
    if not nulls:
        return inside, []
    faults = [(mask, Fault("no_partition", column, detail, UNASSIGNED)) for mask, detail in cast.faults]
    return inside | empty, [*faults, (empty, Fault("no_partition", column, "no time", UNASSIGNED))]
