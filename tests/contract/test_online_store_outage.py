"""Servers of online stores that go away, come back, or change under a writer."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import postgres_server, redis_server
from tests.contract.online_stores import empty_store, patience

from millrace.errors import OnlineStoreConflictError, OnlineStoreUnavailableError
from millrace.online import PackedRow, RowCodec, ViewLayout, ViewState, open_reader, open_writer
from millrace.online.breaker import Breaker
from millrace.online.psycopg_reader import PostgresReader
from millrace.online.psycopg_writer import PostgresWriter
from millrace.online.redis_reader import RedisReader
from millrace.online.redis_writer import RedisWriter

LAYOUT = ViewLayout(entities=(("airport", "string"),), features=(("temp", "float64"),))


@pytest.fixture
def server() -> Iterator[redis_server.Server]:
    with redis_server.serve() as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> str:
    if os.environ.get(postgres_server.URL_VARIABLE):
        pytest.skip("the server is not ours to stop")
    return empty_store("postgres", postgres_server.shared_url(), tmp_path).replace("+psycopg2", "")


def rows(*values: float, stamp: int = 1) -> list[PackedRow]:
    codec = RowCodec(LAYOUT)
    return [(f"k{place}".encode(), stamp, stamp, codec.pack([value])) for place, value in enumerate(values)]


def answer_of(reader: Any, now: list[float]) -> Any:
    """What a server says that goes on, however slow the machine: the clock of the breaker jumps over its pauses."""
    for _ in range(60):
        now[0] += 5.0
        with contextlib.suppress(OnlineStoreUnavailableError):
            return reader.read("w", [("k0",)], ["temp"])
    raise AssertionError("it does not go on")


def test_redis_away_is_tried_again_and_then_told_and_the_mark_has_not_moved(server: redis_server.Server) -> None:
    open_writer(server.url).write("w", LAYOUT, [rows(1.0, 2.0)], high_water_mark=1)
    writer, reader = RedisWriter(server.url, retries=2), open_reader(server.url)
    assert reader.read("w", [("k0",)], ["temp"]) == [[1.0]]
    server.stop()
    for replace in (False, True):
        with pytest.raises(OnlineStoreUnavailableError, match="3 attempts") as caught:
            writer.write("w", LAYOUT, [rows(3.0, stamp=2)], high_water_mark=2, replace=replace)
        assert caught.value.retryable
        assert caught.value.remedy
    with pytest.raises(OnlineStoreUnavailableError):
        reader.read("w", [("k0",)], ["temp"])
    server.start()
    assert writer.state("w") == ViewState(layout=LAYOUT, high_water_mark=1, rows=2)
    assert reader.read("w", [("k0",)], ["temp"]) == [[1.0]]


def test_of_a_redis_that_hangs_one_answer_is_awaited_and_the_next_readers_are_told_at_once(
    server: redis_server.Server,
) -> None:
    open_writer(server.url).write("w", LAYOUT, [rows(1.0)], high_water_mark=1)
    now = [0.0]
    reader = RedisReader(server.url, breaker=Breaker(first_s=5.0, most_s=5.0, clock=lambda: now[0]))
    assert answer_of(reader, now) == [[1.0]]
    server.hang()
    with pytest.raises(OnlineStoreUnavailableError, match="imeout"):
        reader.read("w", [("k0",)], ["temp"])
    server.go_on()
    for _ in range(3):  # the server would answer now: these do not ask it
        with pytest.raises(OnlineStoreUnavailableError, match=r"not asked again for 5\.0 s"):
            reader.read("w", [("k0",)], ["temp"])
    assert answer_of(reader, now) == [[1.0]]
    server.stop()
    with pytest.raises(OnlineStoreUnavailableError, match="3 attempts"):
        reader.read("w", [("k0",)], ["temp"])
    server.start()
    assert answer_of(reader, now) == [[1.0]]


def test_redis_that_comes_back_soon_costs_only_time(server: redis_server.Server) -> None:
    writer = RedisWriter(server.url, retries=30)
    writer.write("w", LAYOUT, [rows(1.0)], high_water_mark=1)
    server.stop()
    events: list[str] = []

    def come_back() -> None:
        events.append("back")
        server.start()

    back = threading.Timer(0.5, come_back)
    back.start()
    assert writer.write("w", LAYOUT, [rows(5.0, stamp=2)], high_water_mark=2) == 1
    assert events == ["back"]
    back.join()
    assert open_reader(server.url).read("w", [("k0",)], ["temp"]) == [[5.0]]


def test_redis_that_goes_away_in_the_middle_leaves_the_mark_and_a_second_run_makes_it_good(
    server: redis_server.Server,
) -> None:
    writer = RedisWriter(server.url, retries=0, piece=2)
    writer.write("w", LAYOUT, [rows(1.0, 1.0, 1.0)], high_water_mark=1)

    def breaking() -> Iterator[list[PackedRow]]:
        yield rows(2.0, 2.0, 2.0, 2.0, 2.0, stamp=2)
        server.stop()
        yield rows(3.0, stamp=3)

    for replace in (False, True):
        with pytest.raises(OnlineStoreUnavailableError):
            writer.write("w", LAYOUT, breaking(), high_water_mark=3, replace=replace)
        server.start()
        state = writer.state("w")
        assert state is not None
        assert state.high_water_mark == 1
    whole = [rows(2.0, 2.0, 2.0, 2.0, 2.0, stamp=2), rows(3.0, stamp=3)]
    assert writer.write("w", LAYOUT, whole, high_water_mark=3) == 5
    answer = open_reader(server.url).read("w", [(f"k{place}",) for place in range(5)], ["temp"])
    assert answer == [[3.0], [2.0], [2.0], [2.0], [2.0]]


def test_a_view_replaced_under_a_writer_is_a_conflict_and_its_mark_stays(server: redis_server.Server) -> None:
    writer, other = RedisWriter(server.url, piece=1), RedisWriter(server.url)
    writer.write("w", LAYOUT, [rows(1.0)], high_water_mark=1)

    def meanwhile() -> Iterator[list[PackedRow]]:
        yield rows(2.0, 2.0, stamp=2)
        other.write("w", LAYOUT, [rows(7.0, stamp=5)], high_water_mark=5, replace=True)
        yield rows(3.0, 3.0, stamp=9)

    for replace in (False, True):
        with pytest.raises(OnlineStoreConflictError) as caught:
            writer.write("w", LAYOUT, meanwhile(), high_water_mark=9, replace=replace)
        assert caught.value.retryable
        assert writer.state("w") == ViewState(layout=LAYOUT, high_water_mark=5, rows=1)


def test_what_a_dead_writer_filled_aside_goes_by_itself(server: redis_server.Server) -> None:
    import redis

    client = redis.Redis.from_url(server.url)

    def dying() -> Iterator[list[PackedRow]]:
        yield rows(1.0)
        yield rows(2.0)
        aside = [key for key in client.scan_iter() if key.startswith(b"millrace:{w}:")]
        assert [0 < client.ttl(key) <= 3600 for key in aside] == [True]
        server.stop()
        yield rows(3.0)

    with pytest.raises(OnlineStoreUnavailableError):
        RedisWriter(server.url, retries=0, piece=1).write("w", LAYOUT, dying(), high_water_mark=1, replace=True)
    server.start()
    open_writer(server.url).write("w", LAYOUT, [rows(1.0)], high_water_mark=1, replace=True)
    assert client.ttl("millrace:{w}") == -1


@pytest.mark.full
def test_of_a_postgres_that_hangs_one_answer_is_awaited_and_the_next_readers_are_told_at_once(database: str) -> None:
    open_writer(database).write("w", LAYOUT, [rows(1.0)], high_water_mark=1)
    now = [0.0]

    def reading() -> PostgresReader:
        return PostgresReader(database, breaker=Breaker(first_s=5.0, most_s=5.0, clock=lambda: now[0]))

    known, new = reading(), reading()
    assert answer_of(known, now) == [[1.0]]
    with postgres_server.hung(database):
        with pytest.raises(OnlineStoreUnavailableError, match="no answer within 1 s"):
            known.read("w", [("k0",)], ["temp"])
        with pytest.raises(OnlineStoreUnavailableError, match="timeout expired") as caught:
            new.read("w", [("k0",)], ["temp"])
        assert caught.value.retryable
    for reader in (known, new):  # the server would answer now: these do not ask it
        with pytest.raises(OnlineStoreUnavailableError, match=r"not asked again for 5\.0 s"):
            reader.read("w", [("k0",)], ["temp"])
    assert [answer_of(reader, now) for reader in (known, new)] == [[[1.0]], [[1.0]]]


@pytest.mark.full
def test_a_postgres_that_hangs_under_a_writer_is_told_and_the_mark_has_not_moved(database: str) -> None:
    writer = PostgresWriter(database, retries=0, silence_s=3.0)
    open_writer(database).write("w", LAYOUT, [rows(1.0)], high_water_mark=1)
    with contextlib.ExitStack() as hanging:

        def breaking() -> Iterator[list[PackedRow]]:
            yield rows(2.0, 2.0, stamp=2)
            hanging.enter_context(postgres_server.hung(database))

        with pytest.raises(OnlineStoreUnavailableError, match="no answer within 3 s") as caught:
            writer.write("w", LAYOUT, breaking(), high_water_mark=3)
        assert caught.value.retryable
    assert open_writer(database).write("w", LAYOUT, [rows(3.0, stamp=3)], high_water_mark=2) == 1
    with patience():
        assert open_reader(database).read("w", [("k0",)], ["temp"]) == [[3.0]]
