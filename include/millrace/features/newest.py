"""The newest usable fact of each key, streamed: DuckDB finds them on narrow columns, then their values are read once.

Two passes over the source. The first sees keys and instants alone and keeps the best of each key; the second joins all
columns to these and hands on batches as they come. What does not fit into the memory given spills to disk in the first
pass; the second holds no more than the best instants and a batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from millrace.errors import FeatureError
from millrace.features.base import EVENT_TIMESTAMP, INSTANT, KNOWN_AT
from millrace.lake.commits import PARTITION
from millrace.lake.duck import connect, quoted
from millrace.online import ViewLayout

BATCH_ROWS = 16_384
_STREAMED = {"batch_size": BATCH_ROWS, "batch_readahead": 4, "fragment_readahead": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Where the facts of a view stand.

    Attributes:
        dataset: Arrow dataset over one snapshot of them.
        event: column with the instant each happened at.
        known: column with the instant it became known at; None where facts are known as they happen.
        bounds_use: whether a fact may be used only from `known` on; False where that only breaks ties.
        renamed: name in the view → column, where they differ.
        constant: names in the view that are no column and have this value in every row.
    """

    dataset: Any
    event: str = EVENT_TIMESTAMP
    known: str | None = KNOWN_AT
    bounds_use: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)
    constant: Mapping[str, Any] = field(default_factory=dict)

    def column(self, name: str) -> str:
        """Column that holds a name of the view."""
        return self.renamed.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which facts count. Instants are microseconds since 1970.

    Attributes:
        mark: facts that were usable by then.
        earliest: facts that happened then or later; None for all.
        since: facts that became usable after this; None for all.
        partitions: partitions of a table of the lake to look in; None for all.
        whole: those of them in which `since` does not count.
    """

    mark: int
    earliest: int | None = None
    since: int | None = None
    partitions: Sequence[str] | None = None
    whole: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest facts, one a key.

    Attributes:
        keys: how many there are.
        batches: them, with the columns of the layout, `event_timestamp` and `known_at`.
    """

    keys: int
    batches: Iterator[pa.RecordBatch]


@contextmanager
def newest_facts(
    facts: Facts, layout: ViewLayout, window: Window, *, memory_limit: str = "1GB", threads: int = 2
) -> Iterator[Newest]:
    """For each key the usable fact with the largest (event_timestamp, known_at, values by the features' names).

    Facts with a null in their key are left out. The batches can be read once, within the context.

    Args:
        facts: the facts.
        layout: of the view.
        window: which of them count.
        memory_limit: over it DuckDB spills to disk.
        threads: cores it may use.

    Raises:
        FeatureError: a column is missing, or the memory does not do.
    """
    import duckdb

    _require(facts, layout)
    with tempfile.TemporaryDirectory(prefix="millrace-newest-") as spill:
        connection = connect(threads=threads, memory_limit=memory_limit, spill=Path(spill))
        try:
            keys, ties = _find_best(connection, facts, layout, window)
            yield Newest(keys=keys, batches=_values(connection, facts, layout, window, ties=ties))
        except duckdb.OutOfMemoryException as error:
            raise FeatureError(
                f"finding the newest facts takes more memory than {memory_limit}, or more room than there is to spill",
                where="compute.memory_limit of the domain",
                remedy="raise it, or make room where temporary files go",
            ) from error
        finally:
            connection.close()


def _require(facts: Facts, layout: ViewLayout) -> None:
    names = [name for name, _ in (*layout.entities, *layout.features) if name not in facts.constant]
    columns = [*map(facts.column, names), facts.event, *([facts.known] if facts.known else [])]
    if absent := [name for name in columns if name not in facts.dataset.schema.names]:
        raise FeatureError(
            f"the feature table has no column {', '.join(map(repr, absent))}", remedy="build the features again"
        )


def _find_best(connection: Any, facts: Facts, layout: ViewLayout, window: Window) -> tuple[int, bool]:
    """Make `best`: keys and the largest (event, known) as one number. Also: how many keys, and whether any ties."""
    names = [name for name, _ in layout.entities]
    reader = _read(facts, [name for name in names if name not in facts.constant], window)
    keys = [f"{_expression(facts, name)} AS k{index}" for index, name in enumerate(names)]
    present = " AND ".join(f"{_expression(facts, name)} IS NOT NULL" for name in names) or "true"
    connection.register("narrow", reader)
    connection.execute(
        f"CREATE TEMP TABLE fact AS SELECT {', '.join([*keys, f'{_score(facts)} AS score'])} FROM narrow "
        f"WHERE {present}"
    )
    connection.unregister("narrow")
    by = ", ".join(f"k{index}" for index in range(len(names)))
    group = f"SELECT {by}, max(score) AS score FROM fact GROUP BY {by}"
    connection.execute(f"CREATE TEMP TABLE best AS {group}")
    count = int(connection.execute("SELECT count(*) FROM best").fetchone()[0])
    winners = f"SELECT count(*) FROM fact JOIN best USING ({by}, score)"
    ties = int(connection.execute(winners).fetchone()[0]) > count
    connection.execute("DROP TABLE fact")
    return count, ties


