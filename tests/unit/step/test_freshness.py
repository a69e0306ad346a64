"""Freshness by the marks of a store that was really written."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.levels import PARTITIONS, START, make_plant, write_facts

from millrace.governance.monitor_result import MonitorResults
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_use_case
from millrace.step.freshness import measure_freshness, watch_freshness
from millrace.step.materialization import materialize_view


@pytest.fixture
def reads_levels(dags: Path) -> UseCaseSpec:
    """A use case that reads `long` and `fixed`."""
    found = load_use_case(dags, "flight_delay")
    features = found.features.model_copy(update={"views": {"long": ["level"], "fixed": ["level"]}, "on_demand": {}})
    return found.model_copy(update={"domain": "plant", "features": features})


def test_marks_are_held_against_the_last_partition_that_was_over(settings: Settings) -> None:
    plant = make_plant(settings.sql_folder)
    assert [view.verdict for view in measure_freshness(plant, settings=settings)] == ["never"] * 3
    write_facts(settings, plant, "long", PARTITIONS[0], [("a", 1, 5, 1.0), ("b", 3, 3, 2.0)])
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    found = {view.view: view for view in measure_freshness(plant, settings=settings, at=START + timedelta(hours=50))}
    assert list(found) == ["short", "long", "fixed"]
    assert (found["long"].verdict, found["long"].lag_hours, found["long"].rows) == ("fresh", 24.0, 2)
    assert found["long"].newest_event == "2020-01-01T03:00:00Z"
    late = measure_freshness(plant, settings=settings, at=START + timedelta(hours=72))[1]
    assert (late.verdict, late.lag_hours) == ("stale", 48.0)
    assert measure_freshness(plant, settings=settings)[1].verdict == "stale"


def test_the_monitor_keeps_what_it_found_of_the_views_that_the_use_case_reads(
    settings: Settings, reads_levels: UseCaseSpec
) -> None:
    plant = make_plant(settings.sql_folder)
    write_facts(settings, plant, "long", PARTITIONS[0], [("a", 1, 1, 1.0)])
    materialize_view(plant, "long", PARTITIONS[0], settings=settings)
    report = watch_freshness(reads_levels, plant, PARTITIONS[0], settings=settings)
    assert (report.verdict, report.reasons) == ("fresh", [])
    assert [view["view"] for view in report.views] == ["long", "fixed"]
    report = watch_freshness(reads_levels, plant, PARTITIONS[2], settings=settings)
    assert (report.verdict, report.stale) == ("stale", ["long"])
    kept = MonitorResults(settings).get(reads_levels.name, PARTITIONS[2], "freshness")
    assert kept == report.to_dict()


def test_a_store_that_is_away_is_a_finding_not_an_error(
    settings: Settings, reads_levels: UseCaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.online.redis_reader._PAUSE_SECONDS", 0.001, raising=False)
    plant = make_plant(settings.sql_folder)
    away = dataclasses.replace(settings, online_store="redis://127.0.0.1:1/0")
    report = watch_freshness(reads_levels, plant, PARTITIONS[0], settings=away)
    assert report.verdict == "unreachable"
    assert "not known" in report.reasons[0]
