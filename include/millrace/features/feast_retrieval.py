"""Entity rows with the features asked for: each view's facts looked up in bounded memory, rows and order kept.

Facts that fit into a quarter of the memory limit are read once. Of others first the columns that decide are read, in
parts by key where these do not fit either, and then only the values of facts that some entity row uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.features import polars_staircase as stairs
from millrace.features.asof import EVER, History, coded_facts, find_sliced, limit_bytes, ranking
from millrace.features.feast_request import Request
from millrace.features.feast_scan import Scan, scan_source
from millrace.features.key_code import KeyCodes

_FACT_BYTES, _MOST_PARTS, _LEAST_ROWS = 112, 4096, 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The facts entity rows use of one view.

    Attributes:
        request: what was asked.
        found: for each entity row the fact's place in `values`, or its number where these are not held; -1 for none.
        values: columns asked for; None where they are read piece by piece.
        scan: reads them.
    """

    request: Request
    found: Any
    values: pa.Table | None
    scan: Scan

    def columns(self, part: slice) -> Iterator[tuple[str, Any]]:
        """Names and values of the features for some of the entity rows."""
        found, values = self.found[part], self.values
        if values is None:
            used, found = _used(found)
            values = self.scan.gather(self.request.columns, used)
        places = pa.array(found, mask=found < 0)
        for column, name in self.request.features:
            yield name, values.column(column).take(places)


