"""Scoring on real tables and real Feast, and the service's answers beside it: batch and online must be one model."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from tests.unit.deployment.conftest import record, release_of
from tests.unit.features import clean
from tests.unit.serving import sample

from millrace.errors import FeatureError, LakeConflictError, PackageError, ReleaseRefusedError
from millrace.lake import Table
from millrace.package import Package
from millrace.serving.app import InferenceApp
from millrace.serving.repository import Repository
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.feature_registry import apply_features
from millrace.step.features import build_features
from millrace.step.materialization import materialize_features
from millrace.step.retrieval import entity_rows, historical_features
from millrace.step.scoring import score_partition

MARCH, APRIL = "2013-03-01T05:00:00Z", "2013-04-01T04:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    settings: Settings
    spec: UseCaseSpec
    domain: DomainSpec
    packages: list[Package]

    def score(self, partition: str, **changes: Any) -> Any:
        spec = self.spec.model_copy(update=changes)
        return score_partition(spec, self.domain, partition, settings=self.settings)

    def log(self) -> pa.Table:
        rows = Table(self.settings.lake, "flight_delay/predictions").read()
        return rows.sort_by([(name, "ascending") for name in ("role", "event_timestamp", "key", "recorded_at")])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, UseCaseSpec, DomainSpec]:
    """Clean tables, features of four months, and an online store that stands at the end of April."""
    var = tmp_path_factory.mktemp("built")
    settings = Settings.load({"MILLRACE_ROOT": str(sample.ROOT), "MILLRACE_VAR": str(var)})
    spec, domain = sample.use_case(), sample.domain()
    clean.write_clean(domain, settings.lake, clean.raw_all())
    apply_features(domain, [spec], settings=settings)
    for partition in clean.PARTITIONS:
        build_features(domain, partition, settings=settings)
    materialize_features(domain, clean.PARTITIONS[-1], settings=settings)
    return settings, spec, domain


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Package]:
    store = tmp_path_factory.mktemp("packages")
    return [sample.seal(store, sample.use_case(rounds=rounds)) for rounds in (20, 5)]


@pytest.fixture
def house(
    built: tuple[Settings, UseCaseSpec, DomainSpec], packages: list[Package], settings: Settings
) -> Iterator[House]:
    """The built tables with a ledger of the test's own; what scoring wrote is dropped afterwards."""
    base, spec, domain = built
    mine = dataclasses.replace(base, packages=packages[0].folder.parent, state_url=settings.state_url)
    house = House(settings=mine, spec=spec, domain=domain, packages=packages)
    yield house
    for name in ("predictions", "scored_features"):
        if (path := Path(mine.lake) / "flight_delay" / name).exists():
            path.rename(path.with_name(f"{name}-{uuid.uuid4().hex}"))


@pytest.fixture
def released(house: House) -> House:
    record(house.settings, release_of(house.packages[0], 1, MARCH))
    record(house.settings, release_of(house.packages[1], 2, APRIL))
    return house


def test_without_a_release_nothing_is_scored_and_the_reason_is_told(released: House) -> None:
    report = released.score("2013-02")
    assert (report.reason, report.rows, report.changed) == ("no_release", 0, False)
    assert not Table(released.settings.lake, "flight_delay/predictions").exists()
    assert not Table(released.settings.lake, released.spec.service_table("scored_features")).exists()


def test_a_release_that_is_not_proven_scores_nothing(house: House) -> None:
    made = record(house.settings, release_of(house.packages[0], 1, MARCH))
    evidence = house.settings.var / "evidence" / f"{made.evidence}.json"
    evidence.write_bytes(evidence.read_bytes() + b" ")
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        house.score("2013-03")
    assert not Table(house.settings.lake, "flight_delay/predictions").exists()
    evidence.unlink()


def test_a_partition_is_scored_by_the_release_in_force_when_it_began(released: House) -> None:
    report = released.score("2013-03")
    assert (report.release, report.shadow_release, report.reason, report.changed) == (1, 0, "", True)
    entities = entity_rows(released.spec, released.domain, "2013-03", released.settings)
    log, package = released.log(), released.packages[0]
    assert log.num_rows == entities.num_rows == report.rows
    assert log.column("key").to_pylist() == entities.column("key").to_pylist()
    joined = historical_features(released.spec, released.domain, entities, settings=released.settings)
    expected = package.predictor().predict({name: joined.column(name) for name in package.features.columns})
    np.testing.assert_array_equal(log.column("prediction").to_numpy(), expected)
    assert set(log.column("package").to_pylist()) == {package.digest}
    assert set(log.column("feature_snapshot").to_pylist()) == {report.feature_snapshot}
    features = Table(released.settings.lake, released.spec.service_table("scored_features")).read(
        partitions=["2013-03"]
    )
    assert features.column_names == ["key", "event_timestamp", *released.spec.features.columns, "partition"]
    noted = Table(released.settings.lake, released.spec.service_table("scored_features")).note("2013-03")
    clean = Table(released.settings.lake, released.domain.clean_table("flights")).note("2013-03")
    assert noted is not None
    assert clean is not None
    assert noted[1] == {"clean.flights": str(clean[0].version)}
    assert len(str(report.to_dict())) < 4096


