from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.features import clean
from tests.unit.features.conftest import DAGS

from millrace.errors import FeatureError
from millrace.features.compute import build_table, entity_kinds, read_sql, run_sql
from millrace.features.source import register_clean
from millrace.lake import Table
from millrace.lake.digest import content_digest
from millrace.lake.duck import connect
from millrace.spec import DomainSpec

FOLDER = DAGS / "domains"
HISTORIES = ["carrier_delays", "airport_delays", "route_delays", "origin_weather"]
Row = dict[str, Any]


@pytest.fixture
def lake(clean_lake: str, tmp_path: Path) -> str:
    """A copy of the clean tables that a test may write to."""
    shutil.copytree(clean_lake, tmp_path / "lake")
    return str(tmp_path / "lake")


def build(domain: DomainSpec, lake: str, name: str, partition: str, folder: Path = FOLDER) -> pa.Table:
    build_table(domain, name, partition, lake=lake, folder=folder)
    table = Table(lake, domain.feature_table(name))
    return table.read() if domain.feature_tables[name].static else table.read(partitions=[partition]).drop("partition")


def at_once(domain: DomainSpec, lake: str, name: str) -> pa.Table:
    """All partitions in one run of the SQL: what the partitions put together must equal."""
    connection = connect()
    for source in domain.sources:
        register_clean(connection, domain, source, clean.PARTITIONS, lake=lake)
    first, last = domain.partition(clean.PARTITIONS[0]), domain.partition(clean.PARTITIONS[-1])
    span: Any = SimpleNamespace(key="all", start=first.start, end=last.end)
    table = domain.feature_tables[name]
    return run_sql(connection, table, read_sql(table, FOLDER), span, where=name)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_partition_computed_alone_equals_its_part_of_the_whole(domain: DomainSpec, lake: str, name: str) -> None:
    parts = pa.concat_tables(build(domain, lake, name, partition) for partition in clean.PARTITIONS)
    keys = [*domain.feature_tables[name].entities, "event_timestamp", "known_at"]
    order = [(key, "ascending") for key in keys]
    assert parts.num_rows > 300
    assert content_digest(parts.sort_by(order)) == content_digest(at_once(domain, lake, name).sort_by(order))


def landed(lake: str, domain: DomainSpec) -> list[Row]:
    rows: list[Row] = Table(lake, domain.clean_table("flights")).read().to_pylist()
    return [row for row in rows if row["known_at"] is not None and row["arr_delay"] is not None]


def window(flights: list[Row], at: datetime, hours: float) -> list[Row]:
    return [row for row in flights if at - timedelta(hours=hours) < row["known_at"] <= at]


def share(flights: list[Row]) -> float | None:
    return sum(row["arr_delay"] > 15 for row in flights) / len(flights) if flights else None


def mean(flights: list[Row], column: str = "arr_delay") -> float | None:
    return sum(row[column] for row in flights) / len(flights) if flights else None


def carrier(flights: list[Row], at: datetime) -> Row:
    return {
        "carrier_late_share_1d": share(window(flights, at, 24)),
        "carrier_late_share_7d": share(window(flights, at, 168)),
        "carrier_late_share_28d": share(window(flights, at, 672)),
        "carrier_mean_delay_1d": mean(window(flights, at, 24)),
        "carrier_arrivals_1d": float(len(window(flights, at, 24))),
    }


def airport(flights: list[Row], at: datetime) -> Row:
    return {
        "airport_late_share_3h": share(window(flights, at, 3)),
        "airport_mean_delay_3h": mean(window(flights, at, 3)),
        "airport_late_share_1d": share(window(flights, at, 24)),
        "airport_late_share_7d": share(window(flights, at, 168)),
    }


