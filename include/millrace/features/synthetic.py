"""Raw rows made up from a source's declaration: typed, within the contract's sets and ranges, the same for a seed.

Values are chosen so that transformations have something to do: few different texts, so that groups fill and joins of
columns of any name meet; numbers that add up exactly in any order; times that crowd together in one part of
a partition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.features.base import ARROW_TYPES, INSTANT
from millrace.partition import Partition
from millrace.spec import SourceSpec
from millrace.spec.cleanup import CastStep, RenameStep

HOUR = 3_600_000_000
CROWDED = timedelta(days=2)
_TEXTS = [
    ["AAA", "BBB", "CCC", "DDD"],
    ["aaa", "bbb", "ccc", "ddd"],
    ["A1001", "B2002", "C3003", "D4004"],
    ["101", "202", "303", "404"],
    ["2013-03-05", "2013-03-06", "2013-03-07", "2013-03-08"],
]
_NULLS = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes rows of one source.

    Attributes:
        source: its declaration.
        random: where chance comes from.
        crowd: middle of the time in which half of a partition's instants lie, where it lies in that partition.
    """

    source: SourceSpec
    random: np.random.Generator
    crowd: datetime

    def rows(self, partition: Partition, count: int) -> pa.Table:
        """Raw rows of a partition (of all time up to its end, for a static source)."""
        columns = {}
        for name, kind in self.source.raw_columns.items():
            if name in self.source.partition_columns:
                text = partition.local_start.strftime(self.source.partition_columns[name])
                values = pa.array([text] * count, pa.string()).cast(ARROW_TYPES[kind])
            else:
                values = self._values(name, kind, partition, count)
            columns[name] = values
        return pa.table(columns)

    def _values(self, name: str, kind: str, partition: Partition, count: int) -> pa.Array:
        meant = self._meant(name) or kind
        if (allowed := self._kwargs(name, "in_set", "value_set")) is not None:
            found: Any = pa.array(list(allowed)[:4]).take(
                pa.array(self.random.integers(0, min(4, len(allowed)), count))
            )
        elif meant == "timestamp":
            found = pa.array(self._instants(partition, count)).cast(INSTANT)
        elif meant == "bool":
            found = pa.array(self.random.random(count) < 0.5)
        elif meant == "string":
            found = self._some(self._texts(name), count)
        else:
            found = pa.array(self._numbers(name, meant, count))
        if kind == "string" and pa.types.is_timestamp(found.type):
            form = self._kwargs(name, "match_strftime_format", "strftime_format") or "%Y-%m-%dT%H:%M:%SZ"
            found = pa.array([moment.strftime(form) for moment in found.to_pylist()])
        holes = np.zeros(count, bool) if self._required(name) else self.random.random(count) < _NULLS
        return pc.if_else(pa.array(holes), pa.scalar(None, ARROW_TYPES[kind]), found.cast(ARROW_TYPES[kind]))

    def _some(self, values: list[Any], count: int) -> pa.Array:
        return pa.array(values).take(pa.array(self.random.integers(0, len(values), count)))

    def _instants(self, partition: Partition, count: int) -> np.ndarray[Any, Any]:
        """Microseconds: three of four are full hours, half of them lie in the crowd."""
        start, end = (_microseconds(moment) for moment in (partition.start, partition.end))
        found = self.random.integers(start, end, count)
        middle, width = _microseconds(self.crowd), int(CROWDED.total_seconds() * 1e6)
        low, high = max(start, middle - width // 2), min(end, middle + width // 2)
        if low < high:
            crowded = self.random.random(count) < 0.5
            found[crowded] = self.random.integers(low, high, int(crowded.sum()))
        minute = HOUR // 60
        full = self.random.random(count) < 0.75
        return np.where(full, np.maximum(found - found % HOUR, start), found - found % minute)

    def _numbers(self, name: str, kind: str, count: int) -> np.ndarray[Any, Any]:
        whole = kind.startswith("int")
        default = (1, 28) if whole else (0, 100)
        low, high = self._kwargs(name, "between", "min_value"), self._kwargs(name, "between", "max_value")
        low = float(default[0] if low is None and high is None else high - 100 if low is None else low)
        high = float(low + default[1] - default[0] if high is None else high)
        if whole:
            return self.random.integers(int(low), max(int(high), int(low)) + 1, count)
        return low + self.random.integers(0, max(int((high - low) * 4), 1), count) / 4

    def _texts(self, name: str) -> list[str]:
        pattern = str(self._kwargs(name, "match_regex", "regex") or "")
        return next((texts for texts in _TEXTS if all(re.search(pattern, text) for text in texts)), _TEXTS[0])

    def _meant(self, name: str) -> str | None:
        """The type that a text is cast to in clean-up, or that its contract says it has."""
        called = self._called(name)
        steps = [step.cast for step in self.source.cleanup if isinstance(step, CastStep)]
        casts = [kind for cast in steps for column, kind in cast.items() if column in called]
        if self._kwargs(name, "match_strftime_format", "strftime_format"):
            return "timestamp"
        return casts[0] if casts else None

    def _required(self, name: str) -> bool:
        return bool(self._called(name) & required_columns(self.source))

    def _called(self, name: str) -> set[str]:
        """The names a raw column has in the course of the clean-up."""
        found = [name]
        for step in self.source.cleanup:
            if isinstance(step, RenameStep) and found[-1] in step.rename:
                found.append(step.rename[found[-1]])
        return set(found)

    def _kwargs(self, name: str, kind: str, key: str) -> Any:
        """What the contract says of a column by an expectation on its values; None where nothing."""
        wanted = f"expect_column_values_to_{'be_' if kind in ('in_set', 'between') else ''}{kind}"
        called = self._called(name)
        for item in self.source.contract:
            if item.type == wanted and item.kwargs.get("column") in called:
                return item.kwargs.get(key)
        return None


def required_columns(source: SourceSpec) -> set[str]:
    """Columns that no clean row lacks: the key, and those whose nulls the contract sets aside or blocks on."""
    null = [item for item in source.contract if item.type == "expect_column_values_to_not_be_null"]
    strict = {item.kwargs["column"] for item in null if item.on_failure != "warn" and "mostly" not in item.kwargs}
    return {*source.key, *strict}


def make_rows(
    source: SourceSpec, partitions: Sequence[Partition], *, rows: int, crowd: datetime, seed: int
) -> dict[str, pa.Table]:
    """Raw rows of a source by partition; a static source has them under "".

    Args:
        source: its declaration.
        partitions: in order; the last gets half of the rows.
        rows: about how many altogether.
        crowd: middle of the time in which most happens.
        seed: decides everything that is left to chance.
    """
    maker = Maker(source=source, random=np.random.default_rng(seed), crowd=crowd)
    if source.static:
        return {"": maker.rows(partitions[-1], min(rows, 200))}
    each = max(rows // 2 // max(len(partitions) - 1, 1), 8)
    counts = [each] * (len(partitions) - 1) + [rows // 2]
    return {item.key: maker.rows(item, count) for item, count in zip(partitions, counts, strict=True)}


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, INSTANT).cast(pa.int64()).as_py())
