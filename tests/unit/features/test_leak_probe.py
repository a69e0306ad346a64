from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tests.unit.features.conftest import DAGS

from millrace.artifact import digest_of
from millrace.errors import FeatureError
from millrace.features.leak_probe import Probed, probe_domain
from millrace.features.probe import Cleaner, make_probe
from millrace.lake.digest import content_digest
from millrace.lake.duck import connect
from millrace.settings import Settings
from millrace.spec import DomainSpec, FeatureTableSpec, SourceSpec
from millrace.spec.cleanup import DeriveStep
from millrace.step.check import NotTried, check_domain_leaks
from millrace.step.leak import check_leaks, clean_rows

FOLDER = DAGS / "domains" / "flights"


@pytest.fixture(scope="module")
def clean() -> Cleaner:
    """The clean-up, which is not run again over rows that it has seen."""
    seen: dict[str, pa.Table] = {}

    def run(source: SourceSpec, raw: pa.Table, where: str) -> pa.Table:
        key = digest_of([source.model_dump(mode="json"), content_digest(raw)])
        if key not in seen:
            seen[key] = clean_rows(source, raw, where)
        return seen[key]

    return run


@pytest.fixture
def only(settings: Settings, domain: DomainSpec, clean: Cleaner) -> Any:
    """Check a domain that has one feature table, whose text or spec is another than the one shipped."""

    def check(name: str, text: str | None = None, **spec: Any) -> list[FeatureError]:
        table = domain.feature_tables[name].model_copy(update=spec)
        if text is not None:
            (settings.sql_folder / table.origin.partition(":")[0]).write_text(text, encoding="utf-8")
        alone = domain.model_copy(update={"feature_tables": {name: table}})
        return probe_domain(alone, settings.sql_folder, clean).faults

    return check


