"""One side of a benchmark of materialization, in a process of its own: `python -m tests.benchmarks.online_side …`.

Arguments: side (`ours`, `stock`, `raw`), kind (`sqlite`, `redis`), Parquet file, scratch folder, address of Redis.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks import online_rows
from tests.benchmarks.process import peak_mb

_SAMPLE, _FEW = 500, 500


def main(side: str, kind: str, facts: str, scratch: str, redis_url: str) -> None:
    """Write a few facts, then all, each time into an empty store; tell the seconds of that and a sample's sums."""
    folder = Path(scratch)
    few = Path(f"{facts}.few.parquet")
    online_rows.write_facts(few, _FEW)
    drivers = list(range(0, pq.ParquetFile(facts).metadata.num_rows, 40))[:_SAMPLE]
    told: dict[str, Any] = {}
    base = 0.0
    for source in (few, Path(facts)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _empty(redis_url)
        write, read = (_raw if side == "raw" else _feast)(side, kind, source, folder, redis_url)
        base = base or peak_mb()
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            write()
        told = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb() - base}
        told["bytes"] = _bytes(folder)
    told["sums"] = online_rows.sums(read(drivers))
    print(json.dumps(told))


def _feast(
    side: str, kind: str, facts: Path, folder: Path, redis_url: str
) -> tuple[Callable[[], None], Callable[[Sequence[int]], list[Sequence[float]]]]:
    online: dict[str, Any]
    if side == "ours":
        online = {**online_rows.OURS, "url": redis_url or str(folder / "store" / "online.db")}
    elif kind == "redis":
        online = {"type": "redis", "connection_string": redis_url.removeprefix("redis://").partition("/")[0]}
    else:
        (folder / "store").mkdir()
        online = {"type": "sqlite", "path": str(folder / "store" / "online.db")}
    store = online_rows.open_repo(folder / "repo", facts, online, ours=side == "ours")
    return (
        lambda: store.materialize(online_rows.START, online_rows.END),
        lambda drivers: online_rows.ask_feast(store, drivers),
    )


def _raw(
    side: str, kind: str, facts: Path, folder: Path, redis_url: str
) -> tuple[Callable[[], None], Callable[[Sequence[int]], list[Sequence[float]]]]:
    if kind == "redis":
        import redis

        client = redis.Redis.from_url(redis_url)
        return (
            lambda: online_rows.write_raw_redis(client, facts),
            lambda drivers: online_rows.read_raw_redis(client, drivers),
        )
    path = folder / "store" / "raw.db"
    path.parent.mkdir()
    return (
        lambda: online_rows.write_raw_sqlite(path, facts),
        lambda drivers: online_rows.read_raw_sqlite(sqlite3.connect(path), drivers),
    )


def _empty(redis_url: str) -> None:
    if redis_url:
        import redis

        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "store").glob("*"))


if __name__ == "__main__":
    main(*sys.argv[1:])
