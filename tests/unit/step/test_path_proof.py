"""Golden rows through both paths when a release goes into service, against a live service."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.deployment.conftest import record, release_of
from tests.unit.features import clean
from tests.unit.serving import sample
from tests.unit.step.skewed import Skewed

from millrace.errors import DeploymentError
from millrace.governance.release import Release
from millrace.serving.repository import read_pointer
from millrace.serving.sampled_row import read_sampled
from millrace.step.deployment import deploy_release, verify_deployment
from millrace.step.features import build_features

MARCH = "2013-04-01T04:00:00Z"


@pytest.fixture(scope="module")
def march(tmp_path_factory: pytest.TempPathFactory) -> Skewed:
    return Skewed.make(tmp_path_factory.mktemp("proof") / "var", sample.ROOT / "dags")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Live:
    house: Skewed
    release: Release

    def verify(self) -> dict[str, Any]:
        return verify_deployment(self.house.spec, settings=self.house.settings)


@pytest.fixture
def live(march: Skewed, tmp_path: Path) -> Iterator[Live]:
    house = march.copy(tmp_path / "var")
    store = Path(str(house.settings.online_store))
    with sample.live_service(house.settings.serving_dir, online_store=store, log=tmp_path / "log") as service:
        settings = dataclasses.replace(house.settings, serving_url=service.url)
        house = dataclasses.replace(house, settings=settings)
        release = record(settings, release_of(house.package, 1, MARCH))
        spec = house.spec.model_copy(
            update={"monitoring": house.spec.monitoring.model_copy(update={"request_sample": 1.0})}
        )
        deploy_release(spec, release, settings=settings)
        yield Live(house=house, release=release)


def test_real_rows_are_the_same_on_both_paths_and_are_no_traffic(live: Live) -> None:
    settings = live.house.settings
    for _ in range(2):
        proof = live.verify()["paths"]
        assert (proof["rows"], proof["reason"], proof["as_of"]) == (50, "", MARCH)
        assert proof["features"] >= 18
        assert proof["max_abs_diff"] <= 1e-6
        # Features of the next partition are there before they are materialized: the same still.
        build_features(live.house.domain, "2013-04", settings=settings)
    assert read_pointer(settings.serving_dir / "flight_delay" / "current.json").request_sample == 1.0
    assert not list(read_sampled(settings.serving_dir, "flight_delay"))


def test_a_value_that_is_not_that_of_the_lake_is_named_with_key_and_both_values(live: Live) -> None:
    before = live.house.plant("carrier_delays", "UA", "carrier_late_share_7d", 0.123)
    with pytest.raises(DeploymentError) as caught:
        live.verify()
    told = caught.value
    assert "feature 'carrier_late_share_7d' of 'carrier_delays' is not the same online and offline" in told.what
    assert f"for carrier='UA' the online store has 0.123, the lake as of {MARCH} has {before!r}" in told.what
    assert "materialization" in told.remedy


def test_a_service_that_reads_another_store_is_found_out(live: Live, tmp_path: Path) -> None:
    settings = live.house.settings
    other = tmp_path / "other.db"
    shutil.copy(str(settings.online_store), other)
    moved = dataclasses.replace(live.house, settings=dataclasses.replace(settings, online_store=other))
    for origin in clean.ORIGINS:
        moved.plant("origin_weather", origin, "temp", -9.0)
        for dest in clean.DESTS:
            moved.plant("route_delays", f"{origin}-{dest}", "route_late_share_28d", -9.0)
    with sample.live_service(settings.serving_dir, online_store=other, log=tmp_path / "second.log") as service:
        wrong = dataclasses.replace(settings, serving_url=service.url)
        with pytest.raises(DeploymentError, match=r"asked by key, the service predicts .* the lake give"):
            verify_deployment(live.house.spec, settings=wrong)


def test_without_a_store_or_rows_nothing_is_compared_and_the_reason_is_told(live: Live, tmp_path: Path) -> None:
    settings = live.house.settings
    nothing = dataclasses.replace(settings, online_store=type(settings.online_store)(tmp_path / "none.db"))
    assert verify_deployment(live.house.spec, settings=nothing)["paths"]["reason"] == "not_materialized"
    elsewhere = dataclasses.replace(settings, lake=str(tmp_path / "empty"))
    assert verify_deployment(live.house.spec, settings=elsewhere)["paths"]["reason"] == "no_rows"


def test_a_view_that_is_not_materialized_stops_the_release(live: Live) -> None:
    from millrace.online.address import open_writer

    open_writer(str(live.house.settings.online_store)).forget("route_delays")
    with pytest.raises(DeploymentError, match="looks up route_delays, which the online store does not hold"):
        live.verify()
