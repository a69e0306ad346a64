"""Skew on real tables, real Feast and a real service: none where nothing happened, and exactly what was planted."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console
from tests.unit.features import clean
from tests.unit.serving import sample
from tests.unit.step.skewed import Skewed

from millrace.cli.lineage_view import show_answer
from millrace.governance.monitor_result import MonitorResults
from millrace.monitoring.skew import SkewReport
from millrace.serving.answer_id import AnswerId
from millrace.serving.assembly import FeatureVector
from millrace.serving.base import InferenceRequest
from millrace.serving.request_log import RequestLog
from millrace.serving.sampled_row import FOLDER, log_files
from millrace.step.answer_lineage import AnswerLineage, trace_answer
from millrace.step.features import build_features
from millrace.step.materialization import materialize_features
from millrace.step.retrieval import historical_features
from millrace.step.skew import measure_skew


@pytest.fixture(scope="module")
def march(tmp_path_factory: pytest.TempPathFactory) -> Skewed:
    return Skewed.make(tmp_path_factory.mktemp("skew") / "var", sample.ROOT / "dags")


@pytest.fixture
def house(march: Skewed, tmp_path: Path) -> Skewed:
    return march.copy(tmp_path / "var")


def measure(house: Skewed, partition: str = "2013-04", **changes: Any) -> SkewReport:
    monitoring = house.spec.monitoring.model_copy(update=changes)
    spec = house.spec.model_copy(update={"monitoring": monitoring})
    return measure_skew(spec, house.domain, partition, settings=house.settings)


def test_nothing_was_asked_and_nothing_is_compared(house: Skewed) -> None:
    report = measure(house)
    assert (report.reason, report.rows, report.reasons) == ("no_requests", 0, [])
    assert MonitorResults(house.settings).get("flight_delay", "2013-04", "skew") is None


def test_rows_that_came_as_full_vectors_are_counted_on_the_page(house: Skewed) -> None:
    log = RequestLog(house.settings.serving_dir / FOLDER)
    ref = SimpleNamespace(use_case="flight_delay", request_sample=1.0)
    asked = InferenceRequest(columns={}, rows=7)
    log.offer(SimpleNamespace(ref=ref), asked, FeatureVector(columns={}, source="request", parameters={}))  # type: ignore[arg-type]
    log.close()
    report = measure(house)
    assert (report.reason, report.rows, report.vectors, report.reasons) == ("no_requests", 0, 7, [])
    assert "7 rows came as full vectors" in Path(report.report).read_text()


def test_where_nothing_was_touched_the_skew_is_zero_before_and_after_the_next_partition(house: Skewed) -> None:
    rows = house.rows()
    house.ask(rows)
    strangers = pa.array(["N999", None, "N999", "N100"])
    house.ask(rows.slice(0, 4).set_column(rows.column_names.index("tailnum"), "tailnum", strangers))
    for _ in range(2):
        report = measure(house)
        assert (report.rows, report.mismatched, report.share) == (84, 0, 0.0)
        assert (report.shares, report.reasons, report.alert) == ({}, [], False)
        # April's first facts bear the very instant of the mark, and were not there when March was materialized.
        house.end_april()
    features = house.package.features
    assert report.features == sum(len(view.features) for view in features.lookups) + len(features.computed)
    # What was asked afterwards stands at the end of April, which is May's.
    house.ask(house.rows(count=5))
    last = house.domain.model_copy(update={"last": "2013-04"})
    after = measure_skew(house.spec, last, "2013-04", settings=house.settings)
    assert (after.rows, after.mismatched) == (89, 0)


def test_a_value_changed_in_the_online_store_is_found_with_its_share(house: Skewed) -> None:
    rows = house.rows()
    hit = rows.column("carrier").to_pylist().count("UA")
    before = house.plant("carrier_delays", "UA", "carrier_late_share_7d", 0.123)
    house.ask(rows)
    house.end_april()
    report = measure(house)
    assert report.mismatched == hit > 0
    assert report.shares == {"carrier_late_share_7d": round(hit / rows.num_rows, 6)}
    assert report.alert
    assert report.reasons[0].startswith(f"Skew: {hit} of 80 rows")
    stored = MonitorResults(house.settings).get("flight_delay", "2013-04", "skew")
    assert stored is not None
    worst, *others = stored["columns"]
    assert worst["name"] == "carrier_late_share_7d"
    assert worst["examples"][0] == {
        "key": {"carrier": "UA"},
        "as_of": "2013-04-01T04:00:00Z",
        "online": 0.123,
        "offline": before,
    }
    assert {item["share"] for item in others} == {0.0}
    page = Path(report.report).read_text()
    assert "carrier=UA" in page
    assert "0.123" in page
    tolerant = measure(house, skew_share=1.0)
    assert not tolerant.alert
    assert tolerant.reasons[0].startswith(f"{hit} of 80 rows")


def test_a_late_correction_is_found_where_it_changes_something_and_gone_once_materialized(house: Skewed) -> None:
    rows = house.rows()
    house.ask(rows)
    asked_at = as_of(house, rows)
    correct_march(house)
    for partition in ("2013-03", "2013-04"):
        build_features(house.domain, partition, settings=house.settings)
    now = as_of(house, rows)
    looked_up = [name for view in house.package.features.lookups for name in view.features]
    expected = {
        name: round(sum(a != b for a, b in zip(asked_at[name], now[name], strict=True)) / rows.num_rows, 6)
        for name in looked_up
    }
    expected = {name: share for name, share in expected.items() if share}
    report = measure(house)
    shown = sorted(expected.items(), key=lambda item: (-item[1], item[0]))[:10]
    looked_up_shares = {name: share for name, share in report.shares.items() if name in looked_up}
    assert looked_up_shares == dict(shown[: len(looked_up_shares)])
    assert "carrier_late_share_28d" in expected
    assert report.alert
    # Asked again after the correction came to the store: what is new agrees, what was answered before does not.
    materialize_features(house.domain, "2013-03", settings=house.settings)
    house.ask(rows)
    again = measure(house)
    assert (again.rows, again.mismatched) == (160, report.mismatched)


def test_what_a_function_makes_of_a_wrong_value_is_found_with_what_it_read(house: Skewed) -> None:
    rows = house.rows()
    years = house.plant("planes", "N101", "plane_year", 1931.0)
    hit = rows.column("tailnum").to_pylist().count("N101")
    house.ask(rows)
    report = measure(house)
    assert report.mismatched == hit > 0
    assert report.shares == dict.fromkeys(("plane_age", "plane_year"), round(hit / rows.num_rows, 6))
    stored = MonitorResults(house.settings).get("flight_delay", "2013-04", "skew")
    assert stored is not None
    age = next(item for item in stored["columns"] if item["name"] == "plane_age")
    (example, *_) = age["examples"]
    assert age["view"] == "plane_age"
    assert (example["online"], example["offline"]) == (2013 - 1931, 2013 - years)
    assert example["key"] == {"plane_year": 1931.0, "year": 2013.0}


def test_only_the_newest_rows_are_compared_and_those_of_the_partition(house: Skewed) -> None:
    house.plant("carrier_delays", "UA", "carrier_late_share_7d", 0.123)
    house.ask(house.rows(count=20))
    house.plant("carrier_delays", "UA", "carrier_late_share_7d", 0.5)
    house.ask(house.rows(count=10))
    report = measure(house, skew_rows=10)
    assert report.rows == 10
    assert measure(house, partition="2013-03").reason == "no_requests"
    stored = MonitorResults(house.settings).get("flight_delay", "2013-04", "skew")
    assert stored is not None
    assert stored["columns"][0]["examples"][0]["online"] == 0.5


def test_rows_of_a_package_that_is_gone_are_counted_and_the_others_compared(house: Skewed) -> None:
    house.ask(house.rows(count=5))
    gone = "0" * 64
    for path in log_files(house.settings.serving_dir / FOLDER / "flight_delay"):
        first, *others = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(first.replace(house.package.digest.encode(), gone.encode()) + b"".join(others))
    report = measure(house)
    assert (report.rows, report.uncompared, report.mismatched) == (4, 1, 0)
    assert any("could not be compared" in reason for reason in report.reasons)
    shutil.rmtree(house.settings.packages / house.package.digest)
    nothing = measure(house)
    assert (nothing.rows, nothing.uncompared, nothing.features, nothing.alert) == (0, 5, 0, False)
    assert "5 sampled rows could not be compared" in Path(nothing.report).read_text()


def as_of(house: Skewed, rows: pa.Table) -> dict[str, list[Any]]:
    """The views' features of rows just before the mark (where April's first facts begin), by the way training takes."""
    place = rows.column_names.index("event_timestamp")
    before = datetime(2013, 4, 1, 4, tzinfo=UTC) - timedelta(microseconds=1)
    mark = pa.array([before] * rows.num_rows, pa.timestamp("us", "UTC"))
    joined = historical_features(
        house.spec, house.domain, rows.set_column(place, "event_timestamp", mark), settings=house.settings
    )
    return {name: joined.column(name).to_pylist() for name in joined.column_names}


def correct_march(house: Skewed) -> None:
    """Flights of the end of March that were on time turn out to have been late, known then as before."""
    raw = clean.raw_all()
    flights = raw["flights"]
    wrong = pc.and_(pc.equal(flights.column("month"), 3), pc.greater(flights.column("day"), 20))
    wrong = pc.and_(wrong, pc.equal(flights.column("carrier"), "UA"))
    late = pc.if_else(wrong, 90.0, flights.column("arr_delay"))
    corrected = flights.set_column(flights.column_names.index("arr_delay"), "arr_delay", late)
    clean.write_clean(house.domain, house.settings.lake, {"flights": corrected}, ["2013-03"])


def trace(house: Skewed, name: str) -> AnswerLineage:
    asked = AnswerId.parse(name)
    assert asked is not None
    return trace_answer(name, asked, settings=house.settings)


def test_an_online_answer_leads_back_to_what_the_model_saw(house: Skewed) -> None:
    answer: dict[str, Any] = house.ask(house.rows(count=3))[0]
    name = answer["parameters"]["prediction_id"]
    found = trace(house, name)
    assert (found.sampled, found.breaks) == (True, ["'flight_delay' has no release 1"])
    assert (found.id, found.others) == (name, [f"{name}.1", f"{name}.2"])
    for place in range(3):
        row = trace(house, f"{name}.{place}")
        assert row.prediction == answer["outputs"][0]["data"][place]
        assert len(row.others) == 2
    lookups = {view.view: view for view in house.package.features.lookups}
    assert {name for view in lookups.values() for name in (*view.entities, *view.features)} <= set(found.columns)
    assert [view["view"] for view in found.views] == list(lookups)
    for view in found.views:
        assert view["as_of"] == answer["parameters"]["high_water_mark"]
        assert view["table"] == house.domain.feature_table(view["view"])
        assert view["partition"] in {"", "2013-03"}
        assert view["clean"]
    console = Console(width=100, record=True, file=io.StringIO())
    show_answer(console, found)
    assert "as of 2013-04-01T04:00:00Z" in console.export_text()
    gone = trace(house, f"{name}.3")
    assert (gone.sampled, len(gone.others)) == (False, 3)
