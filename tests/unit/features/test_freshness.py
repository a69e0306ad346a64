"""Whether a view is fresh, as of an instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace.features.freshness import FreshnessReport, ViewFreshness, judge_freshness, last_end
from millrace.partition import Partition
from millrace.spec import DomainSpec, load_domain


@pytest.fixture
def watched(dags: Path) -> DomainSpec:
    """Flights, with an objective of a day for the weather and none for planes."""
    domain = load_domain(dags, "flights")
    tables = dict(domain.feature_tables)
    tables["origin_weather"] = tables["origin_weather"].model_copy(update={"freshness_hours": 24})
    tables["planes"] = tables["planes"].model_copy(update={"freshness_hours": 0})
    return domain.model_copy(update={"feature_tables": tables})


def judge(domain: DomainSpec, mark: datetime | None, at: datetime, view: str = "origin_weather") -> ViewFreshness:
    return judge_freshness(domain, view, at=at, high_water_mark=mark, rows=3)


def test_a_view_is_stale_from_the_first_moment_over_its_objective(watched: DomainSpec) -> None:
    end = watched.partition("2013-03").end
    for behind, verdict in ((0, "fresh"), (24, "fresh"), (24.001, "stale"), (-48, "fresh")):
        found = judge(watched, end - timedelta(hours=behind), end + timedelta(days=3))
        assert (found.verdict, found.reference) == (verdict, "2013-04-01T04:00:00Z"), behind
        assert found.lag_hours == pytest.approx(max(behind, 0))
    assert "24 h are allowed" in found.sentence
    assert "up to date" in found.sentence


def test_what_was_never_brought_is_never_fresh_and_a_view_without_objective_always(watched: DomainSpec) -> None:
    end = watched.partition("2013-03").end
    never = judge(watched, None, end)
    assert (never.verdict, never.lag_hours, never.rows) == ("never", None, None)
    assert "never brought" in never.sentence
    assert judge(watched, end - timedelta(days=300), end, "planes").verdict == "fresh"


def test_the_reference_never_lies_after_the_end_of_the_domain_nor_before_its_first_partition_is_over(
    watched: DomainSpec,
) -> None:
    end = watched.partition("2013-12").end
    assert last_end(watched, datetime(2030, 1, 1, tzinfo=UTC)) == end
    assert last_end(watched, end - timedelta(seconds=1)) == watched.partition("2013-11").end
    assert last_end(watched, watched.partition("2013-01").end - timedelta(seconds=1)) is None
    assert last_end(watched, watched.partition("2013-01").end) == watched.partition("2013-01").end
    assert last_end(watched, datetime(2000, 1, 1, tzinfo=UTC)) is None


def test_an_instant_lies_in_the_partition_of_the_calendar() -> None:
    moment = datetime(2013, 4, 1, 3, 59, tzinfo=UTC)
    assert Partition.at(moment, "month", "America/New_York").key == "2013-03"
    assert Partition.at(moment, "day", "UTC").key == "2013-04-01"


def test_a_report_names_what_is_stale_and_says_nothing_of_what_is_not(watched: DomainSpec) -> None:
    end = watched.partition("2013-03").end
    base = FreshnessReport(use_case="u", partition="2013-03")
    fresh, stale = judge(watched, end, end), judge(watched, end - timedelta(days=9), end)
    aimless = judge(watched, None, end, "planes")
    assert (base.of([fresh, aimless]).verdict, base.of([fresh, aimless]).reasons) == ("fresh", [])
    report = base.of([stale, fresh, aimless])
    assert (report.verdict, report.stale) == ("stale", ["origin_weather"])
    assert report.reasons[0].startswith("Not fresh: origin_weather is 216 h behind")
    assert FreshnessReport.from_dict(report.to_dict()) == report
    assert base.unreachable("no answer").reasons == ["Freshness is not known: no answer."]
