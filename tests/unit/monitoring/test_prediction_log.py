"""Which score of a row counts, and which labels may be used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from millrace.lake import Table
from millrace.monitoring.prediction_log import (
    LIVE,
    SHADOW,
    join_first_scores,
    main_release,
    of_role,
    read_first_scores,
    read_labelled,
)
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, load_use_case

AT = datetime(2013, 4, 2, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", "UTC")


@pytest.fixture
def use_case(settings: Settings) -> UseCaseSpec:
    return load_use_case(settings.dags, "flight_delay")


def scores(keys: list[str], release: int, role: str, prediction: float, recorded: int) -> pa.Table:
    size = len(keys)
    return pa.table(
        {
            "key": keys,
            "event_timestamp": pa.array([AT + timedelta(hours=ord(key)) for key in keys], INSTANT),
            "release": pa.array([release] * size, pa.int64()),
            "package": [str(release)] * size,
            "role": [role] * size,
            "prediction": [prediction] * size,
            "feature_snapshot": ["s"] * size,
            "recorded_at": pa.array([AT + timedelta(minutes=recorded)] * size, INSTANT),
        }
    )


def test_the_first_score_of_a_row_counts_in_each_role(use_case: UseCaseSpec, settings: Settings) -> None:
    table = Table(settings.lake, use_case.table("predictions"))
    table.append(scores(["b", "a"], 2, LIVE, 0.2, 10), partition="2013-04", marker="2")
    table.append(scores(["a", "b", "c"], 3, LIVE, 0.3, 20), partition="2013-04", marker="3")
    table.append(scores(["a"], 1, SHADOW, 0.1, 30), partition="2013-04", marker="1")
    found = read_first_scores(use_case, "2013-04", lake=settings.lake)
    assert found is not None
    live = of_role(found, LIVE)
    assert dict(zip(live["key"].to_pylist(), live["prediction"].to_pylist(), strict=True)) == {
        "a": 0.2,
        "b": 0.2,
        "c": 0.3,
    }
    assert of_role(found, SHADOW)["prediction"].to_pylist() == [0.1]
    assert main_release(live) == 2
    assert read_first_scores(use_case, "2013-05", lake=settings.lake) is None


def test_a_label_counts_from_the_moment_it_is_known(use_case: UseCaseSpec, settings: Settings) -> None:
    cut = AT + timedelta(days=1)
    labels = pa.table(
        {
            "key": ["a", "b", "c", "d"],
            "label": pa.array([1.0, 0.0, None, 1.0]),
            "label_known_at": pa.array([cut, cut + timedelta(microseconds=1), AT, AT], INSTANT),
        }
    )
    rows = scores(["a", "b", "c"], 1, LIVE, 0.2, 0).select(["key", "event_timestamp", "release", "role", "prediction"])
    joined = join_first_scores(rows, labels, cut=cut)
    assert joined["key"].to_pylist() == ["a"]
    ref = Table(settings.lake, use_case.table("labelled")).replace(joined, partition="2013-04")
    assert ref.changed
    assert not Table(settings.lake, use_case.table("labelled")).replace(joined, partition="2013-04").changed
    assert read_labelled(use_case, "2013-04", lake=settings.lake).equals(joined)
    assert read_labelled(use_case, "2013-05", lake=settings.lake).num_rows == 0


def test_no_rows_have_no_release() -> None:
    assert main_release(pa.table({"release": pa.array([], pa.int64())})) is None
