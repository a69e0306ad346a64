"""As-of joins over Arrow in DuckDB: for each entity row, the newest fact that had happened *and was known* by then.

A fact may be used from `usable = max(event_timestamp, known_at)` on. Of the usable facts of a key the one with the
largest (event_timestamp, known_at, values) wins. Facts that are beaten from the moment they become usable are taken
out first; what is left is a staircase in which later usable means newer, and one ASOF JOIN on `usable` answers every
entity row, also where a newer event became known later than an older one. Values never pass through DuckDB: the join
gives row numbers, which Arrow takes, so that NaN, null and types stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.features.base import INSTANT
from millrace.lake.duck import arrow, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Facts of one view.

    Attributes:
        keys: key columns, in the order of the view's join keys.
        event_timestamp: when each fact happened; timestamp('us', UTC).
        known_at: when it became known; None where facts are known as they happen.
        bounds_use: whether a fact may be used only from `known_at` on; False where that only breaks ties, as Feast's
            created timestamp does by default.
        values: feature columns that break the last ties, asked for only where there are any; None keeps row order.
    """

    keys: list[Any]
    event_timestamp: Any
    known_at: Any | None = None
    bounds_use: bool = True
    values: Callable[[], Sequence[Any]] | None = None

    @property
    def rows(self) -> int:
        """Number of facts."""
        return len(self.event_timestamp)


def microseconds(column: Any) -> Any:
    """Timestamps of any unit and zone as int64 microseconds since 1970; those without zone are read as UTC."""
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False)
        return column.cast(pa.int64())
    return column.cast(INSTANT, safe=False).cast(pa.int64())


def match(history: History, *, keys: Sequence[Any], at: Any, ttl_us: int = 0, memory_limit: str = "2GB") -> Any:
    """For each entity row the number of the fact to use (int64 Arrow array), null where there is none.

    Args:
        history: facts of the view.
        keys: key columns of the entity rows, in the order of the history's.
        at: the instants as of which (int64 microseconds).
        ttl_us: facts older than this at `at` are not used; exactly as old is still usable; 0 for no limit.
        memory_limit: over it DuckDB spills to disk.
    """
    names = [f"k{index}" for index in range(len(keys))]
    connection = connect(memory_limit=memory_limit)
    try:
        _register_facts(connection, history, names)
        entity = pa.array(np.arange(len(at)))
        connection.register("n", pa.table([*keys, at, entity], names=[*names, "at", "entity"]))
        on = " AND ".join([*(f"n.{name} = s.{name}" for name in names), "n.at >= s.usable"])
        fresh = f"CASE WHEN n.at - s.event <= {ttl_us} THEN s.fact END" if ttl_us else "s.fact"
        found = arrow(
            connection.sql(
                f"SELECT {fresh} AS fact FROM n ASOF LEFT JOIN ({_staircase(names)}) AS s ON {on} ORDER BY n.entity"
            )
        )
        return found.column("fact").combine_chunks()
    finally:
        connection.close()


def newest(history: History, *, at: int, ttl_us: int = 0, memory_limit: str = "2GB") -> Any:
    """Number of the fact to use at one instant for every key that has one (int64 Arrow array, ascending)."""
    names = [f"k{index}" for index in range(len(history.keys))]
    connection = connect(memory_limit=memory_limit)
    try:
        _register_facts(connection, history, names)
        by = ", ".join(names)
        one = f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY event DESC, known DESC, rank DESC) = 1"
        usable = f"SELECT * FROM f WHERE usable <= {at} {one if names else ''}"
        if not names:
            usable += "ORDER BY event DESC, known DESC, rank DESC LIMIT 1"
        fresh = f"WHERE {at} - event <= {ttl_us}" if ttl_us else ""
        found = arrow(connection.sql(f"SELECT fact FROM ({usable}) {fresh} ORDER BY fact"))
        return found.column("fact").combine_chunks()
    finally:
        connection.close()


def _register_facts(connection: Any, history: History, names: list[str]) -> None:
    """Make `f`: keys, usable, event, known, rank (of the values, 0 where nothing ties) and fact (the row number)."""
    event = microseconds(history.event_timestamp)
    known = event if history.known_at is None else pc.coalesce(microseconds(history.known_at), event)
    usable = pc.max_element_wise(event, known) if history.bounds_use else event
    numbers = pa.array(np.arange(history.rows))
    facts = pa.table([*history.keys, usable, event, known, numbers], names=[*names, "usable", "event", "known", "fact"])
    connection.register("facts", facts)
    by = ", ".join([*names, "event", "known"])
    rank = "0"
    ties = f"SELECT 1 FROM facts GROUP BY {by} HAVING count(*) > 1 LIMIT 1"
    if connection.execute(ties).fetchall():
        rank = "fact"
        if history.values is not None:
            values = list(history.values())
            columns = [f"v{index}" for index in range(len(values))]
            connection.register("valued", pa.table([*values, numbers], names=[*columns, "fact"]))
            order = ", ".join(f"{column} ASC NULLS FIRST" for column in columns)
            rank = "(SELECT r.rank FROM ranked AS r WHERE r.fact = facts.fact)"
            connection.execute(
                f"CREATE TEMP TABLE ranked AS SELECT fact, row_number() OVER (ORDER BY {order}) AS rank FROM valued"
            )
    connection.execute(f"CREATE TEMP TABLE f AS SELECT *, {rank} AS rank FROM facts")


def _staircase(names: list[str]) -> str:
    """The facts no other usable fact of their key beats when they become usable; unique by key and `usable`."""
    by = f"PARTITION BY {', '.join(names)} " if names else ""
    return (
        f"SELECT * FROM (SELECT *, max(place) OVER ({by}ORDER BY usable) AS best FROM "
        f"(SELECT *, row_number() OVER ({by}ORDER BY event, known, rank) AS place FROM f)) WHERE place = best"
    )
