"""The steps of features through Feast's own SDK, on a small New York."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from tests.unit.features import clean

from millrace.errors import FeatureError
from millrace.lake import Table
from millrace.online import open_reader
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain, load_use_case
from millrace.step.feature_registry import apply_features
from millrace.step.features import build_features, check_features, feature_snapshot
from millrace.step.materialization import materialize_features
from millrace.step.retrieval import entity_rows, historical_features, join_keys, online_features

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """An installation with the features of four months built and those of January materialized."""
    base = tmp_path_factory.mktemp("features")
    shutil.copytree(ROOT / "dags", base / "dags", ignore=shutil.ignore_patterns("flight*.py", "__pycache__"))
    settings = Settings.load(
        {"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(base / "var"), "MILLRACE_DAGS": str(base / "dags")}
    )
    domain = load_domain(settings.dags, "flights")
    clean.write_clean(domain, settings.lake, clean.raw_all())
    for partition in clean.PARTITIONS:
        build_features(domain, partition, settings=settings)
    apply_features(domain, [load_use_case(settings.dags, name) for name in ("flight_delay",)], settings=settings)
    yield settings


@pytest.fixture(scope="module")
def domain(installation: Settings) -> DomainSpec:
    return load_domain(installation.dags, "flights")


@pytest.fixture(scope="module")
def use_case(installation: Settings) -> UseCaseSpec:
    return load_use_case(installation.dags, "flight_delay")


@pytest.fixture(scope="module")
def entities(installation: Settings, domain: DomainSpec, use_case: UseCaseSpec) -> pa.Table:
    return entity_rows(use_case, domain, "2013-03", installation)


@pytest.fixture
def fresh(installation: Settings, tmp_path: Path) -> Settings:
    """The same lake with an online store and a registry of the test's own."""
    return replace(
        installation, online_store=str(tmp_path / "online.db"), registry_url=f"sqlite:///{tmp_path / 'registry.db'}"
    )


def brute_force(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings, row: dict[str, Any]) -> dict[str, Any]:
    """What the row should get: for each view the newest fact that had happened and was known, within its TTL."""
    found: dict[str, Any] = {}
    for view, features in use_case.features.views.items():
        table = domain.feature_tables[view]
        at, own = row["event_timestamp"], tuple(row[key] for key in table.entities)
        facts = facts_of(settings, domain.name, view, tuple(table.entities)).get(own, [])
        usable = [fact for fact in facts if max(fact["event_timestamp"], fact["known_at"]) <= at]
        best = max(usable, key=lambda fact: (fact["event_timestamp"], fact["known_at"]), default=None)
        if best is not None and table.ttl_hours and at - best["event_timestamp"] > timedelta(hours=table.ttl_hours):
            best = None
        found |= {name: best[name] if best else None for name in features}
    return found


@functools.cache
def facts_of(settings: Settings, domain_name: str, view: str, keys: tuple[str, ...]) -> dict[Any, list[dict[str, Any]]]:
    """Facts of a view by key."""
    found: dict[Any, list[dict[str, Any]]] = {}
    for fact in Table(settings.lake, f"{domain_name}/features/{view}").read().to_pylist():
        found.setdefault(tuple(fact[key] for key in keys), []).append(fact)
    return found


