"""Raw rows made up from a source's declaration: typed, within the contract's sets and ranges, the same for a seed.

Values are chosen so that transformations have something to do: few different texts, so that groups fill and joins of
columns of any name meet; numbers that add up exactly in any order; times that crowd together in one part of
a partition. A key is another in every row, and a key of one column is met by columns of its name in other sources.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.features.base import ARROW_TYPES, INSTANT, KNOWN_AT
from millrace.features.synthetic_key import made_of, more_texts, spread_keys
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
_LATEST_H = 72  # hours by which an instant that is known late comes after the others of its row
_MET = 300  # values of another source's key that a column of its name has


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes rows of one source.

    Attributes:
        source: its declaration.
        random: where chance comes from.
        crowd: middle of the time in which half of a partition's instants lie, where it lies in that partition.
        late: raw columns of instants that may lie beyond their partition.
        foreign: names of other sources' keys.
    """

    source: SourceSpec
    random: np.random.Generator
    crowd: datetime
    late: Collection[str] = ()
    foreign: Collection[str] = ()

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

    def late_instants(self) -> set[str]:
        """Raw instants that what is known late follows from, but for one that tells when a row begins."""
        source = self.source
        instants = [name for name, kind in source.raw_columns.items() if (self._meant(name) or kind) == "timestamp"]
        late = made_of(source, {*source.known_late, KNOWN_AT}) - made_of(source, source.key)
        found = [name for name in instants if name in late and name not in source.partition_columns]
        return set(found if len(found) < len(instants) else found[1:])

    def fresh(self, name: str, count: int, taken: Collection[Any]) -> pa.Array | None:
        """Further values of a text or a number; None where the contract or the partition says which there are."""
        kind = self.source.raw_columns[name]
        meant = self._meant(name) or kind
        if name in self.source.partition_columns or self._kwargs(name, "in_set", "value_set") is not None:
            return None
        if meant == "string":
            pattern = self._pattern(name)
            texts = self._texts(name)
            usable = pattern if all(re.search(pattern, text) for text in texts) else ""
            found: list[Any] = more_texts(texts, usable, taken, count)
        elif meant.startswith(("int", "float")):
            known = {str(value).removesuffix(".0") for value in taken}
            low, high = self._bounds(name, meant)
            top = None if self._kwargs(name, "between", "max_value") is None else int(high)
            last = int(low) + 2 * (count + len(known)) if top is None else min(top, int(low) + 100 * (count + 1))
            found = [number for number in range(int(low), last + 1) if str(number) not in known][:count]
        else:
            return None
        if kind == "string":
            found = [str(value) for value in found]
        return pa.array(found, pa.string() if kind == "string" else pa.int64()).cast(ARROW_TYPES[kind])

    def _values(self, name: str, kind: str, partition: Partition, count: int) -> pa.Array:
        meant = self._meant(name) or kind
        if (allowed := self._kwargs(name, "in_set", "value_set")) is not None:
            found: Any = pa.array(list(allowed)[:4]).take(
                pa.array(self.random.integers(0, min(4, len(allowed)), count))
            )
        elif meant == "timestamp":
            found = pa.array(self._instants(partition, count) + self._lag(name, count)).cast(INSTANT)
        elif meant == "bool":
            found = pa.array(self.random.random(count) < 0.5)
        elif meant == "string":
            found = self._some(self._texts(name), count)
        else:
            found = pa.array(self._numbers(name, meant, count))
        if kind == "string" and pa.types.is_timestamp(found.type):
            form = self._kwargs(name, "match_strftime_format", "strftime_format") or "%Y-%m-%dT%H:%M:%SZ"
            found = pa.array([moment.strftime(form) for moment in found.to_pylist()])
        found = self._meeting(name, found.cast(ARROW_TYPES[kind]), count)
        holes = np.zeros(count, bool) if self._required(name) else self.random.random(count) < _NULLS
        return pc.if_else(pa.array(holes), pa.scalar(None, ARROW_TYPES[kind]), found)

    def _lag(self, name: str, count: int) -> Any:
        """Microseconds by which an instant comes later than others of its row; none for most columns."""
        return self.random.integers(0, _LATEST_H, count) * HOUR if name in self.late else 0

    def _meeting(self, name: str, values: pa.Array, count: int) -> pa.Array:
        """Values, half of them such as the key of another source has under this name."""
        if not self._called(name) & set(self.foreign) or self._called(name) & set(self.source.key):
            return values
        if (keys := self.fresh(name, _MET, set(values.unique().to_pylist()))) is None or len(keys) == 0:
            return values
        other = keys.take(pa.array(self.random.integers(0, len(keys), count)))
        return pc.if_else(pa.array(self.random.random(count) < 0.5), other, values)

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
        low, high = self._bounds(name, kind)
        if kind.startswith("int"):
            return self.random.integers(int(low), max(int(high), int(low)) + 1, count)
        return low + self.random.integers(0, max(int((high - low) * 4), 1), count) / 4

    def _bounds(self, name: str, kind: str) -> tuple[float, float]:
        default = (1, 28) if kind.startswith("int") else (0, 100)
        low, high = self._kwargs(name, "between", "min_value"), self._kwargs(name, "between", "max_value")
        low = float(default[0] if low is None and high is None else high - 100 if low is None else low)
        return low, float(low + default[1] - default[0] if high is None else high)

    def _pattern(self, name: str) -> str:
        return str(self._kwargs(name, "match_regex", "regex") or "")

    def _texts(self, name: str) -> list[str]:
        pattern = self._pattern(name)
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
    source: SourceSpec,
    partitions: Sequence[Partition],
    *,
    rows: int,
    crowd: datetime,
    seed: int,
    foreign: Collection[str] = (),
    grouped: Collection[str] = (),
) -> dict[str, pa.Table]:
    """Raw rows of a source by partition; a static source has them under "".

    Args:
        source: its declaration.
        partitions: in order; the last gets half of the rows.
        rows: about how many altogether.
        crowd: middle of the time in which most happens.
        seed: decides everything that is left to chance.
        foreign: names of other sources' keys, which columns of these names are to meet.
        grouped: columns that feature tables group by.
    """
    random = np.random.default_rng(seed)
    maker = Maker(source=source, random=random, crowd=crowd, foreign=foreign)
    maker = replace(maker, late=maker.late_instants())
    if source.static:
        made = {"": maker.rows(partitions[-1], min(rows, 200))}
    else:
        each = max(rows // 2 // max(len(partitions) - 1, 1), 8)
        counts = [each] * (len(partitions) - 1) + [rows // 2]
        made = {item.key: maker.rows(item, count) for item, count in zip(partitions, counts, strict=True)}
    return spread_keys(source, made, maker.fresh, grouped)


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, INSTANT).cast(pa.int64()).as_py())
