from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from tests.unit.deployment.conftest import House, house, record, release_of, sealed

from millrace.deployment.pointer import pointer_path
from millrace.errors import DeploymentError, PackageError, ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.rollback import Rollback, restore
from millrace.serving.repository import read_pointer
from millrace.settings import Settings
from millrace.step.deployment import deploy_release, verify_deployment

__all__ = ["house", "sealed"]
MARCH, APRIL = "2013-04-01T04:00:00Z", "2013-05-01T04:00:00Z"


def test_the_release_in_force_is_deployed_proven_and_superseded_ones_are_told(house: House) -> None:
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    told = deploy_release(house.spec, one, settings=house.settings)
    assert (told["release"], told["changed"], told["superseded"]) == (1, True, 0)
    again = deploy_release(house.spec, one, settings=house.settings)
    assert again == {**told, "changed": False}
    proof = verify_deployment(house.spec, settings=house.settings)
    assert (proof["release"], proof["package"]) == (1, one.package)
    assert proof["rows"] >= 20
    assert proof["max_abs_diff"] <= 1e-6

    two = record(house.settings, release_of(house.packages[1], 2, APRIL))
    with pytest.raises(DeploymentError, match=r"release 1 .* answers, in force is 2"):
        verify_deployment(house.spec, settings=house.settings)
    late = deploy_release(house.spec, one, settings=house.settings)
    assert (late["release"], late["superseded"], late["package"]) == (2, 1, two.package)
    assert verify_deployment(house.spec, settings=house.settings)["release"] == 2


def test_each_move_of_the_champion_is_one_deployment_in_the_ledger_with_a_name(house: House) -> None:
    ledger = Ledger(house.settings)
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    for actor in ("olive", "paul"):
        deploy_release(house.spec, one, settings=house.settings, actor=actor)
    two = record(house.settings, release_of(house.packages[1], 2, APRIL, replaces=1))
    deploy_release(house.spec, two, settings=house.settings)
    restore(
        house.settings,
        house.spec,
        Rollback(version=None, reason="slow", actor="oncall", key="k"),
    )
    for _ in range(2):
        deploy_release(house.spec, one, settings=house.settings, actor="oncall")
    moves = {entry.seq: entry.kind for entry in ledger.entries(kinds=("released", "rolled_back"))}
    told = [
        (entry.payload["version"], entry.actor, moves[entry.payload["put_in_force_by"]])
        for entry in ledger.entries(kinds=("deployed",))
    ]
    assert told == [(1, "olive", "released"), (2, "system", "released"), (1, "oncall", "rolled_back")]
    assert ledger.verify().verified


def test_what_is_not_proven_is_not_pointed_at(house: House) -> None:
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    deploy_release(house.spec, one, settings=house.settings)
    two = record(house.settings, release_of(house.packages[1], 2, APRIL, replaces=1))
    (house.settings.var / "evidence" / f"{two.evidence}.json").write_text("{}")
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        deploy_release(house.spec, two, settings=house.settings)
    assert read_pointer(pointer_path(house.settings.serving_dir, "flight_delay")).release == 1
    assert [entry.payload["version"] for entry in Ledger(house.settings).entries(kinds=("deployed",))] == [1]
    with pytest.raises(ReleaseRefusedError, match="cannot be had"):
        verify_deployment(house.spec, settings=house.settings)


def test_a_damaged_package_is_refused_before_anything_points_at_it(house: House, tmp_path: Path) -> None:
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    deploy_release(house.spec, one, settings=house.settings)
    store = tmp_path / "damaged"
    shutil.copytree(house.packages[1].folder, store / house.packages[1].digest)
    model = store / house.packages[1].digest / house.packages[1].manifest.model.name
    model.write_bytes(model.read_bytes() + b"\0")
    record(house.settings, release_of(house.packages[1], 2, APRIL))
    with pytest.raises(PackageError):
        deploy_release(house.spec, one, settings=dataclasses.replace(house.settings, packages=store))
    assert read_pointer(pointer_path(house.settings.serving_dir, "flight_delay")).release == 1


def test_a_service_of_another_folder_or_token_is_not_believed(house: House, tmp_path: Path) -> None:
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    other = dataclasses.replace(house.settings, serving_dir=tmp_path / "elsewhere")
    with pytest.raises(DeploymentError, match="404"):
        deploy_release(house.spec, one, settings=other)
    stranger = dataclasses.replace(house.settings, serving_token="guessed")
    with pytest.raises(DeploymentError, match="401"):
        deploy_release(house.spec, one, settings=stranger)


def test_without_a_service_the_pointer_is_written_and_the_rest_is_pending(house: House) -> None:
    one = record(house.settings, release_of(house.packages[0], 1, MARCH))
    house.live.process.terminate()
    house.live.process.wait(120)
    with pytest.raises(DeploymentError, match="release 1 of 'flight_delay' is pending") as caught:
        deploy_release(house.spec, one, settings=house.settings)
    assert caught.value.retryable
    assert read_pointer(pointer_path(house.settings.serving_dir, "flight_delay")).release == 1
    assert [item.name for item in house.settings.serving_dir.iterdir()] == ["flight_delay"]


def test_nothing_released_is_nothing_deployed(settings: Settings, sealed: tuple) -> None:
    spec, _, packages = sealed
    with pytest.raises(ReleaseRefusedError, match="no release of 'flight_delay' is in force"):
        deploy_release(spec, release_of(packages[0], 1, MARCH), settings=settings)
    assert not pointer_path(settings.serving_dir, "flight_delay").exists()


def test_the_service_is_told_what_it_may_keep_of_requests(house: House) -> None:
    specs = house.settings.dags / "domains" / "flights.yaml"
    plain = specs.read_text()
    specs.write_text(plain.replace("    key: [tailnum]\n", "    key: [tailnum]\n    pii: {tailnum: tokenise}\n"))
    deploy_release(house.spec, record(house.settings, release_of(house.packages[0], 1, MARCH)), settings=house.settings)
    pointer = read_pointer(pointer_path(house.settings.serving_dir, "flight_delay"))
    assert pointer.personal == ["tailnum"]
    assert pointer.request_sample == house.spec.monitoring.request_sample == 0.01
