"""Facts of keys as a staircase, in polars: for each key, the steps at which a newer fact came into use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_NARROW = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts as numbers, one numpy array a column.

    Attributes:
        code: number of the key; none is negative.
        event: when it happened, microseconds since 1970.
        known: when it became known; None where facts are known as they happen.
        number: the fact's own number, by which it is found again.
    """

    code: Any
    event: Any
    known: Any | None
    number: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Staircase:
    """Steps ordered by key and by the instant from which they hold, which differ within a key.

    Attributes:
        code: number of the key.
        usable: the instant from which a step holds.
        event: when its fact happened.
        number: its fact.
    """

    code: Any
    usable: Any
    event: Any
    number: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Instants in ascending order.

    Attributes:
        at: the instants, microseconds since 1970.
        row: the entity row of each; None where the rows ascend themselves.
    """

    at: Any
    row: Any | None

    def rows(self, part: Any) -> Any:
        """The entity rows of a part of the instants."""
        return part if self.row is None else self.row[part]


def ascending(at: Any) -> Moments:
    """The instants of entity rows, ordered; numpy does that in a third of polars' time."""
    if (at[1:] >= at[:-1]).all():
        return Moments(at=at, row=None)
    row = np.argsort(at)
    return Moments(at=at[row], row=row)


def build(facts: Facts, *, bounds_use: bool, rank: Callable[[Any], Any] | None) -> Staircase:
    """The facts that no other one of their key beats when they become usable.

    Args:
        facts: in any order.
        bounds_use: whether a fact may be used only from `known` on; False where that only breaks ties.
        rank: gives an order of the facts whose numbers it gets; asked only for those that happened and became known at
            the same times for one key. Without it the larger number wins.
    """
    ordered = _ordered(facts, rank)
    code, event, number = (ordered[name].to_numpy() for name in ("code", "event", "number"))
    usable = event
    if bounds_use and facts.known is not None:
        usable = np.maximum(event, ordered["known"].to_numpy())
        if not np.array_equal(usable, event):
            place = np.lexsort((usable, code))
            place = place[place == np.maximum.accumulate(place)]
            code, event, number, usable = code[place], event[place], number[place], usable[place]
    last = np.ones(len(code), bool)
    last[:-1] = (code[1:] != code[:-1]) | (usable[1:] != usable[:-1])
    number = number[last]
    if len(number) and number.max() < _NARROW:
        number = number.astype(np.int32)
    return Staircase(code=code[last], usable=usable[last], event=event[last], number=number)


def find(steps: Staircase, code: Any, at: Any, *, ttl_us: int = 0) -> Any:
    """For each key and instant the number of the fact in use; -1 where there is none.

    Args:
        steps: the staircase.
        code: numbers of keys (int32), negative where there is none.
        at: instants, microseconds since 1970, ascending.
        ttl_us: facts older than this are not used; exactly as old is still usable; 0 for no limit.
    """
    import polars as pl

    if not len(steps.code) or not len(code):
        return np.full(len(code), -1, steps.number.dtype)
    right = pl.DataFrame({"code": steps.code, "at": steps.usable, "step": np.arange(len(steps.code), dtype=np.int32)})
    left = pl.DataFrame({"code": code, "at": at})
    joined = left.join_asof(right, on="at", by="code", strategy="backward", check_sortedness=False)
    step = joined["step"].fill_null(-1).to_numpy()
    none = step < 0
    if ttl_us:
        none |= at > (steps.event + ttl_us)[step]
    number = steps.number[step]
    number[none] = -1
    return number


def newest(facts: Facts, *, rank: Callable[[Any], Any] | None) -> tuple[Any, Any]:
    """Of each key the fact that happened last: numbers and when they happened."""
    ordered = _ordered(facts, rank)
    code = ordered["code"].to_numpy()
    last = np.ones(len(code), bool)
    last[:-1] = code[1:] != code[:-1]
    return ordered["number"].to_numpy()[last], ordered["event"].to_numpy()[last]


def _ordered(facts: Facts, rank: Callable[[Any], Any] | None) -> Any:
    """The facts by key, event, known, rank and number."""
    import polars as pl

    columns = {"code": facts.code, "event": facts.event}
    if facts.known is not None:
        columns["known"] = facts.known
    keys = list(columns)
    frame = pl.DataFrame({**columns, "number": facts.number}).sort([*keys, "number"])
    if rank is None or len(frame) < 2:
        return frame
    same = np.ones(len(frame) - 1, bool)
    for name in keys:
        values = frame[name].to_numpy()
        same &= values[1:] == values[:-1]
    if not same.any():
        return frame
    tied = np.zeros(len(frame), bool)
    tied[1:] |= same
    tied[:-1] |= same
    ranks = np.zeros(len(frame), np.int64)
    ranks[tied] = rank(frame["number"].to_numpy()[tied])
    return frame.with_columns(pl.Series("rank", ranks)).sort([*keys, "rank", "number"])