def test_the_first_release_is_scored_along_where_another_one_is_live(released: House) -> None:
    report = released.score("2013-04")
    assert (report.release, report.shadow_release) == (2, 1)
    log = released.log()
    assert log.num_rows == 2 * report.rows
    pairs = {(row["role"], row["release"]) for row in log.select(["role", "release"]).to_pylist()}
    assert pairs == {("live", 2), ("shadow", 1)}
    quiet = released.spec.monitoring.model_copy(update={"shadow_first": False})
    again = released.score("2013-04", monitoring=quiet)
    assert (again.shadow_release, again.changed) == (0, False)


def test_scoring_again_changes_nothing(released: House) -> None:
    first = released.score("2013-04")
    before = released.log()
    again = released.score("2013-04")
    assert again.changed is False
    assert released.log().equals(before)
    plain = {**first.to_dict(), "changed": False}
    for ref in (plain["features"], *plain["predictions"]):
        ref["changed"] = False
    found = again.to_dict()
    for ref in (*plain["predictions"], *found["predictions"]):
        ref.pop("version")
    assert found == plain


def test_a_run_that_died_between_the_roles_is_completed(released: House, monkeypatch: pytest.MonkeyPatch) -> None:
    append, calls = Table.append, []

    def die_on_the_second(self: Table, rows: pa.Table, **arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise LakeConflictError("killed")
        return append(self, rows, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "append", die_on_the_second)
        with pytest.raises(LakeConflictError):
            released.score("2013-04")
    report = released.score("2013-04")
    assert released.log().num_rows == 2 * report.rows


def test_a_package_that_is_gone_stops_scoring_before_anything_is_written(house: House) -> None:
    record(house.settings, release_of(house.packages[0], 1, MARCH, package="f" * 64))
    with pytest.raises(PackageError):
        house.score("2013-03")
    for name in (house.spec.table("predictions"), house.spec.service_table("scored_features")):
        assert not Table(house.settings.lake, name).exists()


def moved_on(house: House) -> UseCaseSpec:
    """The use case as its YAML reads after somebody made the next version of its service."""
    old = house.spec.features
    views = {name: features[:1] for name, features in list(old.views.items())[:2]}
    columns = {*old.row, *(name for features in views.values() for name in features)}
    kept = [name for name in old.categorical if name in columns]
    features = {"name": "flight_delay_v9", "views": views, "row": old.row, "on_demand": {}, "categorical": kept}
    return house.spec.model_copy(update={"features": old.model_copy(update=features)})


def test_a_release_goes_on_with_the_features_it_was_made_on_after_the_yaml_moved_on(released: House) -> None:
    before = released.score("2013-03")
    scores = released.log()
    after = score_partition(moved_on(released), released.domain, "2013-03", settings=released.settings)
    assert (after.changed, after.feature_snapshot) == (False, before.feature_snapshot)
    assert released.log().equals(scores)
    april = score_partition(moved_on(released), released.domain, "2013-04", settings=released.settings)
    assert (april.release, april.shadow_release, april.features.table) == (2, 1, before.features.table)


def test_live_and_shadow_each_read_their_own_service(released: House) -> None:
    spec = moved_on(released)
    newer = sample.seal(released.packages[0].folder.parent, spec)
    record(released.settings, release_of(newer, 3, APRIL))
    report = dataclasses.replace(released, spec=spec).score("2013-04")
    assert (report.release, report.shadow_release) == (3, 1)
    rows = {
        name: Table(released.settings.lake, f"flight_delay/scored_features/{name}").read(partitions=["2013-04"])
        for name in (released.spec.features.name, "flight_delay_v9")
    }
    assert rows["flight_delay_v9"].column_names == ["key", "event_timestamp", *spec.features.columns, "partition"]
    log = {row["key"]: row for row in released.log().to_pylist() if row["role"] == "shadow"}
    package = released.packages[0]
    old = rows[released.spec.features.name]
    expected = package.predictor().predict({name: old.column(name) for name in package.features.columns})
    assert [log[key]["prediction"] for key in old.column("key").to_pylist()] == expected.tolist()


def test_a_champion_on_an_older_service_is_measured_on_the_same_rows_with_its_own_features(released: House) -> None:
    from millrace.evaluation.holdout import make_holdout
    from millrace.step.comparison import open_champion
    from millrace.step.released import rows_of_package, spec_of

    spec, domain, settings = moved_on(released), released.domain, released.settings
    entities = entity_rows(spec, domain, "2013-04", settings)
    labelled = entities.filter(entities.column("label").is_valid())
    rows = labelled.append_column("partition", pa.array(["2013-04"] * labelled.num_rows))
    holdout = make_holdout(spec, domain, rows, "2013-04")
    champion, reason = open_champion(spec, domain, release_of(released.packages[0], 1, MARCH), holdout, settings)
    assert (reason, champion.features) == ("", released.packages[0].features.columns)
    package = released.packages[0]
    own = rows_of_package(spec_of(spec, package), domain, "2013-04", package, settings=settings)
    predicted = package.predictor().predict({name: own.column(name) for name in package.features.columns})
    by_key = dict(zip(own.column("key").to_pylist(), predicted.tolist(), strict=True))
    assert champion.prediction.tolist() == [by_key[key] for key in holdout.table.column("key").to_pylist()]
    assert len(champion.prediction) == len(holdout.label)


def test_a_registry_that_was_lost_is_made_anew_but_not_with_another_service_under_a_released_name(
    released: House, tmp_path: Path
) -> None:
    lost = dataclasses.replace(released.settings, registry_url=f"sqlite:///{tmp_path / 'new.db'}")
    name = released.spec.features.name
    other = moved_on(released)
    other = other.model_copy(update={"features": other.features.model_copy(update={"name": name})})
    with pytest.raises(FeatureError, match=f"{name} may not be changed: releases flight_delay 1, flight_delay 2 stand"):
        apply_features(released.domain, [other], settings=lost)
    apply_features(released.domain, [released.spec], settings=lost)
    with pytest.raises(FeatureError, match="flight_delay_v"):
        apply_features(released.domain, [other], settings=lost)


def _answers(house: House, rows: pa.Table, names: list[str], folder: Path) -> tuple[list[float], dict[str, Any]]:
    """One real request a row, of one release, through the application."""
    sample.point(folder, house.packages[1], release=2)
    repository = Repository(folder, house.settings.online_store)
    repository.load("flight_delay")
    app = InferenceApp(repository)

    async def ask() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            found = []
            for place in range(rows.num_rows):
                body = {"inputs": sample.v2_inputs(house.spec, rows.slice(place, 1), names)}
                found.append((await client.post("/v2/models/flight_delay/infer", json=body)).json())
            return found

    answers = asyncio.run(ask())
    return [answer["outputs"][0]["data"][0] for answer in answers], answers[-1]["parameters"]


def test_full_vectors_are_answered_online_as_they_were_scored_in_batch(released: House, tmp_path: Path) -> None:
    released.score("2013-04")
    features = Table(released.settings.lake, released.spec.service_table("scored_features")).read(
        partitions=["2013-04"]
    )
    live = released.log().filter(pa.compute.equal(released.log().column("role"), "live"))
    batch = dict(zip(live.column("key").to_pylist(), live.column("prediction").to_pylist(), strict=True))
    chosen = features.slice(0, 60)
    answers, told = _answers(released, chosen, released.spec.features.columns, tmp_path)
    assert answers == [batch[key] for key in chosen.column("key").to_pylist()]
    assert told["feature_source"] == "request"


def test_keys_are_answered_online_as_rows_scored_offline_at_the_high_water_mark(
    released: House, tmp_path: Path
) -> None:
    entities = entity_rows(released.spec, released.domain, "2013-04", released.settings).slice(0, 60)
    names = sample.key_names(released.packages[1])
    answers, told = _answers(released, entities, names, tmp_path)
    mark = datetime.fromisoformat(told["high_water_mark"])
    assert mark == released.domain.partition("2013-04").end == datetime(2013, 5, 1, 4, tzinfo=UTC)
    place = entities.column_names.index("event_timestamp")
    when = pa.array([mark] * entities.num_rows, pa.timestamp("us", "UTC"))
    at_mark = entities.set_column(place, "event_timestamp", when)
    joined = historical_features(released.spec, released.domain, at_mark, settings=released.settings)
    package = released.packages[1]
    offline = package.predictor().predict({name: joined.column(name) for name in package.features.columns})
    assert answers == offline.tolist()
    assert told["feature_source"] == "online"
