"""Entries made when the raw columns were others: which rows of today they are about."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical
from millrace.validation.base import ROW
from millrace.validation.content import contents_of, reason_names, row_id, rows_of
from millrace.validation.naming import BATCH_ROWS, CARRIED, LATE, carried_table, content_hash, raw_schema


@dataclass(slots=True)
class _Group:
    """Entries of one set of columns, by what they hold in those that are still there.

    Attributes:
        columns: those that are still there.
        entries: content → id and raw text of the entries that have it.
        rows: content → position and id of today of the rows that have it, in the order of their positions.
    """

    columns: pa.Schema
    entries: defaultdict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    rows: defaultdict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))


def carry_over(
    connection: Any, entries: pa.Table, *, source: str, view: str = "raw", records: Collection[str] = ()
) -> None:
    """Find the rows of entries that were made with other columns, so that these keep their ids.

    The id of a row is made of all its columns. Where one was added or left out since an entry was made, its row is
    found by the columns both have, the number among rows equal in them, and never where another entry is about the
    row already. So is that of a late record, once its partition was read anew for the sake of such a column and the
    record is a row like others. `locate` and `describe_rows` go by what is found; it does not depend on who is open
    or decided on.

    Args:
        connection: a DuckDB connection; what is found stands in a table of it.
        entries: all entries of the partition.
        source: name of the raw table, as their ids were made with.
        view: view of the raw rows with `row#`.
        records: ids of the records there are now that never became rows.
    """
    schema = raw_schema(connection, view)
    carried_table(connection, empty=True)
    rows = entries.filter(pc.or_(pc.equal(entries["kind"], "row"), _late_ones(entries, records)))
    older = _older(rows, schema)
    if not older:
        return
    known = set(rows["row_id"].to_pylist())
    groups = []
    for names in sorted(older, key=_newest):
        groups.append(group := _Group(pa.schema([item for item in schema if item.name in names])))
        _fill(connection, group, older[names], source=source, view=view)
    named = [item for group in groups for items in group.rows.values() for item in items if item[1] in known]
    found = _assign(groups, source, taken={position for position, _ in named}, there={name for _, name in named})
    positions, ids, texts = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    given = {ROW: pa.array(positions, pa.int64()), "row_id": pa.array(ids, pa.string())}
    connection.register("carried_given", pa.table({**given, "raw": pa.array(texts, pa.string())}))
    connection.execute(f"INSERT INTO {CARRIED} SELECT * FROM carried_given")
    connection.unregister("carried_given")


def _late_ones(entries: pa.Table, records: Collection[str]) -> pa.Array:
    """Which entries are of late records that are no records any more."""
    likely = pc.and_(pc.equal(entries["kind"], "record"), pc.match_substring(entries["reasons"], f'"{LATE}"'))
    likely = pc.and_(likely, pc.and_(pc.is_valid(entries["raw"]), _not_among(entries["row_id"], records)))
    if not pc.any(likely).as_py():
        return likely
    told = zip(likely.to_pylist(), entries["reasons"].to_pylist(), strict=True)
    return pa.array([each and LATE in reason_names(why) for each, why in told], pa.bool_())


def _not_among(ids: pa.ChunkedArray, records: Collection[str]) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(ids, pa.array(sorted(records), pa.string())))


def _older(rows: pa.Table, schema: pa.Schema) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """Names of columns → id and raw text of the entries that were made with them, and not with those of today."""
    today = tuple(sorted(schema.names))
    older: defaultdict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for name, text in zip(rows["row_id"].to_pylist(), rows["raw"].to_pylist(), strict=True):
        names = tuple(sorted(orjson.loads(text)))
        if names != today and not set(names).isdisjoint(today):
            older[names].append((name, text))
    return older


def _newest(names: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return -len(names), names


def _fill(connection: Any, group: _Group, entries: Sequence[tuple[str, str]], *, source: str, view: str) -> None:
    """Put entries into their group, and all rows equal to one of them in the columns that are still there."""
    schema = raw_schema(connection, view)
    kept = rows_of([text for _, text in entries], group.columns).combine_chunks()
    for content, entry in zip(contents_of(kept.to_batches()[0])[0], entries, strict=True):
        group.entries[content].append(entry)
    connection.register("carried_kept", kept)
    same = content_hash(group.columns)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE carried_hash AS SELECT {same} AS hash FROM carried_kept")
    connection.unregister("carried_kept")
    found = connection.sql(
        f"""
        SELECT *, row_number() OVER (PARTITION BY {content_hash(schema)} ORDER BY "{ROW}") - 1 AS "number#"
        FROM {view} WHERE {same} IN (SELECT hash FROM carried_hash) ORDER BY "{ROW}"
        """
    )
    for batch in found.to_arrow_reader(BATCH_ROWS):
        contents, _ = contents_of(batch.select(group.columns.names))
        _, digests = contents_of(batch.select(schema.names))
        told = zip(contents, batch[ROW].to_pylist(), digests, batch["number#"].to_pylist(), strict=True)
        for content, position, digest, number in told:
            if content in group.entries:
                group.rows[content].append((position, row_id(source, digest, number)))
    connection.execute("DROP TABLE carried_hash")


def _assign(groups: Iterable[_Group], source: str, *, taken: set[int], there: set[str]) -> list[tuple[int, str, str]]:
    """Position, id and raw text of the entries whose rows are there, each row at most once."""
    found = []
    for group in groups:
        for content, entries in group.entries.items():
            positions = [position for position, _ in group.rows[content]]
            texts = {name: text for name, text in entries if name not in there}
            numbers = _numbers(texts, source, len(positions))
            moved = []
            for name, number in numbers.items():
                if positions[number] in taken:
                    moved.append(name)
                else:
                    taken.add(positions[number])
                    found.append((positions[number], name, texts[name]))
            free = (position for position in positions if position not in taken)
            for name, position in zip(moved, list(free), strict=False):
                taken.add(position)
                found.append((position, name, texts[name]))
    return found


def _numbers(texts: Mapping[str, str], source: str, copies: int) -> dict[str, int]:
    """Id → running number it was made with, in the order of contents and numbers; only those below `copies`."""
    by_text: defaultdict[str, set[str]] = defaultdict(set)
    for name, text in texts.items():
        by_text[text].add(name)
    found = {}
    for text, names in sorted(by_text.items()):
        content = {name: value for name, value in orjson.loads(text).items() if value is not None}
        digests = [hashlib.sha256(canonical(of)).hexdigest() for of in (content, ["record", text])]
        for number in range(copies):
            for name in names & {row_id(source, digest, number) for digest in digests}:
                found[name] = number
                names.discard(name)
            if not names:
                break
    return found
