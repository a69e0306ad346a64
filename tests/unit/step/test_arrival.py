"""Which partitions' data should run because files arrived."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.drops import write_drops, write_readings

from millrace.ingestion import file_source
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.arrival import find_arrivals, open_partitions
from millrace.step.ingestion import ingest_partition

NOW = datetime(2024, 4, 20, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are dropped; they count as standing still at once."""
    monkeypatch.setattr(file_source, "_RESTS_S", 0)
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def drops(settings: Settings, folder: Path) -> DomainSpec:
    write_drops(settings.dags, folder)
    return load_domain(settings.dags, "drops")


def _changed(
    domain: DomainSpec, *, sources: dict[str, dict[str, object]] | None = None, **domain_keys: object
) -> DomainSpec:
    """The domain with other values, and further sources made of its `readings`."""
    plain = domain.model_dump(mode="json", by_alias=True) | domain_keys
    first = plain["sources"]["readings"]
    for name, keys in (sources or {}).items():
        plain["sources"][name] = {**first, **keys}
    return DomainSpec.model_validate(plain)


def test_the_key_in_a_file_name_is_asked_for(drops: DomainSpec, folder: Path, settings: Settings) -> None:
    write_readings(folder / "2024-02.csv")
    report = find_arrivals(drops, {"readings": ["2024-02"]}, settings=settings, now=NOW)
    assert report.partitions == ["2024-02"]
    assert report.line == "data asked for: 2024-02"


def test_what_the_lake_holds_already_is_not_asked_for_until_the_file_changes(
    drops: DomainSpec, folder: Path, settings: Settings
) -> None:
    write_readings(folder / "2024-02.csv")
    write_readings(folder / "2024-03.csv")
    ingest_partition(drops, "readings", "2024-02", settings=settings)
    report = find_arrivals(drops, {}, settings=settings, now=NOW)
    assert (report.partitions, report.known) == (["2024-03"], ["2024-02"])
    write_readings(folder / "2024-02.csv", days=20)
    assert find_arrivals(drops, {}, settings=settings, now=NOW).partitions == ["2024-02", "2024-03"]


def test_a_key_outside_of_the_domain_is_told_and_not_asked_for(
    drops: DomainSpec, folder: Path, settings: Settings
) -> None:
    report = find_arrivals(drops, {"readings": ["2023-12", "2024-07"]}, settings=settings, now=NOW)
    assert report.partitions == []
    assert report.line == "nothing new; outside of the domain: 2023-12, 2024-07"


def test_a_run_waits_until_every_watched_source_has_its_file(
    drops: DomainSpec, folder: Path, settings: Settings
) -> None:
    other = f"{folder}/other-{{partition}}.csv"
    both = _changed(drops, sources={"other": {"uri": other}})
    write_readings(folder / "2024-02.csv")
    assert find_arrivals(both, {"readings": ["2024-02"]}, settings=settings, now=NOW).waiting == ["2024-02"]
    lenient = _changed(drops, sources={"other": {"uri": other, "may_be_empty": True}})
    assert find_arrivals(lenient, {"readings": ["2024-02"]}, settings=settings, now=NOW).partitions == ["2024-02"]
    write_readings(folder / "other-2024-02.csv")
    assert find_arrivals(both, {"other": ["2024-02"]}, settings=settings, now=NOW).partitions == ["2024-02"]


def test_a_file_that_names_no_partition_asks_for_those_that_are_open(
    drops: DomainSpec, folder: Path, settings: Settings
) -> None:
    late = {"policy": "quarantine", "closes_after_hours": 24 * 60}
    whole = _changed(
        drops,
        sources={"readings": {"uri": f"{folder}/all.csv", "partition_columns": {"device": "%Y-%m"}, "late": late}},
    )
    write_readings(folder / "all.csv")
    assert open_partitions(whole, "readings", NOW) == ["2024-02", "2024-03"]
    assert find_arrivals(whole, {"readings": []}, settings=settings, now=NOW).partitions == ["2024-02", "2024-03"]


@pytest.mark.parametrize(
    ("now", "hours", "found"),
    [
        ("2024-01-20", 0, []),
        ("2024-02-02", 0, ["2024-01"]),
        ("2024-04-20", 0, ["2024-03"]),
        ("2024-04-20", 24 * 60, ["2024-02", "2024-03"]),
        ("2024-04-20", 24 * 400, ["2024-01", "2024-02", "2024-03"]),
        ("2030-01-01", 0, ["2024-06"]),
    ],
)
def test_the_newest_partition_that_is_over_is_open_whatever_its_age(
    drops: DomainSpec, now: str, hours: float, found: list[str]
) -> None:
    domain = _changed(drops, sources={"readings": {"late": {"policy": "merge", "closes_after_hours": hours}}})
    assert open_partitions(domain, "readings", datetime.fromisoformat(now).replace(tzinfo=UTC)) == found