def shipped(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def test_nothing_that_is_shipped_knows_the_future_and_all_of_it_is_tried(
    domain: DomainSpec, settings: Settings
) -> None:
    assert check_leaks(domain, settings=settings) == Probed(faults=[], untried=[])


ROUNDED = ("known_at + INTERVAL 1 HOUR - INTERVAL 1 MICROSECOND", "known_at")
PUBLISHED = ("    known_at,\n", "    time_hour AS known_at,\n")
EARLY = 'known = flights["known_at"].cast(pa.int64()).to_numpy()'


@pytest.mark.parametrize(
    ("name", "file", "change", "features", "cause"),
    [
        ("carrier_delays", "carrier_delays.sql", ROUNDED, "carrier_late_share_1d", "flights.known_at"),
        (
            "carrier_delays",
            "carrier_delays.sql",
            ("WHERE arr_delay", "WHERE true OR arr_delay"),
            "carrier_late_share",
            "",
        ),
        ("airport_delays", "airport_delays.sql", ROUNDED, "airport_late_share_3h", "flights.known_at"),
        (
            "route_delays",
            "route_delays.sql",
            ("timezone('UTC', known_at)", "timezone('UTC', sched_dep_at)"),
            "route_late_share_1d",
            "flights.arr_delay",
        ),
        ("origin_weather", "origin_weather.sql", PUBLISHED, "which rows there are", "rows of weather"),
        ("tail_delays", "tail.py", (EARLY, f"{EARLY} - DAY // 24"), "which rows there are", "flights.arr_delay"),
    ],
)
def test_a_planted_leak_is_found_and_named(
    only: Any, name: str, file: str, change: tuple[str, str], features: str, cause: str
) -> None:
    faults = only(name, replaced(shipped(file), *change))
    if not cause:
        assert faults == [], "a change that leaks nothing is no leak"
        return
    (fault,) = faults
    assert f"{name!r} knows the future" in fault.what
    assert features in fault.what
    assert cause in fault.what
    assert fault.where == f"flights/{file}" + (":tail_delays" if file.endswith(".py") else "")
    assert "known_at" in fault.remedy


OWN_ROW = """
SELECT carrier, sched_dep_at AS event_timestamp, sched_dep_at AS known_at, {value} AS seen
FROM flights WHERE sched_dep_at >= $start AND sched_dep_at < $end
"""


@pytest.mark.parametrize(
    ("value", "causes"),
    [
        ("dep_delay", ["flights.dep_delay"]),
        ("arr_delay - dep_delay", ["flights.arr_delay", "flights.dep_delay"]),
        ("CAST(arr_delay IS NULL AS INTEGER)", ["flights.arr_delay"]),
        ("epoch(known_at)", ["flights.known_at"]),
        ("avg(arr_delay) OVER (PARTITION BY carrier)", ["flights.arr_delay"]),
        ("lead(air_time) OVER (PARTITION BY carrier ORDER BY flight_id)", ["flights.air_time"]),
        ("count(*) OVER (PARTITION BY carrier ORDER BY sched_dep_at)", []),
        ("CASE WHEN known_at <= sched_dep_at THEN arr_delay END", []),
    ],
)
def test_a_flights_own_outcome_is_no_feature_of_it(only: Any, value: str, causes: list[str]) -> None:
    faults = only("carrier_delays", OWN_ROW.format(value=value), features={"seen": "float64"})
    assert len(faults) == bool(causes)
    for cause in causes:
        assert cause in faults[0].what


@pytest.mark.parametrize("minutes", [5, 600])
def test_a_window_that_ends_too_late_is_found_however_little(only: Any, minutes: int) -> None:
    text = f"""
    SELECT moment AS event_timestamp, moment AS known_at, carrier, count(*) AS seen
    FROM generate_series($start, $end - INTERVAL 1 MINUTE, INTERVAL 10 MINUTE) AS grid (moment)
    JOIN flights ON known_at > moment - INTERVAL 1 HOUR AND known_at <= moment + INTERVAL {minutes} MINUTE
    GROUP BY ALL
    """
    assert "knows the future" in only("carrier_delays", text, features={"seen": "float64"})[0].what
    right = text.replace(f" + INTERVAL {minutes} MINUTE", "")
    assert only("carrier_delays", right, features={"seen": "float64"}) == []


@pytest.mark.parametrize(("days", "short"), [(7, True), (27, True), (32, False)])
@pytest.mark.parametrize("name", ["carrier_delays", "tail_delays"])
def test_a_look_back_that_is_too_short_is_found(only: Any, name: str, days: int, short: bool) -> None:
    faults = only(name, look_back_days=days)
    assert [fault.where.endswith(": look_back_days") for fault in faults] == [True] * short
    assert all(f"further than {days} days" in fault.what for fault in faults)


def test_a_day_grain_shows_a_look_back_that_is_a_day_too_short(domain: DomainSpec, settings: Settings) -> None:
    weather = domain.sources["weather"].model_copy(update={"partition_columns": {"day": "%d"}})
    table = domain.feature_tables["origin_weather"]
    text = """
    SELECT origin, time_hour AS event_timestamp, known_at, avg(temp) OVER (PARTITION BY origin ORDER BY time_hour
        RANGE BETWEEN INTERVAL 72 HOURS PRECEDING AND CURRENT ROW) AS temp
    FROM weather QUALIFY time_hour >= $start AND time_hour < $end
    """
    (settings.sql_folder / str(table.sql)).write_text(text, encoding="utf-8")
    for days, short in ((2, True), (3, False)):
        daily = table.model_copy(update={"features": {"temp": "float64"}, "look_back_days": days})
        update = {
            "grain": "day",
            "first": "2013-01-10",
            "last": None,
            "sources": {"weather": weather},
            "feature_tables": {"w": daily},
        }
        assert len(check_leaks(domain.model_copy(update=update), settings=settings).faults) == short


@pytest.mark.parametrize(
    ("value", "when"),
    [
        ("random()", "calls random()"),
        ("year(current_date)", "calls current_date"),
        ("date_diff('year', sched_dep_at, now())", "calls now()"),
        ("epoch(age(sched_dep_at))", "calls age()"),
        ("row_number() OVER (PARTITION BY carrier) * coalesce(arr_delay, 1)", "another order"),
    ],
)
def test_what_does_not_repeat_is_told_as_that(only: Any, value: str, when: str) -> None:
    (fault,) = only("carrier_delays", OWN_ROW.format(value=value), features={"seen": "float64"})
    assert "does not repeat" in fault.what
    assert when in fault.what


def test_a_python_table_that_reads_a_clock_is_told_though_two_runs_agree(only: Any) -> None:
    aside = "\n\ndef report():\n    import datetime\n\n    return datetime.date.today().year\n"
    assert only("tail_delays", shipped("tail.py") + aside) == [], "a clock that the table does not reach"
    reached = shipped("tail.py") + aside + "\n\nYEAR = report()\n"
    (fault,) = only("tail_delays", reached.replace(EARLY, f"{EARLY} + 0 * YEAR"))
    assert "does not repeat: it calls datetime.date.today()" in fault.what


def test_a_source_that_says_not_when_its_rows_are_known_is_not_tried(domain: DomainSpec, settings: Settings) -> None:
    table = domain.feature_tables["origin_weather"].model_copy(update={"features": {"temp": "float64"}})
    text = """
    SELECT origin, time_hour AS event_timestamp, time_hour AS known_at, avg(temp) OVER (PARTITION BY origin) AS temp
    FROM weather WHERE time_hour >= $start AND time_hour < $end
    """
    (settings.sql_folder / str(table.sql)).write_text(text, encoding="utf-8")
    silent = {**domain.sources, "weather": domain.sources["weather"].model_copy(update={"cleanup": []})}
    update = {"feature_tables": {"weather": table}, "sources": silent}
    found = check_leaks(domain.model_copy(update=update), settings=settings)
    assert found.faults == []
    (why,) = found.untried
    assert "feature table 'weather': nothing says when a row of weather is known" in why
    found = check_leaks(domain.model_copy(update={**update, "sources": domain.sources}), settings=settings)
    (fault,) = found.faults
    assert "knows the future" in fault.what


def test_made_up_rows_are_the_same_every_time(domain: DomainSpec) -> None:
    digests = []
    for _ in range(2):
        connection = connect(threads=1)
        probe = make_probe(connection, domain, domain.partition("2013-04"), 32, clean_rows)
        digests.append({name: [content_digest(rows) for rows in parts.values()] for name, parts in probe.rows.items()})
        connection.close()
    assert digests[0] == digests[1]


def test_made_up_rows_keep_to_the_contract_and_survive_the_clean_up(domain: DomainSpec) -> None:
    connection = connect(threads=1)
    probe = make_probe(connection, domain, domain.partition("2013-04"), 32, clean_rows)
    flights = probe.rows["flights"]["2013-04"]
    assert flights.num_rows > 1000
    assert set(flights["carrier"].to_pylist()) <= {"9E", "AA", "AS", "B6"}
    assert all(-120 <= value <= 1440 for value in flights["dep_delay"].drop_null().to_pylist())
    assert flights["flight_id"].null_count == 0
    assert flights["arr_delay"].null_count > 20
    assert set(flights["year"].to_pylist()) == {2013}


def test_what_cannot_take_made_up_values_is_not_tried_and_not_right(settings: Settings, domain: DomainSpec) -> None:
    text = OWN_ROW.format(value="CAST(tailnum AS INTEGER)")
    (settings.sql_folder / "flights" / "carrier_delays.sql").write_text(text, encoding="utf-8")
    table = domain.feature_tables["carrier_delays"].model_copy(update={"features": {"seen": "float64"}})
    found = check_leaks(domain.model_copy(update={"feature_tables": {"seen": table}}), settings=settings)
    assert found.faults == []
    (why,) = found.untried
    assert "feature table 'seen': it fails on made-up rows: the SQL fails: Conversion Error" in why


def test_a_key_that_may_be_null_is_a_fault(only: Any) -> None:
    text = OWN_ROW.format(value="1").replace("SELECT carrier", "SELECT tailnum AS carrier")
    (fault,) = only("carrier_delays", text, features={"seen": "float64"})
    assert "'carrier' is null" in fault.what


def test_a_clean_up_step_that_leaks_makes_the_table_leak(domain: DomainSpec, settings: Settings) -> None:
    source = domain.sources["flights"]
    late = source.model_copy(
        update={
            "cleanup": [*source.cleanup, DeriveStep(derive={"was_late": "arr_delay > 15"})],
            "known_late": [*source.known_late, "was_late"],
        }
    )
    table = FeatureTableSpec.model_validate(
        {
            "sql": "flights/planes.sql",
            "entities": ["carrier"],
            "features": {"seen": "bool"},
            "tags": {"of": "test"},
            "description": "a leak",
        }
    )
    (settings.sql_folder / "flights" / "planes.sql").write_text(OWN_ROW.format(value="was_late"), encoding="utf-8")
    changed = domain.model_copy(
        update={"sources": {**domain.sources, "flights": late}, "feature_tables": {"leaky": table}}
    )
    (fault,) = check_leaks(changed, settings=settings).faults
    assert "flights.was_late" in fault.what


def test_millrace_check_tells_a_leak(settings: Settings) -> None:
    text = shipped("carrier_delays.sql")
    (settings.sql_folder / "flights" / "carrier_delays.sql").write_text(replaced(text, *ROUNDED), encoding="utf-8")
    (found,) = check_domain_leaks("flights", settings=settings)
    assert "knows the future" in found


def test_what_does_not_compile_is_not_tried(settings: Settings) -> None:
    (settings.sql_folder / "flights" / "carrier_delays.sql").write_text("SELECT", encoding="utf-8")
    (why,) = check_domain_leaks("flights", settings=settings)
    assert isinstance(why, NotTried)


def test_a_static_table_of_moving_rows_is_refused(only: Any, settings: Settings, domain: DomainSpec) -> None:
    (fault,) = only("planes", OWN_ROW.format(value="1"), features={"seen": "float64"})
    assert "reads 'flights', which has partitions" in fault.what
    assert fault.remedy
