"""Which rows the live performance of a day is measured on, where several days are looked back on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from tests.unit import tolls

from millrace.governance.release import Release
from millrace.lake import Table
from millrace.monitoring.prediction_log import LIVE, SHADOW, of_role, read_labelled
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.use_case import MonitoringSpec
from millrace.step.live_window import read_live_rows
from millrace.step.monitoring import join_labels

DAYS = [item.key for item in Partition("2021-01-01", "day").until(Partition("2021-01-10", "day"))]
INSTANT = pa.timestamp("us", tz="UTC")
SIZE = 6
LATE = 2
"""Days that every other pass of a day is told of later."""


@pytest.fixture
def domain(settings: Settings) -> DomainSpec:
    return tolls.make_domain(settings).model_copy(update={"grain": "day", "first": DAYS[0], "last": DAYS[-1]})


def asking(window: int | None) -> UseCaseSpec:
    plain = tolls.make_use_case()
    label = plain.label.model_copy(update={"known_at": "told_at"})
    return plain.model_copy(update={"label": label, "monitoring": MonitoringSpec(window_partitions=window)})


def release(version: int) -> Release:
    names = ("package", "candidate", "trainer", "trained_through", "holdout", "effective_at", "evidence", "policy")
    more = dict.fromkeys((*names, "feature_service", "reference"), "")
    return Release(use_case="toll_fine", version=version, threshold=0.5, **more)  # type: ignore[arg-type]


def passes(domain: DomainSpec, key: str) -> pa.Table:
    """Passes at each hour from midnight; every other one is told of two days after it."""
    at = [domain.partition(key).start + timedelta(hours=number) for number in range(SIZE)]
    told = [moment + timedelta(days=LATE * (number % 2)) for number, moment in enumerate(at)]
    ids = [int(key.replace("-", "")) * 100 + number for number in range(SIZE)]
    return pa.table(
        {
            "pass_id": pa.array(ids, pa.int64()),
            "gate": ["G0"] * SIZE,
            "passed_at": pa.array(at, INSTANT),
            "weight": [1000.0] * SIZE,
            "fined": [float(number % 3 == 0) for number in range(SIZE)],
            "told_at": pa.array(told, INSTANT),
        }
    )


def score(use_case: UseCaseSpec, domain: DomainSpec, key: str, settings: Settings, **versions: list[int]) -> None:
    """Log a day: role → the release of each of its first rows."""
    clean = passes(domain, key)
    Table(settings.lake, domain.clean_table("passes")).replace(clean, partition=key)
    for role, releases in versions.items():
        count = len(releases)
        rows = {
            "key": clean.column("pass_id").cast(pa.string()).slice(0, count),
            "event_timestamp": clean.column("passed_at").slice(0, count),
            "release": pa.array(releases, pa.int64()),
            "package": [str(version) for version in releases],
            "role": [role] * count,
            "prediction": [version / 10 for version in releases],
            "feature_snapshot": ["s"] * count,
            "recorded_at": pa.array([datetime(2021, 2, 1, tzinfo=UTC)] * count, INSTANT),
        }
        Table(settings.lake, use_case.table("predictions")).append(
            pa.table(rows), partition=key, marker=f"{key}-{role}"
        )


def known(domain: DomainSpec, keys: list[str], looked_at: str) -> list[str]:
    """Keys of the passes of some days that were told of by the end of one."""
    cut = domain.partition(looked_at).end
    rows = [row for key in keys for row in passes(domain, key).to_pylist()]
    return [str(row["pass_id"]) for row in rows if row["told_at"] <= cut]


def test_a_partition_alone_is_its_labelled_rows_whoever_scored_them(domain: DomainSpec, settings: Settings) -> None:
    use_case = asking(None)
    score(use_case, domain, DAYS[0], settings, live=[1, 1, 1, 2, 2, 2])
    join_labels(use_case, domain, DAYS[0], settings=settings)
    rows, window = read_live_rows(use_case, domain, DAYS[0], release(1), settings=settings)
    assert window is None
    assert rows == read_labelled(use_case, DAYS[0], lake=settings.lake)
    assert set(rows.column("release").to_pylist()) == {1, 2}


def test_a_window_has_labels_as_known_by_its_end_and_leaves_each_days_own_as_they_were(
    domain: DomainSpec, settings: Settings
) -> None:
    use_case = asking(4)
    for key in DAYS[:6]:
        score(use_case, domain, key, settings, live=[1] * SIZE)
        join_labels(use_case, domain, key, settings=settings)
    before = [read_labelled(use_case, key, lake=settings.lake) for key in DAYS[:6]]
    rows, window = read_live_rows(use_case, domain, DAYS[5], release(1), settings=settings)
    assert window is not None
    assert window.told == f"4 partitions, {DAYS[2]} to {DAYS[5]}"
    assert (window.measured, window.elsewhere, window.least_days) == (4, 0, 4)
    assert sorted(rows.column("key").to_pylist()) == known(domain, DAYS[2:6], DAYS[5])
    assert rows.num_rows > sum(part.num_rows for part in before[2:6]), "labels that came late count"
    assert [read_labelled(use_case, key, lake=settings.lake) for key in DAYS[:6]] == before
    score(use_case, domain, DAYS[6], settings, live=[1] * SIZE)
    assert read_live_rows(use_case, domain, DAYS[5], release(1), settings=settings) == (rows, window)


def test_after_a_release_the_window_has_its_own_rows_alone_and_says_where_others_are(
    domain: DomainSpec, settings: Settings
) -> None:
    use_case = asking(6)
    for key in DAYS[:4]:
        score(use_case, domain, key, settings, live=[1] * SIZE)
    score(use_case, domain, DAYS[4], settings, live=[1, 1, 2, 2, 2, 2], shadow=[1] * SIZE)
    score(use_case, domain, DAYS[6], settings, live=[2] * 4, shadow=[1] * SIZE)
    join_labels(use_case, domain, DAYS[6], settings=settings)
    rows, window = read_live_rows(use_case, domain, DAYS[6], release(2), settings=settings)
    assert window is not None
    assert window.told == f"2 of 6 partitions, {DAYS[4]} to {DAYS[6]}"
    assert (window.elsewhere, window.least_days) == (4, 5)
    live, shadow = of_role(rows, LIVE), of_role(rows, SHADOW)
    own = [*known(domain, [DAYS[4]], DAYS[6])[2:], *known(domain, [DAYS[6]], DAYS[6])[:2]]
    assert live.column("key").to_pylist() == own == shadow.column("key").to_pylist()
    assert set(live.column("release").to_pylist()) == {2}
    assert set(shadow.column("release").to_pylist()) == {1}


def test_a_window_does_not_begin_before_the_domain_nor_count_days_without_labels(
    domain: DomainSpec, settings: Settings
) -> None:
    use_case = asking(366)
    for key in DAYS[:2]:
        score(use_case, domain, key, settings, live=[1] * SIZE)
    rows, window = read_live_rows(use_case, domain, DAYS[1], release(1), settings=settings)
    assert window is not None
    assert window.told == f"1 of 366 partitions, {DAYS[0]}", "the labels of the day itself were not joined"
    assert sorted(rows.column("key").to_pylist()) == known(domain, DAYS[:1], DAYS[1])
    none, empty = read_live_rows(use_case, domain, DAYS[1], release(7), settings=settings)
    assert empty is not None
    assert (none.num_rows, empty.told, empty.elsewhere) == (0, "0 of 366 partitions", 2)
