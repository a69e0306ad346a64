from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.unit.features import clean
from tests.unit.features.conftest import DAGS

from millrace.errors import FeatureError
from millrace.features.compute import build_table, entity_kinds, table_rows
from millrace.features.source import find_clean, register_clean
from millrace.features.transformation import read_transformation
from millrace.lake import Table
from millrace.lake.digest import content_digest
from millrace.lake.duck import connect
from millrace.spec import DomainSpec

FOLDER = DAGS / "domains"
NEW_YORK = ZoneInfo("America/New_York")
HISTORIES = ["carrier_delays", "airport_delays", "route_delays", "tail_delays", "origin_weather"]
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
    """All partitions in one run: what the partitions put together must equal."""
    connection = connect()
    made_by = read_transformation(domain, name, FOLDER)
    for source in made_by.sources(domain):
        rows = find_clean(domain, source, clean.PARTITIONS, lake=lake, into=Path(lake))
        register_clean(connection, source, rows)
    first, last = domain.partition(clean.PARTITIONS[0]), domain.partition(clean.PARTITIONS[-1])
    span: Any = SimpleNamespace(key="all", start=first.start, end=last.end)
    return made_by.run(connection, made_by.sources(domain), span)


@pytest.mark.parametrize("name", HISTORIES)
def test_partitions_in_any_order_and_all_at_once_give_the_same_rows(domain: DomainSpec, lake: str, name: str) -> None:
    keys = [*domain.feature_tables[name].entities, "event_timestamp", "known_at"]
    order = [(key, "ascending") for key in keys]
    forward = pa.concat_tables(table_rows(domain, name, key, lake=lake, folder=FOLDER) for key in clean.PARTITIONS)
    shuffled = pa.concat_tables(build(domain, lake, name, key) for key in ("2013-03", "2013-01", "2013-04", "2013-02"))
    assert forward.num_rows > 300
    wanted = content_digest(at_once(domain, lake, name).sort_by(order))
    assert [content_digest(rows.sort_by(order)) for rows in (forward, shuffled)] == [wanted, wanted]


@pytest.mark.parametrize("name", ["carrier_delays", "tail_delays"])
def test_threads_and_memory_change_no_row(domain: DomainSpec, lake: str, tmp_path: Path, name: str) -> None:
    digests = set()
    for threads, memory in ((1, "64MB"), (4, "1GB")):
        compute = domain.compute.model_copy(update={"threads": threads, "memory_limit": memory})
        other = domain.model_copy(update={"compute": compute})
        rows = table_rows(other, name, "2013-03", lake=lake, folder=FOLDER, scratch=tmp_path / "spill")
        digests.add(content_digest(rows))
    assert len(digests) == 1
    assert list((tmp_path / "spill").iterdir()) == [], "what was spilled is gone"


def landed(lake: str, domain: DomainSpec) -> list[Row]:
    rows: list[Row] = Table(lake, domain.clean_table("flights")).read().to_pylist()
    return [row for row in rows if row["known_at"] is not None and row["arr_delay"] is not None]


def window(flights: list[Row], at: datetime, hours: float) -> list[Row]:
    return [row for row in flights if at - timedelta(hours=hours) < row["known_at"] <= at]


def share(flights: list[Row]) -> float | None:
    return sum(row["arr_delay"] > 15 for row in flights) / len(flights) if flights else None


def mean(flights: list[Row], column: str = "arr_delay") -> float | None:
    return sum(row[column] for row in flights) / len(flights) if flights else None


def windows(prefix: str, found: dict[int, list[Row]]) -> Row:
    """Late share and mean delay by length of the window in days."""
    shares = {f"{prefix}_late_share_{days}d": share(rows) for days, rows in found.items()}
    return {**shares, **{f"{prefix}_mean_delay_{days}d": mean(rows) for days, rows in found.items()}}


def carrier(flights: list[Row], at: datetime) -> Row:
    found = {days: window(flights, at, days * 24) for days in (1, 7, 28)}
    return {**windows("carrier", found), "carrier_arrivals_1d": float(len(found[1]))}


def airport(flights: list[Row], at: datetime) -> Row:
    return {
        **windows("airport", {days: window(flights, at, days * 24) for days in (1, 7, 28)}),
        "airport_late_share_3h": share(window(flights, at, 3)),
        "airport_mean_delay_3h": mean(window(flights, at, 3)),
    }


