"""A database as a source, on SQLite: what is asked of it, what comes back, and what its refusals look like."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.ingestion.one_pass import FEBRUARY, FIRST, JANUARY, LAST, notes_of, rejects_of, rows_of, table_of

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection
from millrace.ingestion.sql_source import SqlSource
from millrace.partition import Partition
from millrace.spec.source import SqlSourceSpec

COLUMNS = {"id": "int64", "name": "string", "price": "float64", "sold": "bool"}


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    """A file with the table `sales`, whose rows stand in no order of `id`."""
    connection = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "CREATE TABLE sales (id INTEGER, name TEXT, price NUMERIC, sold INTEGER, year INT, month INT, at TEXT)"
    )
    rows = [
        (3, "c", 3, 1, 2020, 2, "2020-02-01 00:00:00"),
        (1, "a", 1.5, 0, 2020, 1, "2020-01-01T00:00:00Z"),
        (2, "", None, None, 2020, 1, "2020-01-31 23:59:59.999"),
        (4, "NA", 4, 1, 2020, None, None),
        (5, "e", 5, 1, 2019, 12, "2019-12-31 23:59:59"),
    ]
    connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return connection


def source(folder: Path, **changes: Any) -> SqlSource:
    spec = {"kind": "sql", "connection": "shop", "columns": COLUMNS, "key": ["id"], "timezone": "UTC", **changes}
    if "query" not in spec:
        spec["table"] = changes.get("table", "sales")
    path = str(folder / "shop.db")
    return SqlSource(
        spec=SqlSourceSpec.model_validate(spec),
        connections=lambda name: Connection(name=name, kind="sqlite", host=path),
        first=FIRST,
        last=LAST,
    )


def ids(reader: SqlSource, partition: Partition = JANUARY) -> list[int]:
    return [row["id"] for row in rows_of(reader, partition)]


@pytest.mark.usefixtures("database")
def test_a_table_is_read_in_the_order_of_its_key_in_the_declared_types(tmp_path: Path) -> None:
    reader = source(tmp_path, batch_rows=2)
    assert rows_of(reader) == [
        {"id": 1, "name": "a", "price": 1.5, "sold": False},
        {"id": 2, "name": None, "price": None, "sold": None},
        {"id": 3, "name": "c", "price": 3.0, "sold": True},
        {"id": 4, "name": None, "price": 4.0, "sold": True},
        {"id": 5, "name": "e", "price": 5.0, "sold": True},
    ]
    assert notes_of(reader) == ["not declared, so not read: year, month, at"]
    assert all(batch.schema == reader.schema for batch in reader.read(JANUARY).batches())
    assert reader.fingerprint(JANUARY) is None
    assert reader.origin == "sql:shop/sales"


@pytest.mark.usefixtures("database")
def test_a_query_is_given_the_bounds_and_the_key_of_the_partition(tmp_path: Path) -> None:
    moving = source(
        tmp_path, query="SELECT * FROM sales WHERE datetime(at) >= :start AND datetime(at) < :end ORDER BY id;"
    )
    assert ids(moving) == [1, 2]
    assert ids(moving, FEBRUARY) == [3]
    keyed = source(tmp_path, query="SELECT * FROM sales WHERE at LIKE :partition || '%' -- a remark")
    assert sorted(ids(keyed)) == [1, 2]


@pytest.mark.usefixtures("database")
def test_partition_columns_pick_rows_and_rows_of_no_partition_are_set_aside_in_every_reading(tmp_path: Path) -> None:
    columns = {**COLUMNS, "year": "int32", "month": "int32"}
    reader = source(tmp_path, columns=columns, partition_columns={"year": "%Y", "month": "%m"})
    assert ids(reader) == [1, 2]
    assert ids(reader, FEBRUARY) == [3]
    assert ids(reader, Partition("2020-03")) == []
    for partition in (JANUARY, FEBRUARY):
        found = [(row["reason"], row["partition_key"]) for row in rejects_of(reader, partition)]
        assert found == [("no_partition", "unassigned"), ("outside", "unassigned")]


def test_partition_columns_hold_whatever_sqlite_lets_them(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute(
        "INSERT INTO sales (id, year, month) VALUES (6, '2020', '1'), (7, 'old', 1), (8, 2020, 13), (9, 2020.0, 1.0)"
    )
    columns = {"id": "int64", "year": "int32", "month": "int32"}
    reader = source(tmp_path, columns=columns, partition_columns={"year": "%Y", "month": "%m"})
    assert ids(reader) == [1, 2, 6, 9]
    assert [row["reason"] for row in rejects_of(reader)] == ["no_partition", "outside", "no_partition", "no_partition"]


@pytest.mark.usefixtures("database")
def test_a_watermark_picks_rows_by_instant_and_rows_without_one_count_once(tmp_path: Path) -> None:
    reader = source(tmp_path, watermark="at")
    assert ids(reader) == [1, 2]
    assert ids(reader, FEBRUARY) == [3]
    assert [row["reason"] for row in rejects_of(reader)] == ["no_partition"]
    assert rejects_of(reader, FEBRUARY) == []


@pytest.mark.usefixtures("database")
def test_a_watermark_without_zone_is_of_the_zone_of_the_spec(tmp_path: Path) -> None:
    query = source(tmp_path, watermark="at", timezone="Pacific/Auckland")
    assert ids(query) == [1, 2, 3]  # midnight of 1 February there is noon of 31 January in UTC
    with pytest.raises(SourceError, match="without a zone"):
        ids(source(tmp_path, watermark="at", timezone=None), FEBRUARY)


def test_a_watermark_that_is_no_time_is_an_error(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE ticks (id INTEGER, name TEXT, price REAL, sold INTEGER, at INTEGER)")
    database.execute("INSERT INTO ticks VALUES (1, 'a', 1, 1, 1577836800)")
    with pytest.raises(SourceError, match="'at' is int64 where timestamp"):
        ids(source(tmp_path, table="ticks", watermark="at"))


def test_only_the_rows_at_fault_are_set_aside(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute(
        "INSERT INTO sales (id, name, price, sold) VALUES (6, x'ff', 6, 1), (7, 'g', 'cheap', 1), (8, 'h', 1, 2)"
    )
    reader = source(tmp_path, batch_rows=3)
    assert ids(reader) == [1, 2, 3, 4, 5]
    found = [(row["line"], row["reason"], row["column"]) for row in rejects_of(reader)]
    assert found == [(6, "type", "name"), (7, "type", "price"), (8, "type", "sold")]


def test_an_empty_table_has_no_rows_and_its_columns_are_still_checked(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    database.execute("DELETE FROM sales")
    reader = source(tmp_path)
    assert table_of(reader, reader.read(JANUARY)).equals(reader.schema.empty_table())
    assert list(reader.read(JANUARY).batches()) == []
    for lacking in (source(tmp_path, columns={**COLUMNS, "tax": "float64"}), source(tmp_path, query="SELECT 1 AS id")):
        with pytest.raises(SourceError, match="is missing") as caught:
            ids(lacking)
        assert "connection shop" in caught.value.where


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"query": "SELEC 1"}, "syntax error"),
        ({"query": "SELECT * FROM nowhere"}, "no such table: nowhere"),
        ({"table": "nowhere"}, "no table 'nowhere'"),
        ({"query": "SELECT * FROM sales WHERE id = :number"}, ":number"),
        ({"query": "DELETE FROM sales RETURNING *"}, "readonly"),
        ({"watermark": "price_at"}, "column 'price_at' is missing"),
    ],
)
def test_what_the_database_refuses_is_told_with_connection_and_remedy(
    tmp_path: Path, database: sqlite3.Connection, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(SourceError, match=told) as caught:
        ids(source(tmp_path, **changes))
    assert type(caught.value) is SourceError
    assert "connection shop" in caught.value.where
    assert caught.value.remedy
    assert database.execute("SELECT count(*) FROM sales").fetchone() == (5,)


def test_a_file_that_is_absent_or_no_database_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unable to open"):
        ids(source(tmp_path))
    assert not (tmp_path / "shop.db").exists()
    (tmp_path / "shop.db").write_bytes(b"no database " * 100)
    with pytest.raises(SourceError, match="not a database"):
        ids(source(tmp_path))


def test_a_locked_file_asks_for_another_try(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute("BEGIN EXCLUSIVE")
    reader = source(tmp_path)
    impatient = Connection(name="shop", kind="sqlite", host=str(tmp_path / "shop.db"), extra={"timeout": 0.05})
    with pytest.raises(SourceUnavailableError, match="locked"):
        ids(SqlSource(spec=reader.spec, connections=lambda _: impatient, first=FIRST, last=LAST))


def test_a_database_without_its_driver_says_so(tmp_path: Path) -> None:
    spec = source(tmp_path).spec
    reader = SqlSource(spec=spec, connections=lambda name: Connection(name=name, kind="nosuchdb", password="hunter2"))
    with pytest.raises(SourceError, match="no driver") as caught:
        ids(reader)
    assert "hunter2" not in str(caught.value)


def test_reading_can_stop_half_way(tmp_path: Path, database: sqlite3.Connection) -> None:
    database.execute("BEGIN")
    database.executemany("INSERT INTO sales (id) VALUES (?)", [(index,) for index in range(10, 1000)])
    database.execute("COMMIT")
    found = source(tmp_path, batch_rows=10).read(JANUARY).batches()
    assert next(found).num_rows == 10
    found.close()  # type: ignore[attr-defined]
    database.execute("DROP TABLE sales")


@pytest.mark.usefixtures("database")
def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    reader = source(tmp_path)
    tables = [pa.Table.from_batches(reader.read(JANUARY).batches()) for _ in range(2)]
    assert tables[0].equals(tables[1])
