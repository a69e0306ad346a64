"""PostgreSQL as a source: COPY behind the protocol, and a server that goes away in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import REJECTS, Connection, Reading
from millrace.ingestion.sql_source import SqlSource
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.spec.source import SqlSourceSpec
from millrace.step.ingestion import ingest_partition

pytestmark = pytest.mark.integration
JANUARY, FEBRUARY = Partition("2020-01"), Partition("2020-02")
DRIVERS = ["psycopg", "psycopg2"]
MANY = 1_000_000


@pytest.fixture
def shop(postgres_schema_url: str) -> Iterator[Any]:
    """Runs SQL in a schema of the test's own."""
    engine = create_engine(postgres_schema_url, poolclass=NullPool)

    def run(*statements: str) -> list[Any]:
        with engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return list(results[-1]) if results[-1].returns_rows else []

    yield run


@pytest.fixture
def connection(postgres_schema_url: str) -> Connection:
    url = make_url(postgres_schema_url)
    return Connection(
        name="shop",
        kind="postgres",
        host=str(url.host or url.query.get("host", "")),
        port=url.port,
        login=url.username or "",
        password=url.password or "",
        schema=url.database or "",
        extra={"options": str(url.query["options"])},
    )


def source(connection: Connection, columns: dict[str, str], *, driver: str = "psycopg", **changes: Any) -> SqlSource:
    spec = {"kind": "sql", "connection": "shop", "columns": columns, "key": [], **changes}
    with_driver = Connection(
        **{name: getattr(connection, name) for name in ("name", "kind", "host", "port", "login", "password", "schema")},
        extra={**connection.extra, "driver": driver},
    )
    return SqlSource(
        spec=SqlSourceSpec.model_validate(spec), connections=lambda _: with_driver, first="2020-01", last="2020-12"
    )


def rows_of(reader: SqlSource, partition: Partition = JANUARY) -> list[dict[str, Any]]:
    return all_of(reader, reader.read(partition)).to_pylist()


def all_of(reader: SqlSource, reading: Reading) -> pa.Table:
    return pa.Table.from_batches(reading.batches(), schema=reader.schema)


def rejects_of(reader: SqlSource, partition: Partition = JANUARY) -> list[dict[str, Any]]:
    reading = reader.read(partition)
    list(reading.batches())
    return pa.Table.from_batches(reading.rejects(), schema=REJECTS).to_pylist()


