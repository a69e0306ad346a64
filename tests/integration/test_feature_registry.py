"""The feature registry on PostgreSQL: the same rules, and applies of several processes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.step import store as stores
from tests.unit.step.store import SQL, Store
from tests.unit.step.test_feature_registry import TWO, WIDER, apply, apply_at_once, services

from millrace.features import applied
from millrace.governance.ledger import Ledger
from millrace.settings import Settings
from millrace.step.feature_registry import plan_features
from millrace.step.features import build_features

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path: Path, settings: Settings, postgres_schema_url: str) -> Store:
    return stores.make(tmp_path / "store", settings).at(postgres_schema_url)


def test_a_registry_on_postgresql_is_applied_to_proven_for_and_guarded(store: Store) -> None:
    assert apply(store).verified == 3
    assert apply(store).verified == 0
    store.clean()
    build_features(store.domain, "2020-03", settings=store.settings)
    store.release()
    store.table(SQL.replace("sum(", "2 * sum("))
    assert plan_features(store.domain, settings=store.settings).refused
    store.table(WIDER, features=TWO)
    assert apply(store).revision == 2
    store.service("again_v2")
    apply(store)
    assert services(store) == ["again_v1", "again_v2"]
    assert len(Ledger(store.settings).entries("store")) == 3


@pytest.mark.full
def test_applies_of_four_processes_at_once_lose_nothing(store: Store) -> None:
    apply_at_once(store, ["again", "once", "rarely", "never"])
    assert applied.revision(store.settings.registry_url) == 4
