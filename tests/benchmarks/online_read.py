"""Milliseconds to read 1 and 100 entities in process, SQLite and Redis: our reader, Feast's API, Feast's own, raw."""

from __future__ import annotations

import contextlib
import io
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import redis_server
from tests.benchmarks import online_rows
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.row import Row

RAW_GOAL, STOCK_GOAL = 3.0, 1 / 5
_ENTITIES = 20_000
_CALLS = {1: 1_000, 100: 150}
_STOCK_CALLS = 60
Read = Callable[[Sequence[int]], Any]


def run(scale: float) -> list[Row]:
    """20,000 entities (times `scale`), random ones asked, medians of calls."""
    import redis

    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="millrace-read-") as scratch, redis_server.serve(tcp=True) as server:
        folder, count = Path(scratch), round(_ENTITIES * scale)
        facts = folder / "facts.parquet"
        online_rows.write_facts(facts, count)
        client = redis.Redis.from_url(server.url)
        online_rows.write_raw_sqlite(folder / "raw.db", facts)
        online_rows.write_raw_redis(client, facts)
        connection = sqlite3.connect(folder / "raw.db")
        ours = {"sqlite": str(folder / "online.db"), "redis": server.url}
        raw: dict[str, Read] = {
            "sqlite": lambda drivers: online_rows.read_raw_sqlite(connection, drivers),
            "redis": lambda drivers: online_rows.read_raw_redis(client, drivers),
        }
        stock = {
            "sqlite": {"type": "sqlite", "path": str(folder / "stock.db")},
            "redis": {"type": "redis", "connection_string": server.url.removeprefix("redis://").partition("/")[0]},
        }
        for kind, url in ours.items():
            by_feast = _filled(folder / f"{kind}_ours", facts, {**online_rows.OURS, "url": url}, ours=True)
            by_stock = _filled(folder / f"{kind}_stock", facts, stock[kind], ours=False)
            reader = _reader(url)
            for asked, calls in _CALLS.items():
                found = _pair(reader, raw[kind], count, asked, calls)
                rows.append(_row(f"{kind}_{asked}", scale, found, f"raw {kind} and struct.unpack", RAW_GOAL))
            found = _pair(by_feast, by_stock, count, 100, _STOCK_CALLS)
            rows.append(_row(f"{kind}_feast_100", scale, found, f"Feast's own {kind} store, by its API", STOCK_GOAL))
    return rows


def _reader(url: str) -> Read:
    from millrace.online import open_reader

    reader = open_reader(url)
    return lambda drivers: reader.read("stats", [(driver,) for driver in drivers], online_rows.FEATURES)


def _filled(folder: Path, facts: Path, online: dict[str, Any], *, ours: bool) -> Read:
    store = online_rows.open_repo(folder, facts, online, ours=ours)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        store.materialize(online_rows.START, online_rows.END)
    return lambda drivers: online_rows.ask_feast(store, drivers)


def _pair(ours: Read, other: Read, count: int, asked: int, calls: int) -> tuple[float, float]:
    found = compare(lambda: _measure(ours, count, asked, calls), lambda: _measure(other, count, asked, calls))
    return found.ours, found.other


def _measure(read: Read, count: int, asked: int, calls: int) -> Sample:
    """Median milliseconds of a call, and what all calls read."""
    choose = random.Random(3)
    seconds, values = [], []
    for _ in range(calls):
        drivers = choose.sample(range(count), asked)
        started = time.perf_counter()
        found = read(drivers)
        seconds.append(time.perf_counter() - started)
        values.extend(found)
    return Sample(figure=statistics.median(seconds) * 1e3, result=online_rows.sums(values))


def _row(part: str, scale: float, found: tuple[float, float], other_is: str, goal: float) -> Row:
    return Row(
        name=f"online_read.{part}",
        scale=scale,
        ours=found[0],
        other=found[1],
        other_is=other_is,
        unit="ms",
        goal=goal,
        goal_kind="ratio",
    )