def join_views(entities: pa.Table, at: Any, requests: Sequence[Request], *, memory_limit: str) -> Iterator[pa.Table]:
    """Entity rows with features, in pieces of bounded size; at least one piece, also of no rows.

    Args:
        entities: the entity frame.
        at: the instants as of which, microseconds since 1970 (numpy); `EVER` where there is none.
        requests: what is asked of each view.
        memory_limit: what this may take besides frame and result.
    """
    budget = limit_bytes(memory_limit) // 4
    moments = stairs.ascending(at)
    coded: dict[tuple[str, ...], KeyCodes] = {}
    lookups = []
    for request in requests:
        names = tuple(name for _, name in request.keys)
        if names not in coded:
            coded[names] = KeyCodes([entities.column(name) for name in names], len(at))
        lookups.append(_look_up(request, coded[names], moments, budget=budget, memory_limit=memory_limit))
    del coded, moments
    width = sum(lookup.scan.width(lookup.request.columns) for lookup in lookups)
    step = max(_LEAST_ROWS, budget // max(width + entities.nbytes // max(len(at), 1), 1))
    for first in range(0, max(len(at), 1), step):
        piece = entities.slice(first, step)
        for lookup in lookups:
            for name, column in lookup.columns(slice(first, first + step)):
                piece = piece.append_column(name, column)
        yield piece


def _look_up(request: Request, coded: KeyCodes, moments: stairs.Moments, *, budget: int, memory_limit: str) -> Lookup:
    times = moments.at[np.searchsorted(moments.at, EVER, side="right") :]
    first, last = (int(times[0]), int(times[-1])) if len(times) else (0, 0)
    scan = scan_source(
        request.source,
        request.dataset,
        [*request.index, *request.tie_breakers],
        earliest=first - request.ttl_us if request.ttl_us else None,
        latest=last + 1,  # sources may be finer than a microsecond: what lies after `last` is not used
    )
    needed = list(dict.fromkeys([*request.index, *request.columns]))
    if scan.rows_at_most() * scan.width(needed) <= budget:
        rows = scan.read(needed)
        history = _history(request, rows)
        facts = coded_facts(history, coded.of(history.keys, history.rows))
        steps = stairs.build(facts, bounds_use=request.bounds_use, rank=_rank(request, scan, memory_limit, rows))
        found = find_sliced(steps, coded.codes, moments, ttl_us=request.ttl_us, budget=budget)
        return Lookup(request=request, found=found, values=rows, scan=scan)
    numbers = _find_in_parts(request, scan, coded, moments, budget=budget, memory_limit=memory_limit)
    used, found = _used(numbers)
    if used.size * scan.width(request.columns) > budget:
        return Lookup(request=request, found=numbers, values=None, scan=scan)
    return Lookup(request=request, found=found, values=scan.gather(request.columns, used), scan=scan)


def _find_in_parts(
    request: Request, scan: Scan, coded: KeyCodes, moments: stairs.Moments, *, budget: int, memory_limit: str
) -> Any:
    """Numbers of the facts entity rows use, key by key where the columns that decide do not fit into memory at once."""
    numbers = np.full(len(coded.codes), -1, np.int64)
    rank = _rank(request, scan, memory_limit, None)
    waiting = [(0, 1)]
    while waiting:
        rest, parts = waiting.pop()
        held: list[stairs.Facts] = []
        rows = 0
        for first, batch in scan.stream(request.index):
            history = _history(request, batch)
            facts = _part(coded_facts(history, coded.of(history.keys, history.rows), first=first), rest, parts)
            held.append(facts)
            rows += len(facts.code)
            while rows * _FACT_BYTES > budget and parts < min(coded.size, _MOST_PARTS):
                waiting.append((rest + parts, 2 * parts))
                parts *= 2
                held = [_part(item, rest, parts) for item in held]
                rows = sum(len(item.code) for item in held)
        steps = stairs.build(_joined(held), bounds_use=request.bounds_use, rank=rank)
        codes = coded.codes[moments.rows(slice(None))]
        own = slice(None) if parts == 1 else np.flatnonzero(codes % parts == rest)
        asked = stairs.Moments(at=moments.at[own], row=None)
        numbers[moments.rows(own)] = find_sliced(steps, codes[own], asked, ttl_us=request.ttl_us, budget=budget)
    return numbers


def _history(request: Request, rows: Any) -> History:
    return History(
        keys=[rows.column(column) for column, _ in request.keys],
        event_timestamp=rows.column(request.source.timestamp_field),
        known_at=rows.column(request.known) if request.known else None,
        bounds_use=request.bounds_use,
    )


def _rank(request: Request, scan: Scan, memory_limit: str, rows: pa.Table | None) -> Any:
    """Orders facts that tie by all features of the view."""
    names = request.tie_breakers

    def values(numbers: Any) -> Sequence[Any]:
        if rows is not None and set(names) <= set(rows.column_names):
            return [rows.column(name).take(numbers) for name in names]
        return list(scan.take(names, numbers.to_numpy()).columns)

    return ranking(values, memory_limit)


def _part(facts: stairs.Facts, rest: int, parts: int) -> stairs.Facts:
    if parts == 1:
        return facts
    kept = facts.code % parts == rest
    return stairs.Facts(
        code=facts.code[kept],
        event=facts.event[kept],
        known=None if facts.known is None else facts.known[kept],
        number=facts.number[kept],
    )


def _joined(held: Sequence[stairs.Facts]) -> stairs.Facts:
    none = np.empty(0, np.int64)
    known = [item.known for item in held if item.known is not None]
    return stairs.Facts(
        code=np.concatenate([item.code for item in held] or [none.astype(np.int32)]),
        event=np.concatenate([item.event for item in held] or [none]),
        known=np.concatenate(known) if known else None,
        number=np.concatenate([item.number for item in held] or [none]),
    )


def _used(numbers: Any) -> tuple[Any, Any]:
    """The numbers that occur, ascending, and the place of each among them; -1 stays."""
    asked = numbers >= 0
    if not asked.any():
        return np.empty(0, np.int64), np.full(len(numbers), -1, np.int32)
    marks = np.zeros(int(numbers.max()) + 1, bool)
    marks[numbers[asked]] = True
    places = np.cumsum(marks, dtype=np.int64) - 1
    found = places[numbers]
    found[~asked] = -1
    return np.flatnonzero(marks), found
