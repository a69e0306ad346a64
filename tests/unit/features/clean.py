"""Clean tables of a small, seeded New York: what feature SQL, Feast and the online store are tried on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from millrace.lake import Table
from millrace.lake.duck import arrow, connect
from millrace.spec import DomainSpec
from millrace.spec.cleanup import DeriveStep

PARTITIONS = ["2013-01", "2013-02", "2013-03", "2013-04"]
CARRIERS, ORIGINS, DESTS = ["UA", "B6", "OO"], ["EWR", "JFK", "LGA"], ["BOS", "IAH", "LAX"]
_START, _DAYS, _NEW_YORK = datetime(2013, 1, 1), 120, ZoneInfo("America/New_York")


def raw_flights(seed: int = 7, per_day: int = 24) -> pa.Table:
    """Flights of four months: cancelled ones, very late ones, and a carrier (OO) that stops flying in February."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for day in range(_DAYS):
        for number in range(per_day):
            local = _START + timedelta(days=day, hours=int(random.integers(5, 24)), minutes=int(random.integers(0, 60)))
            carrier = CARRIERS[int(random.integers(0, 3 if day < 45 else 2))]
            cancelled = random.random() < 0.03
            late = float(random.integers(-15, 60)) if random.random() < 0.95 else float(random.integers(60, 1400))
            rows.append(
                {
                    "year": local.year,
                    "month": local.month,
                    "day": local.day,
                    "dep_time": None,
                    "sched_dep_time": local.hour * 100 + local.minute,
                    "dep_delay": None if cancelled else late,
                    "arr_time": None,
                    "sched_arr_time": None,
                    "arr_delay": None
                    if cancelled or random.random() < 0.01
                    else late + float(random.integers(-20, 20)),
                    "carrier": carrier,
                    "flight": day * 1000 + number,
                    "tailnum": None if random.random() < 0.05 else f"N{int(random.integers(100, 140))}",
                    "origin": ORIGINS[int(random.integers(0, 3))],
                    "dest": DESTS[int(random.integers(0, 3))],
                    "air_time": None if cancelled else float(random.integers(30, 400)),
                    "distance": float(random.integers(200, 2500)),
                    "hour": local.hour,
                    "minute": local.minute,
                    "time_hour": local.replace(minute=0, tzinfo=_NEW_YORK).astimezone(UTC),
                }
            )
    return pa.Table.from_pylist(rows)


def raw_weather(seed: int = 8) -> pa.Table:
    """Hourly weather of the three airports, with hours and values missing."""
    random = np.random.default_rng(seed)
    rows = []
    for hour in range(_DAYS * 24):
        moment = _START.replace(tzinfo=_NEW_YORK).astimezone(UTC) + timedelta(hours=hour)
        local = moment.astimezone(_NEW_YORK)
        for origin in ORIGINS:
            if random.random() < 0.03:
                continue
            row = {"origin": origin, "year": local.year, "month": local.month, "day": local.day, "hour": local.hour}
            for name in ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "visib"):
                row[name] = round(float(random.normal(30, 10)), 2)
            row["pressure"] = None if random.random() < 0.1 else 1000 + float(random.integers(0, 30))
            rows.append({**row, "time_hour": moment})
    return pa.Table.from_pylist(rows)


def raw_planes() -> pa.Table:
    """Most of the planes that fly; some without a year, one with the year 0."""
    return pa.Table.from_pylist(
        [
            {
                "tailnum": f"N{number}",
                "year": None if number % 7 == 0 else 0 if number == 111 else 1980 + number % 30,
                "type": "jet",
                "manufacturer": "X",
                "model": "Y",
                "engines": 2,
                "seats": 50 + number,
                "engine": "Z",
            }
            for number in range(100, 136)
        ]
    )


def write_clean(domain: DomainSpec, lake: str, raw: dict[str, pa.Table], partitions: list[str] | None = None) -> None:
    """Derive what the domain's clean-up derives and write the clean tables, by local month."""
    for name, rows in raw.items():
        source = domain.sources[name]
        connection = connect(threads=1)
        connection.register("raw", rows)
        query = "SELECT * FROM raw"
        for step in source.cleanup:
            assert isinstance(step, DeriveStep)
            for column, expression in step.derive.items():
                query = f'SELECT *, ({expression}) AS "{column}" FROM ({query})'
        connection.execute(f"CREATE TABLE clean AS {query}")
        table = Table(lake, domain.clean_table(name))
        if source.static:
            table.replace(arrow(connection.sql("SELECT * FROM clean ORDER BY ALL")))
        for partition in [] if source.static else partitions or PARTITIONS:
            year, month = map(int, partition.split("-"))
            chosen = f"SELECT * FROM clean WHERE year = {year} AND month = {month} ORDER BY ALL"
            table.replace(arrow(connection.sql(chosen)), partition=partition)
        connection.close()


def raw_all() -> dict[str, pa.Table]:
    """All three raw tables."""
    return {"flights": raw_flights(), "weather": raw_weather(), "planes": raw_planes()}
