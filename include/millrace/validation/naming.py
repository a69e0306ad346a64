"""Which rows of a raw partition are which: ids from content and number, found again without keeping positions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.lake import duck
from millrace.validation.base import ROW
from millrace.validation.content import contents_of, row_id, rows_of

BATCH_ROWS = 20_000
CARRIED = "carried_row"
"""Table of the rows whose id was made with other columns than there are now: `row#`, `row_id` and `raw` as then."""
LATE = "late"
"""Reason of a record that is a whole row and came after its partition was closed."""
_MEMORY = "768MB"


@dataclass(frozen=True, slots=True)
class Sorter:
    """Entries on their way into the order of their ids: on disk where they outgrow its memory.

    Attributes:
        connection: a DuckDB of its own, so that rows can be read from another while they are taken in here.
    """

    connection: Any

    def add(self, ids: list[str], raw: list[str], reasons: list[str]) -> None:
        """Take in entries."""
        self.connection.register("given", pa.table({"row_id": ids, "raw": raw, "reasons": reasons}))
        self.connection.execute("INSERT INTO entry SELECT * FROM given")
        self.connection.unregister("given")

    def sorted(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The entries in the order of their ids."""
        yield from self.connection.sql("SELECT * FROM entry ORDER BY row_id").to_arrow_reader(batch_rows)


@contextmanager
def sorter(spill: Path | None) -> Iterator[Sorter]:
    """An empty sorter."""
    connection = duck.connect(memory_limit=_MEMORY, spill=spill)
    try:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("CREATE TABLE entry (row_id VARCHAR, raw VARCHAR, reasons VARCHAR)")
        yield Sorter(connection)
    finally:
        connection.close()


def number_rows(connection: Any, view: str, wanted: str, *, table: str) -> None:
    """Count, among equal rows in the order of their positions, from 0: a temporary table of `row#`, hash and number.

    Args:
        connection: a DuckDB connection.
        view: view of the rows with `row#`.
        wanted: SQL over `hashed_row` (`row#`, hash) of the hashes whose rows are numbered.
        table: name of the table.
    """
    content = content_hash(raw_schema(connection, view))
    connection.execute(f'CREATE OR REPLACE TEMP TABLE hashed_row AS SELECT "{ROW}", {content} AS hash FROM {view}')
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {table} AS
        SELECT "{ROW}", hash, row_number() OVER (PARTITION BY hash ORDER BY "{ROW}") - 1 AS number
        FROM hashed_row WHERE hash IN ({wanted})
        """
    )
    connection.execute("DROP TABLE hashed_row")


def locate(connection: Any, entries: pa.Table, *, source: str, view: str = "raw") -> dict[str, int]:
    """Find quarantined rows in a raw partition, wherever a newer snapshot has them.

    Those made with other columns than there are now are found where `carry_over` has found them.

    Args:
        connection: a DuckDB connection.
        entries: `row_id` and `raw` of the rows.
        source: name of the raw table, as their ids were made with.
        view: view of the raw rows with `row#`.

    Returns:
        Id → position (`row#`) of those that are there.
    """
    carried_table(connection)
    carried = dict(connection.execute(f'SELECT row_id, "{ROW}" FROM {CARRIED}').fetchall())
    known = {name: carried[name] for name in entries["row_id"].to_pylist() if name in carried}
    entries = entries.filter(pc.invert(pc.is_in(entries["row_id"], pa.array(list(known), pa.string()))))
    if not entries.num_rows:
        return known
    schema = raw_schema(connection, view)
    digests, hashes = _hashed(connection, entries, schema)
    number_rows(connection, view, "SELECT hash FROM wanted_hash", table="numbered_row")
    copies = dict(connection.execute("SELECT hash, count(*) FROM numbered_row GROUP BY hash").fetchall())
    by_content: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for name, digest, content in zip(entries["row_id"].to_pylist(), digests, hashes, strict=True):
        by_content[digest, content].add(name)
    ids: list[str] = []
    told: list[tuple[int, int, str]] = []
    for (digest, content), names in by_content.items():
        for number in range(copies.get(content, 0)):
            if (name := row_id(source, digest, number)) in names:
                ids.append(name)
                told.append((content, number, digest))
                names.discard(name)
            if not names:
                break
    found = _confirmed(connection, ids, told, schema, view)
    for table in ("wanted_hash", "numbered_row"):
        connection.execute(f"DROP TABLE {table}")
    return {**known, **found}


def rows_among(connection: Any, entries: pa.Table) -> pa.Table:
    """The entries that are about raw rows: of rows, and of late records that `carry_over` found to be rows now."""
    carried_table(connection)
    carried = [name for (name,) in connection.execute(f"SELECT row_id FROM {CARRIED}").fetchall()]
    known = pc.is_in(entries["row_id"], pa.array(carried, pa.string()))
    return entries.filter(pc.or_(pc.equal(entries["kind"], "row"), known))


def carried_table(connection: Any, *, empty: bool = False) -> None:
    """Make the table of carried rows where there is none."""
    how = "CREATE OR REPLACE TEMP TABLE" if empty else "CREATE TEMP TABLE IF NOT EXISTS"
    connection.execute(f'{how} {CARRIED} ("{ROW}" BIGINT, row_id VARCHAR, raw VARCHAR)')


def raw_schema(connection: Any, view: str) -> pa.Schema:
    """The columns of a view of raw rows without `row#`."""
    schema = duck.arrow(connection.sql(f"SELECT * FROM {view} LIMIT 0")).schema
    return schema.remove(schema.get_field_index(ROW))


def content_hash(schema: pa.Schema) -> str:
    """SQL of a hash of a row's content, which tells zero from minus zero as its text does."""
    columns = [duck.quoted(field.name) for field in schema]
    signs = [f"signbit({duck.quoted(field.name)})" for field in schema if pa.types.is_floating(field.type)]
    return f"hash({', '.join([*columns, *signs])})"