def route(flights: list[Row], at: datetime) -> Row:
    from zoneinfo import ZoneInfo

    local = at.astimezone(ZoneInfo("America/New_York"))
    first = (local.replace(tzinfo=None) - timedelta(days=28)).replace(tzinfo=ZoneInfo("America/New_York"))
    found = [row for row in flights if first.astimezone(UTC) < row["known_at"] <= at]
    return {
        "route_late_share_28d": share(found),
        "route_mean_delay_28d": mean(found),
        "route_mean_air_time_28d": mean(found, "air_time"),
        "route_arrivals_28d": float(len(found)),
    }


@pytest.mark.parametrize(
    ("name", "count"), [("carrier_delays", carrier), ("airport_delays", airport), ("route_delays", route)]
)
def test_history_is_what_a_person_would_count_at_that_time(
    domain: DomainSpec, lake: str, name: str, count: Callable[[list[Row], datetime], Row]
) -> None:
    (key,) = domain.feature_tables[name].entities
    flights = landed(lake, domain)
    rows = [row for month in ("2013-01", "2013-03") for row in build(domain, lake, name, month).to_pylist()]
    for row in rows[:: max(1, len(rows) // 60)]:
        assert row["known_at"] == row["event_timestamp"]
        wanted = count([flight for flight in flights if flight[key] == row[key]], row["event_timestamp"])
        assert {column: row[column] for column in wanted} == wanted


def test_windows_empty_out_when_a_carrier_stops_flying(domain: DomainSpec, lake: str) -> None:
    rows = [row for row in build(domain, lake, "carrier_delays", "2013-03").to_pylist() if row["carrier"] == "OO"]
    last = max(flight["known_at"] for flight in landed(lake, domain) if flight["carrier"] == "OO")
    after = [row for row in rows if row["event_timestamp"] > last + timedelta(days=1)]
    assert after
    assert all(row["carrier_arrivals_1d"] == 0 and row["carrier_late_share_1d"] is None for row in after)
    emptied = [row for row in rows if row["event_timestamp"] > last + timedelta(days=28, hours=1)]
    assert 46 <= len(emptied) <= 48, "rows go on for the TTL after the longest window has emptied"
    assert all(row["carrier_late_share_28d"] is None for row in emptied)


@pytest.mark.parametrize("name", HISTORIES)
def test_nothing_that_becomes_known_after_a_moment_moves_a_feature_before_it(
    domain: DomainSpec, lake: str, tmp_path: Path, name: str
) -> None:
    cut = datetime(2013, 3, 15, 5, tzinfo=UTC)
    for source, columns in (("flights", ("arr_delay", "dep_delay")), ("weather", ("temp", "pressure"))):
        table = Table(lake, domain.clean_table(source))
        for partition in ("2013-03", "2013-04"):
            rows = table.read(partitions=[partition]).drop("partition").to_pylist()
            for row in rows:
                if row["known_at"] is None or row["known_at"] > cut:
                    row.update(dict.fromkeys(columns, 77.0))
                    row["known_at"] = row["known_at"] and row["known_at"] + timedelta(hours=1)
            schema = table.read(partitions=[partition]).drop("partition").schema
            before = build(domain, lake, name, "2013-03")
            table.replace(pa.Table.from_pylist(rows, schema=schema), partition=partition)
            after = build(domain, lake, name, "2013-03")
            early = [pa.compute.less_equal(item["known_at"], pa.scalar(cut)) for item in (before, after)]
            assert content_digest(before.filter(early[0])) == content_digest(after.filter(early[1]))


def test_weather_is_known_only_when_its_hour_is_over(domain: DomainSpec, lake: str) -> None:
    rows = build(domain, lake, "origin_weather", "2013-02").to_pylist()
    assert rows
    assert all(row["known_at"] - row["event_timestamp"] == timedelta(hours=1) for row in rows)


def test_an_impossible_year_of_a_plane_is_unknown(domain: DomainSpec, lake: str) -> None:
    rows = {row["tailnum"]: row for row in build(domain, lake, "planes", "2013-01").to_pylist()}
    assert rows["N111"]["plane_year"] is None
    assert rows["N110"]["plane_year"] == 1980 + 110 % 30
    assert math.isclose(rows["N110"]["plane_seats"], 160)


@pytest.mark.parametrize("name", ["carrier_delays", "planes"])
def test_unchanged_inputs_commit_nothing_and_changed_ones_do(domain: DomainSpec, lake: str, name: str) -> None:
    first = build_table(domain, name, "2013-02", lake=lake, folder=FOLDER)
    again = build_table(domain, name, "2013-02", lake=lake, folder=FOLDER)
    assert first.changed
    assert (again.changed, again.version, again.digest) == (False, first.version, first.digest)
    source = "planes" if name == "planes" else "flights"
    table, key = Table(lake, domain.clean_table(source)), "" if name == "planes" else "2013-01"
    rows = table.read(partitions=[key] if key else None)
    table.replace((rows.drop("partition") if key else rows).slice(1), partition=key)
    assert build_table(domain, name, "2013-02", lake=lake, folder=FOLDER).changed


def test_join_keys_are_found_without_any_data(domain: DomainSpec) -> None:
    assert entity_kinds(domain, FOLDER) == {
        "airport_delays": {"origin": "string"},
        "carrier_delays": {"carrier": "string"},
        "origin_weather": {"origin": "string"},
        "planes": {"tailnum": "string"},
        "route_delays": {"route": "string"},
    }


def with_sql(tmp_path: Path, sql: str) -> Path:
    folder = tmp_path / "domains"
    shutil.copytree(FOLDER, folder)
    (folder / "flights" / "origin_weather.sql").write_text(sql, encoding="utf-8")
    return folder


PRE = "SELECT origin, time_hour AS event_timestamp, known_at, temp, dewp, humid, wind_speed, precip, pressure"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (f"{PRE} FROM weather WHERE time_hour >= $start AND time_hour < $end", "does not return 'visib'"),
        (f"{PRE.replace('time_hour AS', 'time_hour + INTERVAL 1 DAY AS')}, visib FROM weather", "outside of 2013-02"),
        (f"{PRE}, visib FRM weather", "does not parse"),
        (f"{PRE}, visibility AS visib FROM weather", "the SQL fails"),
        (f"{PRE}, 'x' AS visib FROM weather WHERE time_hour >= $start AND time_hour < $end", "does not convert"),
        (f"{PRE.replace('known_at', 'NULL AS known_at')}, visib FROM weather WHERE time_hour = $start", "is null in"),
        ("", "missing or empty"),
    ],
)
def test_sql_that_breaks_its_contract_is_named_with_a_remedy(
    domain: DomainSpec, lake: str, tmp_path: Path, sql: str, message: str
) -> None:
    with pytest.raises(FeatureError, match=message) as caught:
        build(domain, lake, "origin_weather", "2013-02", with_sql(tmp_path, sql))
    assert caught.value.remedy
    assert not Table(lake, domain.feature_table("origin_weather")).exists()


def test_missing_clean_rows_are_named(domain: DomainSpec, lake: str, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="no clean rows of 2013-07"):
        build(domain, lake, "carrier_delays", "2013-07")
    with pytest.raises(FeatureError, match="no clean"):
        build(domain, str(tmp_path / "empty"), "planes", "2013-01")
    with pytest.raises(FeatureError, match="use one of: carrier_delays"):
        build(domain, lake, "carriers", "2013-01")


def test_a_gap_in_the_look_back_is_told_and_healed_by_building_again(
    domain: DomainSpec, tmp_path: Path, lake: str, caplog: pytest.LogCaptureFixture
) -> None:
    gap = str(tmp_path / "gap")
    clean.write_clean(domain, gap, clean.raw_all(), ["2013-01", "2013-03"])
    before = build(domain, gap, "carrier_delays", "2013-03")
    assert "2013-02" in caplog.text
    clean.write_clean(domain, gap, clean.raw_all(), ["2013-02"])
    after = build(domain, gap, "carrier_delays", "2013-03")
    assert content_digest(before) != content_digest(after)
    assert content_digest(after) == content_digest(build(domain, lake, "carrier_delays", "2013-03"))