def _values(
    connection: Any, facts: Facts, layout: ViewLayout, window: Window, *, ties: bool
) -> Iterator[pa.RecordBatch]:
    """The winners with their values; where several facts tie, the one with the largest values."""
    keys, features = [name for name, _ in layout.entities], [name for name, _ in layout.features]
    reader = _read(facts, [name for name in (*keys, *features) if name not in facts.constant], window)
    connection.register("wide", reader)
    on = [f"{_expression(facts, name)} = best.k{index}" for index, name in enumerate(keys)]
    known = facts.known or facts.event
    columns = [
        *(f"{_expression(facts, name)} AS {quoted(name)}" for name in (*keys, *features)),
        f"{_instant(facts.event)} AS {quoted(EVENT_TIMESTAMP)}",
        f"coalesce({_instant(known)}, {_instant(facts.event)}) AS {quoted(KNOWN_AT)}",
    ]
    query = f"SELECT {', '.join(columns)} FROM wide JOIN best ON {' AND '.join([*on, f'{_score(facts)} = best.score'])}"
    if ties:
        order = ", ".join(f"{quoted(name)} DESC NULLS LAST" for name in sorted(features))
        by = ", ".join(map(quoted, keys))
        query = f"SELECT * FROM ({query}) QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY {order}) = 1"
    yield from connection.sql(query).to_arrow_reader(BATCH_ROWS)


def _read(facts: Facts, names: Sequence[str], window: Window) -> Any:
    """A reader of the facts in question, file after file: a scan of all would hold what DuckDB has not taken yet."""
    columns = [*map(facts.column, names), facts.event, *([facts.known] if facts.known else [])]
    unique, condition, schema = list(dict.fromkeys(columns)), _condition(facts, window), facts.dataset.schema

    def batches() -> Iterator[pa.RecordBatch]:
        for fragment in facts.dataset.get_fragments(filter=condition):
            scanner = fragment.scanner(schema=schema, columns=unique, filter=condition, **_STREAMED)
            yield from scanner.to_reader()

    return pa.RecordBatchReader.from_batches(pa.schema([schema.field(name) for name in unique]), batches())


def _condition(facts: Facts, window: Window) -> Any:
    """What Arrow leaves out while reading: whole files and row groups where their statistics say so."""
    event = pads.field(facts.event)
    kind = facts.dataset.schema.field(facts.event).type
    condition = event <= _scalar(window.mark, kind)
    if window.earliest is not None:
        condition &= event >= _scalar(window.earliest, kind)
    known = pads.field(facts.known) if facts.known and facts.bounds_use else None
    if facts.known and known is not None:
        known_kind = facts.dataset.schema.field(facts.known).type
        condition &= known.is_null() | (known <= _scalar(window.mark, known_kind))
    if window.partitions is not None:
        condition &= pads.field(PARTITION).isin(pa.array(window.partitions, pa.string()))
    if window.since is None:
        return condition
    later = event > _scalar(window.since, kind)
    if facts.known and known is not None:
        later |= known > _scalar(window.since, facts.dataset.schema.field(facts.known).type)
    if window.whole:
        later |= pads.field(PARTITION).isin(pa.array(window.whole, pa.string()))
    return condition & later


def _scalar(microseconds: int, kind: pa.DataType) -> pa.Scalar:
    instant = pa.scalar(microseconds, pa.int64())
    if pa.types.is_timestamp(kind):
        plain = instant.cast(pa.timestamp("us") if kind.tz is None else INSTANT)
        return plain.cast(kind, safe=False)
    return instant.cast(INSTANT)


def _expression(facts: Facts, name: str) -> str:
    if name in facts.constant:
        value = facts.constant[name]
        return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
    return quoted(facts.column(name))


def _instant(column: str) -> str:
    return f"CAST({quoted(column)} AS TIMESTAMPTZ)"


def _score(facts: Facts) -> str:
    """(event, known) as one number that sorts like the pair."""
    event = f"epoch_us({_instant(facts.event)})"
    known = f"coalesce(epoch_us({_instant(facts.known)}), {event})" if facts.known else event
    return f"CAST({event} AS HUGEINT) * 18446744073709551616 + {known}"
