"""Bringing views to the online store: whatever happened before, they end up as if brought there at once."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as checks
from hypothesis import strategies as st
from tests.unit.levels import PARTITIONS, START, Fact, answers, make_plant, write_facts

from millrace.errors import FeatureError, OnlineStoreUnavailableError
from millrace.features.materialization import instant
from millrace.governance.materialization import Materializations
from millrace.lake import Table
from millrace.online import ViewLayout
from millrace.online.address import open_writer
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.materialization import materialize_features, materialize_view

FIRST: list[Fact] = [("a", 1, 1, 1.0), ("a", 5, 30, 2.0), ("b", 2, 2, 3.0)]
SECOND: list[Fact] = [("b", 24, 24, 4.0), ("c", 30, 31, 5.0)]
HOURS = st.integers(0, 23)
_numbers = itertools.count()


@pytest.fixture
def plant(settings: Settings) -> DomainSpec:
    return make_plant(settings.sql_folder)


def elsewhere(settings: Settings, online_store: str = "") -> Settings:
    """The same lake, with an online store and a state of its own."""
    var = settings.var / f"other{next(_numbers)}"
    var.mkdir()
    return dataclasses.replace(
        settings, online_store=online_store or str(var / "online.db"), state_url=f"sqlite:///{var / 'state.db'}"
    )


def record(settings: Settings, view: str) -> Any:
    return Materializations(settings, settings.online_store).get(view)


def test_only_what_became_usable_since_is_written(settings: Settings, plant: DomainSpec) -> None:
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    first = materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert (first.offered, first.rows, first.high_water_mark) == (2, 2, "2020-01-02T00:00:00Z")
    write_facts(settings, plant, "long", PARTITIONS[1], SECOND)
    second = materialize_view(plant, "long", PARTITIONS[1], settings=settings)
    assert (second.offered, second.rows, second.anew) == (3, 3, "")
    mark, rows = answers(settings, "long")
    assert mark == START + timedelta(hours=48)
    assert [None if row is None else row[1] for row in rows] == [[2.0], [4.0], [5.0], None]
    again = materialize_view(plant, "long", PARTITIONS[1], settings=settings)
    assert (again.offered, again.rows) == (0, 3)
    assert record(settings, "long").newest_event == START + timedelta(hours=30)


def test_a_fact_at_the_very_mark_is_not_missed_where_its_partition_is_built_later(
    settings: Settings, plant: DomainSpec
) -> None:
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    write_facts(settings, plant, "long", PARTITIONS[1], [("d", 24, 24, 9.0)])
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert answers(settings, "long")[1][3] == (START + timedelta(hours=24), [9.0])


@pytest.mark.parametrize("view", ["short", "long"])
def test_late_data_is_brought_again_and_facts_that_went_away_go(
    settings: Settings, plant: DomainSpec, view: str
) -> None:
    write_facts(settings, plant, view, PARTITIONS[0], FIRST)
    write_facts(settings, plant, view, PARTITIONS[1], SECOND)
    materialize_view(plant, view, PARTITIONS[1], settings=settings)
    write_facts(settings, plant, view, PARTITIONS[1], [("d", 40, 40, 7.0)])
    report = materialize_view(plant, view, PARTITIONS[0], settings=settings)
    assert PARTITIONS[1] in report.anew
    assert report.high_water_mark == "2020-01-03T00:00:00Z"
    rows = answers(settings, view)[1]
    assert rows[2] is None
    assert rows[3] == (START + timedelta(hours=40), [7.0])


def test_an_expired_partition_that_changes_causes_no_work(settings: Settings, plant: DomainSpec) -> None:
    for partition in PARTITIONS:
        hour = 24 * PARTITIONS.index(partition)
        write_facts(settings, plant, "short", partition, [("a", hour, hour, 1.0)])
        materialize_view(plant, "short", partition, settings=settings)
    write_facts(settings, plant, "short", PARTITIONS[0], [("b", 0, 0, 1.0)])
    report = materialize_view(plant, "short", PARTITIONS[3], settings=settings)
    assert (report.offered, report.anew) == (0, "")


def test_an_older_partition_after_a_newer_one_adds_its_facts_and_moves_nothing_back(
    settings: Settings, plant: DomainSpec
) -> None:
    write_facts(settings, plant, "long", PARTITIONS[1], SECOND)
    materialize_view(plant, "long", PARTITIONS[1], settings=settings)
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    report = materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert (report.offered, report.anew) == (2, "")
    mark, rows = answers(settings, "long")
    assert mark == START + timedelta(hours=48)
    assert [None if row is None else row[1] for row in rows] == [[2.0], [4.0], [5.0], None]


def test_another_layout_and_a_lost_store_are_written_anew(settings: Settings, plant: DomainSpec) -> None:
    write_facts(settings, plant, "long", PARTITIONS[1], SECOND)
    materialize_view(plant, "long", PARTITIONS[1], settings=settings)
    wider = make_plant(settings.sql_folder, features={"level": "float64", "whole": "int64"})
    write_facts(settings, wider, "long", PARTITIONS[1], SECOND)
    report = materialize_view(wider, "long", PARTITIONS[0], settings=settings)
    assert report.anew == "its layout is another"
    assert answers(settings, "long")[1][1][1] == [4.0, 4]
    Path(settings.online_store).unlink()
    report = materialize_view(wider, "long", PARTITIONS[0], settings=settings)
    assert "does not hold what was left" in report.anew
    assert answers(settings, "long")[0] == START + timedelta(hours=48)


def test_a_pushed_row_stays_until_the_lake_has_a_partition_of_its_time(settings: Settings, plant: DomainSpec) -> None:
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    writer = open_writer(settings.online_store)
    layout = ViewLayout(entities=(("key", "string"),), features=(("level", "float64"),))
    at = START + timedelta(hours=50)
    pushed = pa.RecordBatch.from_pydict(
        {"key": ["a"], "level": [77.0], "event_timestamp": pa.array([at]), "known_at": pa.array([at])}
    )
    writer.write("long", layout, [pushed], high_water_mark=instant(at))
    assert materialize_view(plant, "long", PARTITIONS[0], settings=settings).anew == ""
    assert answers(settings, "long")[1][0] == (at, [77.0])
    write_facts(settings, plant, "long", PARTITIONS[2], [("b", 60, 60, 8.0)])
    assert "another writer" in materialize_view(plant, "long", PARTITIONS[2], settings=settings).anew
    rows = answers(settings, "long")[1]
    assert [row and row[1] for row in rows] == [[2.0], [8.0], None, None]


def test_a_domain_that_begins_before_1970_is_brought_as_any_other(settings: Settings, plant: DomainSpec) -> None:
    early = plant.model_copy(update={"first": "1960-01-01"})
    begun = (datetime(1960, 1, 1, tzinfo=UTC) - START) / timedelta(hours=1)
    for day in range(3):
        hour = begun + 24 * day + 1
        write_facts(settings, early, "short", f"1960-01-0{1 + day}", [("abc"[day], hour, hour, float(day))])
    for day, expected in enumerate(([[0.0], None, None], [None, [1.0], None], [None, None, [2.0]])):
        report = materialize_view(early, "short", f"1960-01-0{1 + day}", settings=settings)
        assert bool(report.anew) == (day == 0)
        mark, rows = answers(settings, "short", ["a", "b", "c"])
        assert mark == datetime(1960, 1, 2 + day, tzinfo=UTC)
        assert [row and row[1] for row in rows] == expected


def test_too_little_memory_is_told_with_the_limit(settings: Settings, plant: DomainSpec) -> None:
    small = plant.model_copy(update={"compute": plant.compute.model_copy(update={"memory_limit": "1MB"})})
    write_facts(settings, small, "long", PARTITIONS[0], [(f"key {number}", 1, 1, 1.0) for number in range(60_000)])
    with pytest.raises(FeatureError, match="more memory than 1MB"):
        materialize_view(small, "long", PARTITIONS[0], settings=settings)


def test_of_many_changed_partitions_a_few_are_named(settings: Settings, plant: DomainSpec) -> None:
    days = [f"2020-01-{day:02}" for day in range(1, 10)]
    for level in (1.0, 2.0):
        for number, day in enumerate(days):
            write_facts(settings, plant, "long", day, [("a", 24 * number, 24 * number, level)])
        report = materialize_view(plant, "long", days[-1], settings=settings)
    assert report.anew == f"{', '.join(days[:5])} and 4 more changed after it was written"


def test_a_run_that_did_not_end_is_made_good_even_where_nothing_looks_changed(
    settings: Settings, plant: DomainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    before = answers(settings, "long")
    write_facts(settings, plant, "long", PARTITIONS[0], [("d", 3, 3, 1.0)])
    with monkeypatch.context() as patched:
        patched.setattr(Materializations, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert answers(settings, "long") != before
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    assert "no complete run" in materialize_view(plant, "long", PARTITIONS[0], settings=settings).anew
    assert answers(settings, "long") == before


def test_a_store_that_is_away_is_told_and_the_mark_stands(
    settings: Settings, plant: DomainSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.online.redis_writer._PAUSE_SECONDS", 0.001)
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    away = elsewhere(settings, "redis://127.0.0.1:1/0")
    with pytest.raises(OnlineStoreUnavailableError) as caught:
        materialize_view(plant, "long", PARTITIONS[0], settings=away)
    assert caught.value.remedy
    assert caught.value.retryable
    assert record(away, "long") is None


def test_an_unknown_view_and_a_table_that_was_never_built_are_refused(settings: Settings, plant: DomainSpec) -> None:
    with pytest.raises(FeatureError, match="no feature table 'tall'"):
        materialize_view(plant, "tall", PARTITIONS[0], settings=settings)
    with pytest.raises(FeatureError, match="not there yet"):
        materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert record(settings, "long") is None


def test_the_log_tells_how_far_it_is(
    settings: Settings, plant: DomainSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("millrace.features.materialization.PROGRESS_SECONDS", 0.0)
    write_facts(settings, plant, "long", PARTITIONS[0], FIRST)
    with caplog.at_level(logging.INFO):
        materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    assert "long: 2 keys to write" in caplog.text
    assert "long: 2 keys (100 %)" in caplog.text
    assert "2 keys written as of 2020-01-02T00:00:00Z, the online store holds 2" in caplog.text


def test_two_runs_at_once_take_turns(settings: Settings, plant: DomainSpec) -> None:
    for number, partition in enumerate(PARTITIONS):
        facts = [(key, 24 * number + hour, 24 * number + hour, float(hour)) for hour in range(20) for key in "abcd"]
        write_facts(settings, plant, "long", partition, facts)
    keys = (*PARTITIONS, *PARTITIONS)
    with ThreadPoolExecutor(len(keys)) as pool:
        list(pool.map(lambda key: materialize_view(plant, "long", key, settings=settings), keys))
    alone = elsewhere(settings)
    materialize_view(plant, "long", PARTITIONS[-1], settings=alone)
    assert answers(settings, "long") == answers(alone, "long")


@st.composite
def days(draw: Any) -> list[Fact]:
    """Facts of one day, hours counted from its start; some become known days later."""
    events = draw(st.lists(st.tuples(st.sampled_from("abcd"), HOURS, st.sampled_from([0, 0, 3, 24, 50])), max_size=5))
    return [
        (key, hour, hour + late, float(draw(st.integers(0, 9))))
        for key, hour, late in {e[:2]: e for e in events}.values()
    ]


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), days()), st.tuples(st.just("bring"), st.integers(0, 3), st.just([]))
)


def check_any_order(settings: Settings, plant: DomainSpec, steps: list[Any], view: str) -> None:
    shutil.rmtree(settings.lake, ignore_errors=True)
    here = elsewhere(settings)
    furthest = None
    for kind, number, facts in [("write", 0, [("a", 1, 1, 1.0)]), *steps, ("bring", 0, [])]:
        partition, hours = PARTITIONS[number], 24 * number
        if kind == "write":
            moved = [(key, hours + happened, hours + known, level) for key, happened, known, level in facts]
            write_facts(settings, plant, view, partition, moved)
        else:
            materialize_view(plant, view, partition, settings=here)
            furthest = max(furthest or partition, partition)
    clean = elsewhere(settings)
    assert furthest is not None
    materialize_view(plant, view, furthest, settings=clean)
    assert answers(here, view) == answers(clean, view)
    assert record(here, view).newest_event == record(clean, view).newest_event
    assert record(here, view).partitions == record(clean, view).partitions


STEPS = st.lists(STEP, min_size=3, max_size=8)
VIEW = st.sampled_from(["short", "long"])
FIXTURE = [HealthCheck.function_scoped_fixture]


@checks(max_examples=5, deadline=None, suppress_health_check=FIXTURE)
@given(steps=STEPS, view=VIEW)
def test_any_order_of_building_and_bringing_ends_as_a_clean_run_does(
    settings: Settings, plant: DomainSpec, steps: list[Any], view: str
) -> None:
    check_any_order(settings, plant, steps, view)


@pytest.mark.full
@checks(max_examples=60, deadline=None, suppress_health_check=FIXTURE)
@given(steps=STEPS, view=VIEW)
def test_very_many_orders_of_building_and_bringing_end_as_a_clean_run_does(
    settings: Settings, plant: DomainSpec, steps: list[Any], view: str
) -> None:
    check_any_order(settings, plant, steps, view)


def test_all_views_are_brought_one_after_the_other(settings: Settings, plant: DomainSpec) -> None:
    for view, partition in (("short", PARTITIONS[0]), ("long", PARTITIONS[0]), ("fixed", "")):
        write_facts(settings, plant, view, partition, FIRST)
    report = materialize_features(plant, PARTITIONS[0], settings=settings)
    assert [(view.view, view.offered) for view in report.views] == [("short", 2), ("long", 2), ("fixed", 2)]
    write_facts(settings, plant, "fixed", "", FIRST[:1])
    again = materialize_features(plant, PARTITIONS[0], settings=settings)
    assert [(view.view, view.rows) for view in again.views] == [("short", 2), ("long", 2), ("fixed", 1)]
    assert Table(settings.lake, plant.feature_table("fixed")).partitions() == []
