"""A few records of a text, one by one: which are rows of the partition, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from millrace.ingestion.base import UNASSIGNED
from millrace.ingestion.conform import Fault
from millrace.ingestion.text_format import Found, Record, Task
from millrace.ingestion.value import NoZoneError, UnfitError, cast, plain_text

_UNREADABLE = ("no_partition", None, "its columns name no partition")
_OUTSIDE = ("outside", None, "a partition outside the domain's bounds")


class NoZoneFound(Exception):  # noqa: N818 - a message to the reader, which knows the line and makes a SourceError of it
    """No time of a column carries a zone; with the offset of the first record and the column."""

    def __init__(self, offset: int, column: str) -> None:
        super().__init__(offset, column)
        self.offset, self.column = offset, column


class Suspect(NamedTuple):
    """A record that is no row.

    Attributes:
        offset: of its first byte.
        length: in bytes.
        texts: the values that can be made out.
        fault: reason, column and detail.
    """

    offset: int
    length: int
    texts: Mapping[str, str | None]
    fault: tuple[str, str | None, str]


@dataclass(slots=True)
class _Times:
    """Of one column: how many times carry a zone, and the first record whose time does not."""

    zoned: int = 0
    naked: int | None = None


@dataclass(slots=True)
class _Records:
    """Records of a text, sorted into rows and suspects."""

    task: Task
    rows: list[tuple[Suspect, list[str | None]]] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    times: dict[str, _Times] = field(default_factory=dict)

    def add(self, offset: int, length: int, record: Record) -> None:
        fault, plain = record.fault, []
        clock = self.task.spec.clock
        for column, kind in self.task.spec.columns.items():
            if fault is not None:
                break
            text = record.texts.get(column)
            try:
                plain.append(None if text is None else plain_text(kind, text, clock))
            except UnfitError as error:
                fault = ("type", column, str(error))
                if isinstance(error, NoZoneError):
                    times = self.times.setdefault(column, _Times())
                    times.naked = offset if times.naked is None else times.naked
                continue
            if kind == "timestamp" and text is not None:
                self.times.setdefault(column, _Times()).zoned += 1
        suspect = Suspect(offset, length, record.texts, fault or _UNREADABLE)
        if fault is None:
            self.rows.append((suspect, plain))
        else:
            self.suspects.append(suspect)

    def check_zones(self) -> None:
        """One time without a zone among others is a fault of its record; all of them are one of the source."""
        for column, times in self.times.items():
            if times.naked is not None and not times.zoned:
                raise NoZoneFound(times.naked, column)


def look_closely(
    records: Iterable[tuple[int, int, Record]], task: Task, zoned: Iterable[str] = ()
) -> tuple[pa.RecordBatch, list[Found]]:
    """The rows of the asked partition among records, and the faults of the others, by offset.

    Args:
        records: offset, length and what was found there.
        task: what is asked for.
        zoned: columns of which other times carry a zone.

    Raises:
        NoZoneFound: all times of a column are without a zone, and the spec gives none.
    """
    sorted_out = _Records(task, times={column: _Times(zoned=1) for column in zoned})
    for offset, length, record in records:
        sorted_out.add(offset, length, record)
    sorted_out.check_zones()
    rows = sorted_out.rows
    columns = zip(*(plain for _, plain in rows), strict=True) if rows else [()] * len(task.schema)
    kinds = task.spec.columns.values()
    arrays = [cast(list(values), kind) for kind, values in zip(kinds, columns, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, schema=task.schema)
    faults = list(place_suspects(sorted_out.suspects, task))
    if (placed := task.place({name: batch[name] for name in task.schema.names})) is not None:
        for row, (suspect, _) in enumerate(rows):
            if placed.unreadable[row] or placed.outside[row]:
                reason, column, detail = _OUTSIDE if placed.outside[row] else _UNREADABLE
                faults.append(Found(suspect.offset, suspect.length, Fault(reason, column, detail, UNASSIGNED)))
        batch = batch.filter(pa.array(placed.asked))
    return batch, faults


def place_suspects(suspects: list[Suspect], task: Task) -> Iterator[Found]:
    """Faults of records of the asked partition, and of those nobody can tell the partition of."""
    if not suspects:
        return
    names = task.spec.partition_columns
    columns = {name: cast([_plain(item, name, task) for item in suspects], task.spec.columns[name]) for name in names}
    placed = task.place(columns)
    for row, (offset, length, _, (reason, column, detail)) in enumerate(suspects):
        nowhere = placed is not None and (placed.unreadable[row] or placed.outside[row])
        if placed is None or placed.asked[row] or nowhere:
            told = "no_partition" if reason == "type" and column in names else reason
            key = UNASSIGNED if nowhere else task.partition.key
            yield Found(offset, length, Fault(told, column, detail, key))


def _plain(suspect: Suspect, column: str, task: Task) -> str | None:
    text = suspect.texts.get(column)
    try:
        return None if text is None else plain_text(task.spec.columns[column], text, task.spec.clock)
    except UnfitError:
        return None