def _hashed(connection: Any, entries: pa.Table, schema: pa.Schema) -> tuple[list[str], list[int]]:
    """Digest and hash of each entry's content; the hashes also as the temporary table `wanted_hash`."""
    connection.execute("CREATE OR REPLACE TEMP TABLE wanted_hash (hash UBIGINT)")
    digests: list[str] = []
    hashes: list[int] = []
    for batch in entries.to_batches(BATCH_ROWS):
        rows = rows_of(batch["raw"].to_pylist(), schema).combine_chunks()
        digests += contents_of(rows.to_batches()[0])[1]
        numbered = rows.append_column("at#", pa.array(range(rows.num_rows), pa.int64()))
        connection.register("wanted_row", numbered)
        query = f'SELECT {content_hash(schema)} AS hash FROM wanted_row ORDER BY "at#"'
        found = duck.arrow(connection.sql(query))
        connection.unregister("wanted_row")
        connection.register("wanted_row", found)
        connection.execute("INSERT INTO wanted_hash SELECT hash FROM wanted_row")
        connection.unregister("wanted_row")
        hashes += found["hash"].to_pylist()
    return digests, hashes


def _confirmed(
    connection: Any, ids: list[str], told: list[tuple[int, int, str]], schema: pa.Schema, view: str
) -> dict[str, int]:
    """Positions of the rows of some hash and number whose content is the very one that is looked for."""
    hashes, numbers, digests = (list(column) for column in zip(*told, strict=True)) if told else ([], [], [])
    wanted = {"row_id": ids, "hash": pa.array(hashes, pa.uint64()), "number": pa.array(numbers, pa.int64())}
    connection.register("wanted_row", pa.table({**wanted, "digest": pa.array(digests, pa.string())}))
    rows = connection.sql(
        f"""
        SELECT r.*, w.row_id AS "id#", w.digest AS "digest#"
        FROM wanted_row w JOIN numbered_row n USING (hash, number) JOIN {view} r ON r."{ROW}" = n."{ROW}"
        """
    )
    found: dict[str, int] = {}
    for batch in rows.to_arrow_reader(BATCH_ROWS):
        _, seen = contents_of(batch.select(schema.names))
        columns = (batch["id#"].to_pylist(), batch["digest#"].to_pylist(), batch[ROW].to_pylist())
        for digest, (name, expected, position) in zip(seen, zip(*columns, strict=True), strict=True):
            if digest == expected:
                found[name] = position
    connection.unregister("wanted_row")
    return found