def test_entity_rows_are_the_clean_rows_as_the_use_case_sees_them(
    installation: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    flights = Table(installation.lake, domain.clean_table("flights")).read(partitions=["2013-03"])
    assert entities.num_rows == flights.num_rows
    assert entities.column_names[:2] == ["key", "event_timestamp"]
    assert set(join_keys(use_case, domain)) | set(use_case.features.row) < set(entities.column_names)
    labels = {row["flight_id"]: row["arr_delay"] for row in flights.to_pylist()}
    for row in entities.to_pylist():
        delay = labels[row["key"]]
        assert row["label"] == (None if delay is None else float(delay > 15))
    assert entities.schema.field("distance").type == pa.float64()
    assert entities.schema.field("event_timestamp").type == pa.timestamp("us", "UTC")
    assert entities.column("event_timestamp").to_pylist() == sorted(entities.column("event_timestamp").to_pylist())


def test_history_equals_a_brute_force_join_row_by_row_with_order_and_duplicates_kept(
    installation: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    some = entities.take(pa.array([5, 5, 300, 2, *range(400, 500, 7), 5]))
    found = historical_features(use_case, domain, some, settings=installation)
    assert found.select(some.column_names).equals(some)
    for row in found.to_pylist():
        wanted = brute_force(use_case, domain, installation, row)
        assert {name: row[name] for name in wanted} == wanted
    assert set(use_case.features.columns) < set(found.column_names)


def test_feast_gives_the_same_for_a_pandas_frame_and_for_full_names(
    installation: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    from millrace.features.feast_registry import open_store

    some = entities.slice(100, 30)
    ours = historical_features(use_case, domain, some, settings=installation)
    store = open_store(installation)
    frame = some.select(["key", "event_timestamp", "carrier"]).to_pandas()
    refs = ["carrier_delays:carrier_late_share_7d"]
    theirs = store.get_historical_features(frame, refs, full_feature_names=True).to_df()
    assert theirs["key"].tolist() == some.column("key").to_pylist()
    expected = ours.column("carrier_late_share_7d").to_pandas()
    pd.testing.assert_series_equal(theirs["carrier_delays__carrier_late_share_7d"], expected, check_names=False)


def test_an_empty_entity_frame_gets_empty_columns(
    installation: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    found = historical_features(use_case, domain, entities.slice(0, 0), settings=installation)
    assert found.num_rows == 0
    assert set(use_case.features.columns) < set(found.column_names)


def test_bad_entity_frames_are_refused_before_any_work(
    installation: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    place = entities.column_names.index("event_timestamp")
    naive = entities.set_column(place, "event_timestamp", entities.column("event_timestamp").cast(pa.timestamp("us")))
    with pytest.raises(FeatureError, match="with their time zone"):
        historical_features(use_case, domain, naive, settings=installation)
    with pytest.raises(FeatureError, match="'tailnum'"):
        historical_features(use_case, domain, entities.drop("tailnum"), settings=installation)
    with pytest.raises(FeatureError, match="'event_timestamp'"):
        historical_features(use_case, domain, entities.drop("event_timestamp"), settings=installation)
    hidden = entities.append_column("temp", entities.column("label"))
    with pytest.raises(FeatureError, match="already a column"):
        historical_features(use_case, domain, hidden, settings=installation)


def test_the_online_store_answers_like_history_as_of_its_high_water_mark(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table
) -> None:
    report = materialize_features(domain, "2013-04", settings=fresh)
    end = domain.partition("2013-04").end
    assert {view.high_water_mark for view in report.views} == {"2013-05-01T04:00:00Z"}
    assert {view.view: view.rows for view in report.views}["origin_weather"] == 3
    keys = entities.take(pa.array([*range(0, 600, 11), 0])).drop("event_timestamp")
    keys = keys.append_column("event_timestamp", pa.array([end] * keys.num_rows, pa.timestamp("us", "UTC")))
    assert keys.column("tailnum").null_count
    offline = historical_features(use_case, domain, keys, settings=fresh)
    online = online_features(use_case, domain, keys, settings=fresh)
    reader = open_reader(fresh.online_store)
    for view, features in use_case.features.views.items():
        own = list(zip(*(keys.column(key).to_pylist() for key in domain.feature_tables[view].entities), strict=True))
        rows = reader.read(view, own, features)
        for index, name in enumerate(features):
            assert online.column(name).to_pylist() == offline.column(name).to_pylist(), name
            assert [row[index] for row in rows] == offline.column(name).to_pylist(), name
        assert reader.high_water_mark(view) == end


def test_materializing_again_or_an_older_month_changes_nothing(fresh: Settings, domain: DomainSpec) -> None:
    def content() -> dict[str, Any]:
        reader = open_reader(fresh.online_store)
        keys = {"carrier_delays": clean.CARRIERS, "origin_weather": clean.ORIGINS}
        return {view: reader.read_rows(view, [(key,) for key in names]) for view, names in keys.items()}

    first = materialize_features(domain, "2013-04", settings=fresh)
    before = content()
    again = materialize_features(domain, "2013-04", settings=fresh)
    assert {view.offered for view in again.views} == {0}
    assert [(view.view, view.rows, view.high_water_mark) for view in again.views] == [
        (view.view, view.rows, view.high_water_mark) for view in first.views
    ]
    assert content() == before
    materialize_features(domain, "2013-02", settings=fresh)
    assert content() == before


def test_feast_materializes_pushes_and_reads_unchanged(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec
) -> None:
    from millrace.features.feast_registry import open_store

    revision = apply_features(domain, [use_case], settings=fresh)
    store = open_store(fresh, revision=revision)
    end = domain.partition("2013-03").end
    store.materialize(end - timedelta(days=10), end)
    refs = ["carrier_delays:carrier_late_share_7d", "planes:plane_year"]
    asked = {"carrier": ["UA", "ZZ"], "tailnum": ["N110", "N110"]}
    answer = store.get_online_features(features=refs, entity_rows=asked).to_dict()
    facts = Table(fresh.lake, "flights/features/carrier_delays").read(partitions=["2013-03"]).to_pylist()
    last = max((fact for fact in facts if fact["carrier"] == "UA"), key=lambda fact: fact["event_timestamp"])
    assert answer["carrier_late_share_7d"] == [last["carrier_late_share_7d"], None]
    assert answer["plane_year"] == [None, None], "a fact older than the start of the range is not materialized"
    later = datetime(2013, 4, 1, 12, tzinfo=UTC)
    row = {name: [0.5] for name in domain.feature_tables["carrier_delays"].features}
    frame = pd.DataFrame({"carrier": ["UA"], "event_timestamp": [later], "known_at": [later], **row})
    store.write_to_online_store("carrier_delays", frame)
    store.write_to_online_store("carrier_delays", frame.assign(event_timestamp=end, carrier_late_share_7d=9.0))
    answer = store.get_online_features(features=refs, entity_rows=asked).to_dict()
    assert answer["carrier_late_share_7d"][0] == 0.5, "an older row must not overwrite a newer one"


def test_applying_again_costs_nothing_and_a_service_that_nobody_released_changes_in_place(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import millrace.features.feast_registry as registry

    digest = apply_features(domain, [use_case], settings=fresh)
    duration = load_use_case(fresh.dags, "flight_duration")
    assert apply_features(domain, [duration], settings=fresh) != digest
    with monkeypatch.context() as patched:
        patched.delattr(registry, "apply_definitions")
        assert apply_features(domain, [use_case], settings=fresh) == digest
    services = registry.open_store(fresh, revision="both").list_feature_services()
    assert {service.name for service in services} == {"flight_delay_v2", "flight_duration_v2"}
    assert all(service.owner == "admin" and service.description for service in services)
    fewer = use_case.features.model_copy(update={"views": {"origin_weather": ["temp"]}})
    apply_features(domain, [use_case.model_copy(update={"features": fewer})], settings=fresh)
    found = registry.open_store(fresh, revision="fewer").get_feature_service(fewer.name)
    assert [item.name for item in found.feature_view_projections if item.name in domain.feature_tables] == [
        "origin_weather"
    ]


def test_a_view_of_another_domain_is_not_taken_over(fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec) -> None:
    apply_features(domain, [use_case], settings=fresh)
    with pytest.raises(FeatureError, match="belongs to domain 'flights'"):
        apply_features(domain.model_copy(update={"name": "trains"}), [], settings=fresh)


def test_a_service_that_names_what_is_not_there_is_refused(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec
) -> None:
    wrong = use_case.features.model_copy(update={"name": "wrong_v1", "views": {"origin_weather": ["tmp"]}})
    with pytest.raises(FeatureError, match="no feature 'tmp'"):
        apply_features(domain, [use_case.model_copy(update={"features": wrong})], settings=fresh)
    assert check_features(domain, use_case, settings=fresh) == []


def test_the_snapshot_names_content_and_can_stop_at_a_partition(installation: Settings, domain: DomainSpec) -> None:
    whole = feature_snapshot(domain, installation)
    assert whole == feature_snapshot(domain, installation)
    assert feature_snapshot(domain, installation, through="2013-02") != whole
    assert feature_snapshot(domain, installation, through="2013-04") == whole


def test_features_that_were_never_built_are_asked_for_with_a_remedy(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec, entities: pa.Table, tmp_path: Path
) -> None:
    bare = replace(fresh, lake=str(tmp_path / "empty lake"))
    for step in (
        lambda: historical_features(use_case, domain, entities, settings=bare),
        lambda: materialize_features(domain, "2013-01", settings=bare),
        lambda: build_features(domain, "2013-01", settings=bare),
        lambda: entity_rows(use_case, domain, "2013-01", bare),
    ):
        with pytest.raises(FeatureError) as caught:
            step()
        assert caught.value.remedy


@pytest.mark.full
def test_feasts_own_command_line_works_on_the_repository(
    fresh: Settings, domain: DomainSpec, use_case: UseCaseSpec
) -> None:
    apply_features(domain, [use_case], settings=fresh)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "include"),
        "MILLRACE_REGISTRY_URL": fresh.registry_url,
        "MILLRACE_LAKE": fresh.lake,
        "MILLRACE_ONLINE_STORE": str(fresh.online_store),
        "MILLRACE_DAGS": str(fresh.dags),
    }
    feast = [str(Path(sys.executable).with_name("feast")), "-c", str(ROOT / "feature_repo")]
    listed = subprocess.run(
        [*feast, "feature-views", "list"], env=environment, capture_output=True, text=True, check=True
    )
    assert "carrier_delays" in listed.stdout
    subprocess.run([*feast, "apply"], env=environment, capture_output=True, text=True, check=True)
    listed = subprocess.run(
        [*feast, "feature-services", "list"], env=environment, capture_output=True, text=True, check=True
    )
    assert "flight_duration_v2" in listed.stdout
    moments = ["2013-03-20T00:00:00", "2013-04-01T04:00:00"]
    subprocess.run([*feast, "materialize", *moments], env=environment, capture_output=True, text=True, check=True)
    assert (
        open_reader(fresh.online_store).read("carrier_delays", [("UA",)], ["carrier_late_share_7d"])[0][0] is not None
    )
