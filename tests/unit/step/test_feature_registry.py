"""Applying to a real registry: what is done, what a release forbids, and what is proven before it is allowed."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.step import store as stores
from tests.unit.step.store import SQL, Store

from millrace.errors import FeatureError, ReleaseRefusedError
from millrace.features import applied
from millrace.governance.ledger import Ledger
from millrace.settings import Settings
from millrace.step import feature_registry
from millrace.step.feature_registry import KIND, apply_domain, apply_features, plan_features
from millrace.step.features import build_features
from millrace.step.service_guard import require_service_unchanged

pytestmark = pytest.mark.integration
WIDER = SQL.replace("AS spent", "AS spent, count(*) OVER (PARTITION BY customer ORDER BY placed_at) AS bought")
TWO = {"spent": "float64", "bought": "float64"}


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    return stores.make(tmp_path / "store", settings)


@pytest.fixture
def released(store: Store) -> Store:
    """A store with features of three months, applied, and release 1 on `again_v1`."""
    store.clean()
    for partition in ("2020-01", "2020-02", "2020-03"):
        build_features(store.domain, partition, settings=store.settings)
    apply_domain(store.domain, settings=store.settings, actor="ann")
    store.release()
    return store


def apply(store: Store, **more: Any) -> feature_registry.ApplyReport:
    return apply_domain(store.domain, settings=store.settings, actor="ann", **more)


def services(store: Store) -> list[str]:
    from millrace.features.feast_registry import open_store

    registry = open_store(store.settings, revision=str(applied.revision(store.settings.registry_url))).registry
    return sorted(item.name for item in registry.list_feature_services("millrace"))


def test_an_apply_is_planned_done_verified_and_on_record_and_then_there_is_nothing_to_do(store: Store) -> None:
    planned = plan_features(store.domain, settings=store.settings)
    assert [change.subject for change in planned.changes] == ["table:spending", "service:again_v1"]
    report = apply(store, expected=planned.digest)
    assert (report.revision, report.verified, report.repaired) == (1, 3, ())
    assert services(store) == ["again_v1"]
    (entry,) = Ledger(store.settings).entries("store", kinds=[KIND])
    assert (entry.actor, entry.effective_at) == ("ann", store.domain.first_start)
    assert [change["name"] for change in entry.payload["changes"]] == ["spending", "again_v1"]
    again = apply(store)
    assert (again.plan.changes, again.verified, again.revision) == ([], 0, 1)
    assert len(Ledger(store.settings).entries("store")) == 1


def test_a_plan_that_is_no_longer_the_one_agreed_to_is_not_applied(store: Store) -> None:
    planned = plan_features(store.domain, settings=store.settings)
    store.table(description="Something else.")
    with pytest.raises(FeatureError, match="since the plan was shown"):
        apply(store, expected=planned.digest)
    assert applied.revision(store.settings.registry_url) == 0


def test_a_change_that_leaves_all_values_is_proven_and_applied_under_a_release(released: Store) -> None:
    released.table("-- said better\n" + WIDER, features=TWO)
    report = apply(released)
    (change,) = report.plan.changes
    assert change.note == "all 1 features it had are equal in 120 rows of 2020-02, 2020-03"
    build_features(released.domain, "2020-03", settings=released.settings)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (SQL.replace("sum(amount)", "sum(amount + 1)"), "spent in 60 rows of 60"),
        (SQL.replace("< $end", "< $end AND amount < 2"), "24 rows instead of 60"),
        (SQL.replace("placed_at AS known_at", "placed_at + INTERVAL 1 HOUR AS known_at"), "known_at in 60 rows"),
    ],
)
def test_a_change_of_values_under_a_release_is_refused_before_anything_is_built_or_applied(
    released: Store, sql: str, why: str
) -> None:
    released.table(sql)
    (change,) = plan_features(released.domain, settings=released.settings).refused
    assert why in change.refusal
    assert "'spending_v2'" in change.remedy
    for act in (
        lambda: apply(released),
        lambda: apply_features(released.domain, [released.use_case], settings=released.settings),
        lambda: build_features(released.domain, "2020-03", settings=released.settings),
    ):
        with pytest.raises(FeatureError, match="again 1 stands on it"):
            act()
    assert applied.revision(released.settings.registry_url) == 1


def test_what_cannot_be_run_any_more_proves_nothing(released: Store) -> None:
    definitions = applied.applied_definitions(released.settings.registry_url)
    gone = {**definitions["table:spending"], "logic": {"look_back_days": 0, "sources": [], "text": "SELECT 1 AS gone"}}
    applied.record_applied(released.settings.registry_url, {"table:spending": gone}, [], digest="d")
    (change,) = plan_features(released.domain, settings=released.settings).refused
    assert "what was applied does not run any more on 2020-02" in change.refusal


def test_without_a_built_partition_nothing_is_proven(store: Store) -> None:
    apply(store)
    store.release()
    store.table("-- a comment\n" + SQL)
    (change,) = plan_features(store.domain, settings=store.settings).refused
    assert "no partition of it is built" in change.refusal


def test_a_python_table_is_proven_by_its_old_text(released: Store) -> None:
    code = (
        "import pyarrow as pa\nimport pyarrow.compute as pc\n\n\n"
        "def spending(sources, start, end):\n    rows = sources['orders']\n"
        "    at = rows['placed_at']\n    rows = rows.filter(pc.and_(pc.greater_equal(at, start), pc.less(at, end)))\n"
        "    at = rows['placed_at']\n"
        "    return pa.table({'customer': rows['customer'], 'event_timestamp': at, 'known_at': at,"
        " 'spent': rows['amount']})\n"
    )
    file = released.settings.sql_folder / "store" / "spending.py"
    file.write_text(code)
    function = {"sql": None, "function": "store/spending.py:spending", "sources": ["orders"]}
    released.table(**function)
    assert plan_features(released.domain, settings=released.settings).refused
    settings = released.at(f"sqlite:///{released.settings.var / 'other.db'}").settings
    apply_domain(released.domain, settings=settings, actor="ann")
    file.write_text(code.replace("rows['amount']}", "pc.add(rows['amount'], 0.0)}"))
    (change,) = plan_features(released.domain, settings=settings).changes
    assert (change.refusal, "are equal in 120 rows" in change.note) == ("", True)
    file.write_text(code.replace("rows['amount']}", "pc.add(rows['amount'], 1.0)}"))
    assert plan_features(released.domain, settings=settings).refused


def test_a_new_version_stands_beside_the_released_service_and_the_unreleased_one_may_change(released: Store) -> None:
    released.service(row={})
    with pytest.raises(FeatureError, match="'again_v2'"):
        apply(released)
    released.service("again_v2", row={})
    apply(released)
    assert services(released) == ["again_v1", "again_v2"]
    released.service("again_v2", row={"amount": "category"})
    (change,) = apply(released).plan.changes
    assert change.note == "no release stands on it: changed in place"
    released.service("again_v3")
    assert [(item.action, item.name) for item in apply(released).plan.changes] == [
        ("add", "again_v3"),
        ("remove", "again_v2"),
    ]
    assert services(released) == ["again_v1", "again_v3"]


def test_what_somebody_else_did_to_the_registry_is_seen_and_mended(store: Store) -> None:
    from millrace.features.feast_registry import open_store

    apply(store)
    registry = open_store(store.settings).registry
    view = registry.get_feature_view("spending", "millrace")
    view.description = "mine now"
    registry.apply_feature_view(view, "millrace")
    registry.delete_feature_service("again_v1", "millrace")
    report = apply(store)
    assert (report.repaired, report.verified) == (("spending", "again_v1"), 3)
    assert apply(store).verified == 0


def test_an_apply_that_dies_before_its_record_is_done_again_and_stands_once_in_the_ledger(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(feature_registry, "record_applied", die)
        with pytest.raises(KeyboardInterrupt):
            apply(store)
    assert applied.applied_digests(store.settings.registry_url) == {}
    assert apply(store).revision == 1
    assert len(Ledger(store.settings).entries("store")) == 1


def test_an_apply_keeps_what_feast_noted_of_materialization(store: Store) -> None:
    from millrace.features.feast_registry import open_store

    apply(store)
    registry = open_store(store.settings).registry
    view = registry.get_feature_view("spending", "millrace")
    interval = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC))
    registry.apply_materialization(view, "millrace", *interval)
    store.table(ttl_hours=5)
    apply(store)
    registry = open_store(store.settings, revision="2").registry
    found = registry.get_feature_view("spending", "millrace")
    assert (found.ttl.total_seconds(), found.materialization_intervals) == (5 * 3600, [interval])


def test_a_model_is_not_released_on_a_service_that_changed_in_place_since_the_gates_judged_it(store: Store) -> None:
    def judge(package: str) -> None:
        moment = datetime(2020, 4, 1, tzinfo=UTC)
        payload = {"outcome": "pass"}
        Ledger(store.settings).append(
            "gates_evaluated", use_case="again", subject=package, effective_at=moment, actor="system", payload=payload
        )

    apply(store)
    judge("a" * 64)
    require_service_unchanged(store.use_case, "a" * 64, settings=store.settings)
    store.table(description="Better said.")
    store.service("other_v1", use_case="other")
    apply(store)
    require_service_unchanged(store.use_case, "a" * 64, settings=store.settings)
    store.table(ttl_hours=3)
    apply(store)
    with pytest.raises(ReleaseRefusedError, match="table:spending changed in place after the model was trained"):
        require_service_unchanged(store.use_case, "a" * 64, settings=store.settings)
    judge("b" * 64)
    require_service_unchanged(store.use_case, "b" * 64, settings=store.settings)


def apply_one(settings: Settings, use_case: str) -> None:
    from millrace.spec import load_domain, load_use_case

    domain = load_domain(settings.dags, "store")
    apply_features(domain, [load_use_case(settings.dags, use_case)], settings=settings)


def apply_at_once(store: Store, names: list[str]) -> None:
    for name in names:
        store.service(f"{name}_v1", use_case=name)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=apply_one, args=(store.settings, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(names)
    assert services(store) == sorted(f"{name}_v1" for name in names)
    assert set(applied.applied_digests(store.settings.registry_url)) == {
        "table:spending",
        *(f"service:{name}_v1" for name in names),
    }
    assert applied.revision(store.settings.registry_url) == len(names)


@pytest.mark.full
def test_two_applies_at_once_lose_nothing(store: Store) -> None:
    apply_at_once(store, ["again", "once"])