EVERY = """
    SELECT 1::smallint AS a, 2 AS b, 3::bigint AS c, 1.5::real AS d, 0.1::float8 AS e, 2.50::numeric AS f,
           7.00::numeric AS g, true AS h, 'x'::text AS i, 'y'::char(3) AS j, '2020-01-01 12:00+02'::timestamptz AS k,
           '2020-07-01 00:00'::timestamp AS l, '2020-07-01'::date AS m,
           '6c4a4a2e-1111-4111-8111-111111111111'::uuid AS n,
           '{"a": [1, 2]}'::jsonb AS o
    UNION ALL SELECT null, null, null, null, null, null, null, null, null, null, null, null, null, null, null
"""
TYPES = {
    **{"a": "int16", "b": "int32", "c": "int64", "d": "float32", "e": "float64", "f": "float64", "g": "int32"},
    **{"h": "bool", "i": "string", "j": "string", "k": "timestamp", "l": "timestamp", "m": "timestamp"},
    **{"n": "string", "o": "string"},
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_type_of_the_database_becomes_the_declared_one(connection: Connection, driver: str) -> None:
    reader = source(connection, TYPES, driver=driver, query=EVERY, timezone="Europe/Berlin")
    full, empty = rows_of(reader)
    summer = datetime(2020, 6, 30, 22, tzinfo=UTC)
    assert full == {
        **{"a": 1, "b": 2, "c": 3, "d": 1.5, "e": 0.1, "f": 2.5, "g": 7, "h": True, "i": "x", "j": "y  "},
        **{"k": datetime(2020, 1, 1, 10, tzinfo=UTC), "l": summer, "m": summer},
        **{"n": "6c4a4a2e-1111-4111-8111-111111111111", "o": full["o"]},
    }
    assert full["o"].replace(" ", "") == '{"a":[1,2]}'
    assert set(empty.values()) == {None}
    with pytest.raises(SourceError, match="column 'l' holds times without a zone"):
        rows_of(source(connection, TYPES, driver=driver, query=EVERY))


@pytest.mark.parametrize("driver", DRIVERS)
def test_null_and_empty_text_stay_apart_and_text_is_kept_to_the_letter(connection: Connection, driver: str) -> None:
    texts = ["", None, "a,b", 'say "x"', "two\nlines", "\\.", "\r\n", "é✓", "NULL", " "]
    values = ", ".join(f"({n}, {'NULL' if t is None else psycopg.sql.quote(t)})" for n, t in enumerate(texts))
    query = f"SELECT t FROM (VALUES {values}) AS v (n, t) ORDER BY n".replace(":", "\\:")
    for null_values, expected in (([], texts), (["", "NULL"], [None if t in {"", "NULL"} else t for t in texts])):
        reader = source(connection, {"t": "string"}, driver=driver, query=query, null_values=null_values)
        assert [row["t"] for row in rows_of(reader)] == expected


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_single_column_of_nulls_loses_no_row(connection: Connection, driver: str) -> None:
    query = "SELECT CASE WHEN i % 3 = 0 THEN i END AS i FROM generate_series(1, 9) AS i"
    reader = source(connection, {"i": "int32"}, driver=driver, query=query)
    assert [row["i"] for row in rows_of(reader)] == [None, None, 3, None, None, 6, None, None, 9]


def test_what_only_postgres_can_say_is_set_aside_by_row(connection: Connection) -> None:
    query = """
        SELECT * FROM (VALUES (1, '2020-01-01'::timestamptz, '2020-01-01'::date, 1.0::float8, 5::numeric),
            (2, 'infinity', '2020-01-01', 'NaN', 5), (3, '2020-01-01', '-infinity', '-Infinity', 5),
            (4, '2020-01-01', '20000-01-01', 1, 5), (5, '2020-01-01', '2020-01-01', 1, 5.5),
            (6, '2020-01-01', '2020-01-01', 1, 3000000000)) AS v (id, at, day, x, n)
    """
    columns = {"id": "int32", "at": "timestamp", "day": "timestamp", "x": "float64", "n": "int32"}
    reader = source(connection, columns, query=query, timezone="UTC")
    assert [row["id"] for row in rows_of(reader)] == [1]
    found = [(row["line"], row["reason"], row["column"]) for row in rejects_of(reader)]
    assert found == [(2, "type", "at"), (3, "type", "day"), (4, "type", "day"), (5, "type", "n"), (6, "type", "n")]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_watermark_of_either_kind_picks_the_rows_of_the_partition(
    shop: Any, connection: Connection, driver: str
) -> None:
    shop(
        "CREATE TABLE sales (id int PRIMARY KEY, seen timestamptz, local timestamp, day date)",
        """INSERT INTO sales SELECT n, t, t AT TIME ZONE 'America/New_York', (t AT TIME ZONE 'America/New_York')::date
           FROM (VALUES (1, '2020-01-01 00:00+00'::timestamptz), (2, '2020-01-31 23:59:59.999999+00'),
                        (3, '2020-02-01 00:00+00'), (4, '2020-01-01 05:00+00'),
                        (5, '2020-02-01 04:59:59+00')) AS v (n, t)""",
        "INSERT INTO sales VALUES (6, NULL, NULL, NULL)",
    )
    utc = source(connection, {"id": "int32"}, driver=driver, table="sales", key=["id"], watermark="seen")
    assert [row["id"] for row in rows_of(utc)] == [1, 2, 4]
    assert [row["id"] for row in rows_of(utc, FEBRUARY)] == [3, 5]
    assert [row["reason"] for row in rejects_of(utc)] == ["no_partition"]
    assert rejects_of(utc, FEBRUARY) == []
    new_york = Partition("2020-01", "month", "America/New_York")
    for watermark in ("seen", "local", "day"):
        reader = source(
            connection,
            {"id": "int32"},
            driver=driver,
            table="sales",
            key=["id"],
            watermark=watermark,
            timezone="America/New_York",
        )
        assert [row["id"] for row in rows_of(reader, new_york)] == [2, 3, 4, 5], watermark


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_compares_with_the_bounds_whatever_zone_the_server_thinks_in(
    shop: Any, connection: Connection, driver: str
) -> None:
    shop(
        "CREATE TABLE sales (id int, local timestamp, note text)",
        """INSERT INTO sales VALUES (1, '2020-01-01 00:00', '100%'), (2, '2019-12-31 23:59', 'x'),
           (3, '2020-02-01 00:00', 'y'), (4, '2020-01-02 00:00', 'z')""",
        "SET TimeZone = 'Asia/Tokyo'",
    )
    berlin = Partition("2020-01", "month", "Europe/Berlin")
    query = "SELECT id, '50%' AS note FROM sales WHERE local >= :start AND local < :end AND note LIKE '%\\%'; "
    reader = source(connection, {"id": "int32"}, driver=driver, query=query, timezone="Europe/Berlin")
    assert rows_of(reader, berlin) == [{"id": 1}]
    keyed = "SELECT 1 AS id WHERE :partition = '2020-01' -- the end"
    assert rows_of(source(connection, {"id": "int32"}, driver=driver, query=keyed)) == [{"id": 1}]


@pytest.mark.parametrize("driver", DRIVERS)
def test_partition_columns_pick_rows_in_the_database_and_strays_are_set_aside(
    shop: Any, connection: Connection, driver: str
) -> None:
    shop(
        'CREATE TABLE "Sales" (id int, "Year" int, month text)',
        """INSERT INTO "Sales" VALUES (5, 2020, '01'), (2, 2020, '02'), (3, 2020, NULL), (1, 2020, '1'),
           (4, 2018, '01'), (6, 2020, 'NA')""",
    )
    columns = {"id": "int32", "Year": "int32", "month": "string"}
    reader = source(
        connection,
        columns,
        driver=driver,
        table="Sales",
        key=["id"],
        partition_columns={"Year": "%Y", "month": "%m"},
    )
    assert [row["id"] for row in rows_of(reader)] == [5]
    assert [row["id"] for row in rows_of(reader, FEBRUARY)] == [2]
    for partition in (JANUARY, FEBRUARY):
        found = [(row["reason"], row["partition_key"]) for row in rejects_of(reader, partition)]
        assert found == [
            (reason, "unassigned") for reason in ("no_partition", "no_partition", "outside", "no_partition")
        ]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELEC 1 AS id", "syntax error"),
        ("SELECT * FROM nowhere", '"nowhere" does not exist'),
        ("SELECT nothing AS id FROM sales", '"nothing" does not exist'),
        ("SELECT 1 / 0 AS id", "division by zero"),
        ("DELETE FROM sales RETURNING id", "read-only|syntax error"),
        ("WITH gone AS (DELETE FROM sales RETURNING id) SELECT * FROM gone", "read-only|must not contain|top level"),
        ("SELECT id FROM locked", "permission denied"),
    ],
)
def test_what_the_database_refuses_is_an_error_and_no_invitation_to_retry(
    shop: Any, connection: Connection, driver: str, query: str, told: str
) -> None:
    shop(
        "CREATE TABLE sales (id int)",
        "INSERT INTO sales VALUES (1)",
        "CREATE TABLE locked (id int)",
        "DO $$ BEGIN CREATE ROLE shopper; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        "DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || current_schema || ' TO shopper'; END $$",
        "GRANT ALL ON sales TO shopper",
        "GRANT shopper TO CURRENT_USER",
    )
    restricted = Connection(
        **{name: getattr(connection, name) for name in ("name", "kind", "host", "port", "login", "password", "schema")},
        extra={"options": f"{connection.extra['options']} -crole=shopper"},
    )
    with pytest.raises(SourceError, match=told) as caught:
        rows_of(source(restricted, {"id": "int32"}, driver=driver, query=query))
    assert type(caught.value) is SourceError
    assert caught.value.where == "connection shop, query"
    assert caught.value.remedy
    assert shop("SELECT count(*) FROM sales") == [(1,)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_is_not_there_asks_for_another_try_and_a_wrong_database_does_not(
    connection: Connection, driver: str
) -> None:
    away = Connection(name="shop", kind="postgres", host="127.0.0.1", port=1, login="u", password="hunter2", schema="d")
    with pytest.raises(SourceUnavailableError) as caught:
        rows_of(source(away, {"id": "int32"}, driver=driver, query="SELECT 1 AS id"))
    assert "hunter2" not in str(caught.value)
    wrong = Connection(name="shop", kind="postgres", host=connection.host, login=connection.login, schema="no_such_db")
    if connection.host.startswith("/"):
        with pytest.raises(SourceError, match="no_such_db") as refused:
            rows_of(source(wrong, {"id": "int32"}, driver=driver, query="SELECT 1 AS id"))
        assert type(refused.value) is SourceError


TRIP = f"""
    CREATE FUNCTION trip(i bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
        IF i = {MANY // 2} AND EXISTS (SELECT 1 FROM fuse) THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
        RETURN true;
    END $$
"""
TRIPPED = f"""
    SELECT i AS id, md5(i\\:\\:text) AS note, i * 0.5\\:\\:float8 AS price FROM generate_series(1, {MANY}) AS i
    WHERE i <> {MANY // 2} OR trip(i)
"""
NOTED = {"id": "int64", "note": "string", "price": "float64"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_connection_that_drops_at_row_500_000_is_told_and_a_second_reading_gives_each_row_once(
    shop: Any, connection: Connection, driver: str
) -> None:
    shop("CREATE TABLE fuse (x int)", "INSERT INTO fuse VALUES (1)", TRIP)
    reader = source(connection, NOTED, driver=driver, query=TRIPPED)
    seen = 0
    with pytest.raises(SourceUnavailableError) as caught:
        for batch in reader.read(JANUARY).batches():
            seen += batch.num_rows
    assert seen < MANY
    assert seen > MANY // 4
    assert caught.value.retryable
    shop("DELETE FROM fuse")
    if driver == "psycopg":
        assert all_of(reader, reader.read(JANUARY))["id"].to_pylist() == list(range(1, MANY + 1))


def test_an_ingestion_whose_connection_drops_starts_again_and_holds_each_row_once(
    shop: Any, connection: Connection, settings: Settings
) -> None:
    shop("CREATE TABLE fuse (x int)", "INSERT INTO fuse VALUES (1)", TRIP)
    domain = DomainSpec.model_validate(
        {
            **{"name": "shop", "description": "sales", "owners": ["admin"]},
            **{"first": "2020-01", "feature_tables": {}},
            "sources": {
                "sales": {"kind": "sql", "connection": "shop", "columns": NOTED, "key": ["id"], "query": TRIPPED}
            },
        }
    )
    asked = []

    def connections(name: str) -> Connection:
        asked.append(name)
        if len(asked) > 1:
            shop("DELETE FROM fuse")
        return connection

    report = ingest_partition(domain, "sales", "2020-01", settings=settings, connections=connections)
    assert len(asked) == 2
    assert report.rows == MANY


def test_a_backend_that_an_operator_ends_is_told_the_same_way(shop: Any, connection: Connection) -> None:
    reader = source(
        connection,
        NOTED,
        query="SELECT i AS id, repeat('x', 100) AS note, 1.0 AS price FROM generate_series(1, 300000) i",
    )
    found = reader.read(JANUARY).batches()
    next(found)
    shop("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%generate_series(1, 300000)%'")
    with pytest.raises(SourceUnavailableError):
        list(found)


def test_a_reading_that_stops_half_way_leaves_no_backend_at_work(shop: Any, connection: Connection) -> None:
    query = (
        "SELECT i AS id, repeat('x', 100) AS note, 1.0 AS price FROM (SELECT generate_series(1, 100000000) AS i) AS s"
    )
    found = source(connection, NOTED, query=query).read(JANUARY).batches()
    next(found)
    found.close()  # type: ignore[attr-defined]
    ours = "query LIKE 'COPY%generate_series(1, 100000000)%' AND state = 'active'"
    assert shop(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}") == [(0,)]


def test_a_record_longer_than_allowed_is_set_aside_without_its_text(connection: Connection) -> None:
    query = """
        SELECT i AS id, repeat('x', CASE i WHEN 2 THEN 6000000 ELSE 10 END) AS note, 1.0 AS price
        FROM generate_series(1, 3) AS i
    """
    reader = source(connection, NOTED, query=query, max_record_bytes=1 << 20)
    assert [row["id"] for row in rows_of(reader)] == [1, 3]
    [row] = rejects_of(reader)
    assert (row["reason"], row["line"], row["raw"]) == ("oversized", 2, None)


def test_both_ways_of_reading_give_the_same_rows(shop: Any, connection: Connection) -> None:
    shop(
        "CREATE TABLE sales (id int PRIMARY KEY, name text, price numeric(12, 2), seen timestamptz, sold boolean)",
        """INSERT INTO sales SELECT i, CASE WHEN i % 7 = 0 THEN '' WHEN i % 11 = 0 THEN NULL ELSE 'n "' || i END,
           i / 3.0, '2020-01-01'::timestamptz + i * interval '1.000001 second', i % 2 = 0
           FROM generate_series(1, 30000) AS i""",
    )
    columns = {"seen": "timestamp", "name": "string", "id": "int64", "price": "float64", "sold": "bool"}
    tables = []
    for driver in DRIVERS:
        reader = source(connection, columns, driver=driver, table="sales", key=["id"], batch_rows=7_000)
        tables.append(all_of(reader, reader.read(JANUARY)))
    assert tables[0].num_rows == 30_000
    assert tables[0].equals(tables[1])
