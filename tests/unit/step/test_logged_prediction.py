from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit import parcels

from millrace.errors import LineageError
from millrace.lake import Table
from millrace.settings import Settings
from millrace.step.logged_prediction import find_prediction

T0 = datetime(2021, 4, 1, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path, settings: Settings) -> Settings:
    parcels.write_specs(tmp_path / "specs", tmp_path, use_cases=("parcel_late", "parcel_lost"))
    return dataclasses.replace(settings, dags=tmp_path / "specs")


def score(
    settings: Settings, key: str, release: int, *, role: str = "live", after: float = 0, use_case: str = "parcel_late"
) -> None:
    row = {
        "key": key,
        "event_timestamp": T0,
        "release": release,
        "package": f"{release:064d}",
        "role": role,
        "prediction": release / 10,
        "feature_snapshot": "f" * 64,
        "recorded_at": T0 + timedelta(seconds=after),
    }
    types = {"event_timestamp": pa.timestamp("us", "UTC"), "recorded_at": pa.timestamp("us", "UTC")}
    rows = pa.table({name: pa.array([value], types.get(name)) for name, value in row.items()})
    marker = f"{use_case}{key}{release}{role}{after}"
    Table(settings.lake, f"{use_case}/predictions").append(rows, partition="2021-04", marker=marker)


def test_the_first_live_score_counts_whatever_its_release(here: Settings) -> None:
    score(here, "P1", 1, role="shadow")
    score(here, "P1", 3, after=0.5)
    score(here, "P1", 2, after=1)
    _, found = find_prediction("P1", settings=here)
    assert [(item.release, item.role) for item in found] == [(3, "live"), (2, "live"), (1, "shadow")]
    assert found[0].partition == "2021-04"


def test_release_and_role_choose_and_the_rest_is_told_after_them(here: Settings) -> None:
    score(here, "P1", 1, role="shadow")
    score(here, "P1", 2, after=1)
    for chosen in (
        find_prediction("P1", settings=here, release=1),
        find_prediction("P1", settings=here, role="shadow"),
        find_prediction("parcel_late/1/P1", settings=here),
    ):
        assert [item.release for item in chosen[1]] == [1, 2]
    with pytest.raises(
        LineageError, match=r"(?s)release 2 shadow.*parcel_late/2/P1 \(live\), parcel_late/1/P1 \(shadow\)"
    ):
        find_prediction("P1", settings=here, release=2, role="shadow")


def test_a_key_may_have_slashes_and_look_like_an_id_of_no_use_case(here: Settings) -> None:
    for key in ("a/1/b", "parcel_late/x/b", "parcel_late/1/"):
        score(here, key, 1)
        assert find_prediction(key, settings=here)[1][0].key == key
    score(here, "c/1/d", 4)
    assert find_prediction("parcel_late/4/c/1/d", settings=here)[1][0].key == "c/1/d"


def test_a_row_of_two_use_cases_asks_for_a_name(here: Settings) -> None:
    score(here, "P1", 1)
    score(here, "P1", 7, use_case="parcel_lost")
    with pytest.raises(LineageError, match=r"(?s)parcel_late and parcel_lost.*--use-case"):
        find_prediction("P1", settings=here)
    assert find_prediction("P1", settings=here, use_case="parcel_lost")[1][0].release == 7
    assert find_prediction("parcel_lost/7/P1", settings=here)[0].name == "parcel_lost"


def test_a_row_that_nobody_scored_and_an_unknown_use_case_are_said(here: Settings) -> None:
    with pytest.raises(LineageError, match="no prediction for row 'P9'"):
        find_prediction("P9", settings=here)
    with pytest.raises(LineageError, match=r"(?s)no use case 'x'.*parcel_late, parcel_lost"):
        find_prediction("P9", settings=here, use_case="x")


def test_a_raised_digit_is_no_number_of_a_release(here: Settings) -> None:
    with pytest.raises(LineageError, match="no prediction for row"):
        find_prediction("parcel_late/²/P1", settings=here)
