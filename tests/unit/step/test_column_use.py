from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.step import store as stores
from tests.unit.step.store import DOMAIN, USE_CASE, Store

from millrace.errors import LineageError
from millrace.features.compute import build_table
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.column_lineage import clean_columns, stands_behind
from millrace.step.column_use import LEAK, UNUSED, ColumnLineage, trace_column

MONTHS = ["2020-01", "2020-02", "2020-03"]
DAILY = DomainSpec.model_validate({**DOMAIN, "grain": "day", "first": "2020-01-01"})


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    made = stores.make(tmp_path / "store", settings)
    made.clean()
    return made


@pytest.fixture
def built(store: Store) -> Store:
    build(store)
    return store


def build(store: Store) -> None:
    for month in MONTHS:
        build_table(store.domain, "spending", month, lake=store.settings.lake, folder=store.settings.sql_folder)


def trace(store: Store, name: str, first: str = "2020-02-01", last: str = "2020-02-29") -> ColumnLineage:
    return trace_column(name, date.fromisoformat(first), date.fromisoformat(last), settings=store.settings)


def leak(store: Store, *columns: str) -> None:
    service = {"name": "again_v1", "views": {"spending": ["spent"]}, "row": {"amount": "number"}}
    path = store.settings.dags / "use_cases" / "again.yaml"
    stores.write(path, {**USE_CASE, "name": "again", "features": service, "leaks": list(columns)})


def test_a_column_is_followed_through_tables_services_and_labels(built: Store) -> None:
    found = trace(built, "orders.amount")
    (use,) = found.clean.features
    assert (use.table, use.features, use.through, use.partitions) == ("spending", ["spent"], ["amount"], ["2020-02"])
    assert [item.partition for item in found.clean.partitions] == ["2020-02"]
    (case,) = found.use_cases
    assert (case.row, case.features, case.label) == (["amount"], ["spending.spent"], [])
    assert (case.service, case.releases, found.end) == ("again_v1", [], "")


def test_what_is_derived_of_a_column_rests_on_it(built: Store) -> None:
    assert clean_columns(built.domain, "orders", "day") == ["day", "placed_at"]
    found = trace(built, "store.orders.day")
    assert found.clean.columns == ["day", "placed_at"]
    assert found.clean.features[0].through == ["placed_at"]
    assert found.use_cases[0].label == ["known_at"]
    assert found.use_cases[0].row == ["placed_at"]


def test_a_look_back_carries_values_into_later_partitions(store: Store) -> None:
    store.table(look_back_days=40)
    build(store)
    assert trace(store, "orders.amount", "2020-01-03", "2020-01-03").clean.features[0].partitions == MONTHS
    assert trace(store, "orders.amount").clean.features[0].partitions == ["2020-02", "2020-03"]


def test_a_leak_that_nothing_reads_ends_there(built: Store) -> None:
    assert trace(built, "orders.order").end == UNUSED
    leak(built, "order")
    found = trace(built, "orders.order")
    assert (found.end, found.use_cases[0].verdict) == (LEAK, LEAK)
    assert found.end == "leak: never a feature"


def test_a_leak_of_its_own_row_may_stand_in_features_of_others(built: Store) -> None:
    leak(built, "customer")
    found = trace(built, "orders.customer")
    assert found.end == ""
    assert (found.use_cases[0].verdict, found.use_cases[0].features) == (LEAK, ["spending.spent"])


def test_days_without_rows_and_rows_without_features_are_said(store: Store) -> None:
    later = trace(store, "orders.amount", "2021-05-01", "2021-05-02")
    assert (later.clean.partitions, later.clean.features[0].partitions) == ([], [])
    assert trace(store, "orders.amount").clean.features[0].partitions == []


def test_a_release_whose_package_is_gone_is_named(built: Store) -> None:
    built.release()
    (release,) = trace(built, "orders.amount").use_cases[0].releases
    assert (release.version, release.in_force, release.trained_on) == (1, True, [])
    assert "manifest.json" in release.fault


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "orders.amonut",
            "(?s)source 'orders' has no column 'amonut'.*yaml: sources.orders.*mean 'amount'.*order, day, customer",
        ),
        ("order.amount", "(?s)no source has a column.*did you mean orders.amount.*store.orders"),
        ("amount", "write it as SOURCE.COLUMN"),
        ("shop.orders.amount", "no source has a column"),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_those_that_do(store: Store, name: str, told: str) -> None:
    with pytest.raises(LineageError, match=told):
        trace(store, name)


def test_days_in_the_wrong_order_are_refused(store: Store) -> None:
    with pytest.raises(LineageError, match="2020-02-01 lies before 2020-02-03"):
        trace(store, "orders.amount", "2020-02-03", "2020-02-01")


@given(changed=st.sets(st.integers(0, 9), min_size=1, max_size=4), partition=st.integers(0, 9), ttl=st.integers(0, 80))
def test_partitions_that_stand_behind_one_are_those_some_instant_of_which_is_looked_up(
    changed: set[int], partition: int, ttl: int
) -> None:
    first = datetime(2020, 1, 1)

    def hours(day: int) -> range:
        return range(24 * day, 24 * day + 24)

    # An instant of the last hour counts up to its end, so that values live `ttl` hours from just before it.
    expected = any(
        known <= asked and (ttl == 0 or asked - known - 1 < ttl)
        for day in changed
        for known in hours(day)
        for asked in hours(partition)
    )
    keys = [f"{first + timedelta(days=day):%Y-%m-%d}" for day in changed]
    assert stands_behind(DAILY, keys, f"{first + timedelta(days=partition):%Y-%m-%d}", ttl) == expected