def route(flights: list[Row], at: datetime) -> Row:
    local = at.astimezone(NEW_YORK).replace(tzinfo=None)
    first = {days: (local - timedelta(days=days)).replace(tzinfo=NEW_YORK).astimezone(UTC) for days in (1, 7, 28)}
    found = {days: [row for row in flights if since < row["known_at"] <= at] for days, since in first.items()}
    return {
        **windows("route", found),
        "route_mean_air_time_28d": mean(found[28], "air_time"),
        "route_arrivals_28d": float(len(found[28])),
    }


def tail(flights: list[Row], at: datetime) -> Row:
    found = {days: window(flights, at, days * 24) for days in (1, 7, 28)}
    last = max(found[28], key=lambda row: (row["known_at"], row["arr_delay"]), default=None)
    return {
        **windows("tail", found),
        "tail_arrivals_1d": float(len(found[1])),
        "tail_arrivals_28d": float(len(found[28])),
        "tail_last_delay": last and last["arr_delay"],
    }


@pytest.mark.parametrize(
    ("name", "count"),
    [("carrier_delays", carrier), ("airport_delays", airport), ("route_delays", route), ("tail_delays", tail)],
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
            early = [pc.less_equal(item["known_at"], pa.scalar(cut)) for item in (before, after)]
            assert content_digest(before.filter(early[0])) == content_digest(after.filter(early[1]))


@pytest.mark.parametrize(("name", "key"), [("carrier_delays", "carrier"), ("tail_delays", "tailnum")])
def test_a_label_that_comes_an_hour_later_changes_nothing_that_was_known_before_it(
    domain: DomainSpec, lake: str, name: str, key: str
) -> None:
    table = Table(lake, domain.clean_table("flights"))
    rows = table.read(partitions=["2013-02"]).drop("partition")
    before = table_rows(domain, name, "2013-02", lake=lake, folder=FOLDER)
    known = rows["known_at"].to_pylist()
    for flight in range(7, rows.num_rows, 197):
        if known[flight] is None:
            continue
        later = [moment + timedelta(hours=1) if index == flight else moment for index, moment in enumerate(known)]
        place = rows.schema.get_field_index("known_at")
        shifted = rows.set_column(place, rows.schema.field(place), pa.array(later, rows.schema.field(place).type))
        table.replace(shifted, partition="2013-02")
        after = table_rows(domain, name, "2013-02", lake=lake, folder=FOLDER)
        usable = [pc.less(found["known_at"], pa.scalar(known[flight])) for found in (before, after)]
        assert content_digest(before.filter(usable[0])) == content_digest(after.filter(usable[1]))
        assert rows["sched_dep_at"][flight].as_py() < known[flight], "its own features are among those"


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
        "tail_delays": {"tailnum": "string"},
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
        (f"{PRE}, visib, 1 AS temp FROM weather WHERE time_hour = $start", "returns 'temp' more than once"),
        (
            f"{PRE.replace('time_hour AS', chr(39) + 'infinity' + chr(39) + '::TIMESTAMP AS')}, visib FROM weather",
            "beyond",
        ),
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


def test_what_rows_do_not_follow_from_computes_nothing(domain: DomainSpec, lake: str) -> None:
    first = build_table(domain, "carrier_delays", "2013-02", lake=lake, folder=FOLDER)
    told = domain.feature_tables["carrier_delays"].model_copy(
        update={"owners": ["other"], "tags": {"a": "b"}, "description": "x", "ttl_hours": 1, "freshness_hours": 3}
    )
    compute = domain.compute.model_copy(update={"threads": 1})
    other = domain.model_copy(update={"compute": compute, "feature_tables": {"carrier_delays": told}})
    again = build_table(other, "carrier_delays", "2013-02", lake=lake, folder=FOLDER)
    assert (again.changed, again.digest) == (False, first.digest)


def test_a_feature_more_leaves_the_old_ones_as_they_are(domain: DomainSpec, lake: str, tmp_path: Path) -> None:
    before = build(domain, lake, "planes", "2013-01")
    folder = with_sql(tmp_path, "SELECT 1")
    text = (FOLDER / "flights" / "planes.sql").read_text(encoding="utf-8")
    (folder / "flights" / "planes.sql").write_text(text.replace("seats AS", "2 * seats AS twice, seats AS"))
    table = domain.feature_tables["planes"]
    more = table.model_copy(update={"features": {**table.features, "twice": "float64"}})
    after = build(domain.model_copy(update={"feature_tables": {"planes": more}}), lake, "planes", "2013-01", folder)
    assert content_digest(after.select(before.column_names)) == content_digest(before)
    assert after["twice"].to_pylist() == [2 * seats for seats in before["plane_seats"].to_pylist()]


def with_function(tmp_path: Path, text: str) -> Path:
    folder = with_sql(tmp_path, "SELECT 1")
    (folder / "flights" / "tail.py").write_text(text, encoding="utf-8")
    return folder


POLARS = """
import polars as pl


def tail_delays(sources, start, end):
    flights = pl.from_arrow(sources["flights"]).filter(pl.col("known_at").is_between(start, end, closed="left"))
    columns = [f"tail_{what}_{days}d" for days in (1, 7, 28) for what in ("late_share", "mean_delay", "arrivals")]
    return flights.drop_nulls("tailnum").select(
        "tailnum", pl.col("known_at").alias("event_timestamp"), "known_at",
        *[pl.lit(1.0).alias(name) for name in [*columns, "tail_last_delay"]],
    )
"""


def test_a_function_may_return_a_polars_frame(domain: DomainSpec, lake: str, tmp_path: Path) -> None:
    rows = build(domain, lake, "tail_delays", "2013-02", with_function(tmp_path, POLARS))
    assert rows.num_rows > 300
    assert str(rows.schema.field("tailnum").type) == "string"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def tail_delays(sources, start, end):\n    return 1 / 0", r"ZeroDivisionError: division by zero \(line 2\)"),
        ("def tail_delays(sources, start, end):\n    return None", "returns NoneType, not an Arrow table"),
        ("def tail_delays(sources, start, end):\n    return sources['flights']", "does not return 'event_timestamp'"),
        ("def tail_delays(sources, start, end):\n    exit(3)", r"SystemExit: 3 \(line 2\)"),
        ("import sys\nsys.exit()", "cannot be run: SystemExit"),
        (
            "import pandas\ndef tail_delays(sources, start, end):\n    return pandas.DataFrame({'tailnum': ['a', 1]})",
            "is no Arrow table",
        ),
        ("def tails(sources, start, end):\n    return None", "has no function 'tail_delays'"),
        ("import no_such_library", "No module named 'no_such_library'"),
        ("def tail_delays(:", "SyntaxError"),
        ("", "the Python file is missing or empty"),
        (POLARS.replace("pl.lit(1.0)", "pl.lit('x')"), "does not convert to double"),
        (POLARS.replace('.drop_nulls("tailnum")', ""), "'tailnum' is null in"),
        (POLARS.replace('closed="left"', 'closed="right"').replace("(start,", "(start - (end - start),"), "outside of"),
    ],
)
def test_a_function_that_breaks_its_contract_is_named_with_a_remedy(
    domain: DomainSpec, lake: str, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(FeatureError, match=message) as caught:
        build(domain, lake, "tail_delays", "2013-02", with_function(tmp_path, text))
    assert "flights/tail.py" in caught.value.where
    assert caught.value.remedy
    assert not Table(lake, domain.feature_table("tail_delays")).exists()


def test_a_function_reads_sources_that_there_are(domain: DomainSpec, lake: str) -> None:
    table = domain.feature_tables["tail_delays"].model_copy(update={"sources": ["fligths"]})
    other = domain.model_copy(update={"feature_tables": {"tail_delays": table}})
    with pytest.raises(FeatureError, match="no source 'fligths'"):
        build(other, lake, "tail_delays", "2013-02")


def test_a_changed_function_is_computed_anew(domain: DomainSpec, lake: str, tmp_path: Path) -> None:
    first = build_table(domain, "tail_delays", "2013-02", lake=lake, folder=FOLDER)
    again = build_table(domain, "tail_delays", "2013-02", lake=lake, folder=with_function(tmp_path, POLARS))
    assert (first.changed, again.changed) == (True, True)
    assert first.rows != again.rows
