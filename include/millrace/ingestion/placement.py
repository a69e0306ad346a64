"""Which partition a record belongs to, told by its partition columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SpecError
from millrace.ingestion.base import form_values, partition_values
from millrace.ingestion.cast import Mask
from millrace.partition import Partition
from millrace.spec.base import ColumnType
from millrace.spec.source import SourceSpec

Place = Literal["other", "unreadable", "outside"]
_PROBE = {"month": "2013-07", "day": "2013-07-23"}
_HORIZON = 1200
"""Partitions to either side that are looked through where columns name no single partition (a month without year)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Rows of a batch, by where they belong.

    Attributes:
        asked: those of the asked partition.
        unreadable: those whose partition columns name no partition.
        outside: those of a partition before the domain's first or after its last.
    """

    asked: Mask
    unreadable: Mask
    outside: Mask


def place(
    columns: Mapping[str, pa.Array], spec: SourceSpec, partition: Partition, first: str | None, last: str | None
) -> Placement:
    """Where rows belong. Those in no mask belong to another partition of the domain.

    Args:
        columns: the partition columns in their declared types, all of one length.
        spec: the source; one with partition columns.
        partition: the one asked for.
        first: key of the domain's first partition.
        last: key of its last one.
    """
    wanted = partition_values(spec, partition)
    size = len(next(iter(columns.values())))
    asked = np.ones(size, dtype=bool)
    missing = np.zeros(size, dtype=bool)
    for name, value in wanted.items():
        asked &= pc.equal(columns[name], value).fill_null(False).to_numpy(zero_copy_only=False)
        missing |= columns[name].is_null().to_numpy(zero_copy_only=False)
    outside = np.zeros(size, dtype=bool)
    rest = np.flatnonzero(~asked & ~missing)
    if len(rest):
        there = pa.table({name: columns[name].take(pa.array(rest)) for name in wanted})
        names = list(wanted)
        kinds = there.append_column("row#", pa.array(rest)).group_by(names).aggregate([("row#", "list")])
        for group in kinds.select(names).to_pylist():
            found = _place_of(tuple(group.items()), _Calendar.of(spec, partition, first, last))
            if found != "other":
                mask = missing if found == "unreadable" else outside
                mask |= _equal(columns, group)
    return Placement(asked=asked, unreadable=missing, outside=outside)


@dataclass(frozen=True, slots=True)
class _Calendar:
    """What the place of a record depends on, beside its values; hashable."""

    forms: tuple[tuple[str, str, ColumnType], ...]
    asked: Partition
    first: str | None
    last: str | None

    @classmethod
    def of(cls, spec: SourceSpec, asked: Partition, first: str | None, last: str | None) -> _Calendar:
        forms = tuple((name, form, spec.columns[name]) for name, form in spec.partition_columns.items())
        return cls(forms, asked, first, last)

    def values(self, partition: Partition) -> tuple[tuple[str, Any], ...]:
        """What the partition columns hold in a partition."""
        forms = {name: (form, kind) for name, form, kind in self.forms}
        return tuple((name, value.as_py()) for name, value in form_values(forms, partition).items())

    def has(self, key: str) -> bool:
        """Whether a partition lies between the domain's first and last."""
        return (self.first is None or key >= self.first) and (self.last is None or key <= self.last)

    def read(self, values: tuple[tuple[str, Any], ...]) -> Partition | None:
        """The partition that values were written from; None where they can not have been."""
        joined = "\n".join(form for _, form, _ in self.forms)
        text = "\n".join(_text(value, form) for (_, value), (_, form, _) in zip(values, self.forms, strict=True))
        try:
            day = datetime.strptime(text, joined)
            key = day.strftime("%Y-%m" if self.asked.grain == "month" else "%Y-%m-%d")
            found = Partition(key, self.asked.grain, self.asked.timezone)
            return found if self.values(found) == values else None
        except (ValueError, SpecError, OverflowError):
            return None


@functools.lru_cache(maxsize=4096)
def _place_of(values: tuple[tuple[str, Any], ...], calendar: _Calendar) -> Place:
    """Where a record with these values in its partition columns belongs, when not in the asked partition."""
    if _names_one(calendar):
        found = calendar.read(values)
        if found is None:
            return "unreadable"
        return "other" if calendar.has(found.key) else "outside"
    return "other" if values in _window(calendar) else "outside"


@functools.lru_cache(maxsize=64)
def _names_one(calendar: _Calendar) -> bool:
    """Whether the columns name a single partition: year and month, say, and not the month alone."""
    probe = Partition(_PROBE[calendar.asked.grain], calendar.asked.grain, calendar.asked.timezone)
    return calendar.read(calendar.values(probe)) == probe


@functools.lru_cache(maxsize=64)
def _window(calendar: _Calendar) -> frozenset[tuple[tuple[str, Any], ...]]:
    asked = calendar.asked
    start = Partition(calendar.first, asked.grain, asked.timezone) if calendar.first else asked.shift(-_HORIZON)
    end = Partition(calendar.last, asked.grain, asked.timezone) if calendar.last else asked.shift(_HORIZON)
    return frozenset(calendar.values(item) for item in start.until(end))


def _text(value: Any, form: str) -> str:
    return value.astimezone(UTC).strftime(form) if isinstance(value, datetime) else str(value)


def _equal(columns: Mapping[str, pa.Array], group: Mapping[str, Any]) -> Mask:
    same = np.ones(len(next(iter(columns.values()))), dtype=bool)
    for name, value in group.items():
        column = columns[name]
        same &= pc.equal(column, pa.scalar(value, column.type)).fill_null(False).to_numpy(zero_copy_only=False)
    return same
