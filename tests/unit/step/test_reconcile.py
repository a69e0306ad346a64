from __future__ import annotations

import dataclasses
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import update
from tests.unit.deployment.conftest import House, house, release_of, sealed
from tests.unit.deployment.test_httpx_client import service
from tests.unit.governance.proposal import record_proven
from tests.unit.step.champion import Champions, champions, put_two_in_service

from millrace.artifact import ReleaseRef
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.pointer import pointer_path, write_pointer
from millrace.errors import DeploymentError, ReleaseRefusedError, StateUnavailableError
from millrace.governance.ledger import Ledger
from millrace.governance.release import Release
from millrace.governance.rollback import Rollback, restore
from millrace.governance.state import RELEASE, writing
from millrace.registry.mlflow_alias import delete_alias, get_aliases, set_alias
from millrace.registry.mlflow_client import connect
from millrace.serving.repository import read_pointer
from millrace.settings import Settings
from millrace.spec import load_use_case
from millrace.step.deployment import deploy_release, reference_of
from millrace.step.reconcile import PENDING, ReconcileReport, reconcile_registry

__all__ = ["champions", "house", "sealed"]
JUNE = "2013-07-01T04:00:00Z"


@pytest.fixture
def releases(house: House, tmp_path: Path) -> list[Release]:
    return put_two_in_service(house, tmp_path)


def reconcile(house: House | Champions, key: str = "run 1", *, after: timedelta = timedelta()) -> ReconcileReport:
    return reconcile_registry(house.spec, settings=house.settings, key=key, at=datetime.now(UTC) + after)


def aliases(house: House | Champions) -> dict[str, int]:
    return get_aliases("flight_delay", settings=house.settings)


def pointed(house: House | Champions) -> ReleaseRef:
    return read_pointer(pointer_path(house.settings.serving_dir, "flight_delay"))


def served(house: House) -> list[str]:
    return list(ServiceClient(url=house.settings.serving_url).metadata("flight_delay")["versions"])


def test_where_all_names_what_the_ledger_says_nothing_is_written(house: House, releases: list[Release]) -> None:
    head = Ledger(house.settings).head()
    assert reconcile(house) == ReconcileReport(use_case="flight_delay")
    assert Ledger(house.settings).head() == head


def test_an_alias_moved_by_hand_is_recorded_told_and_put_back_once(champions: Champions) -> None:
    set_alias("flight_delay", "champion", 1, settings=champions.settings)
    told = reconcile(champions)
    assert aliases(champions) == {"challenger": 2, "champion": 2}
    entry = Ledger(champions.settings).entries("flight_delay")[-1]
    assert (entry.kind, entry.actor, entry.subject) == ("alias_corrected", "system", "champion")
    assert entry.payload == {"alias": "champion", "from": "version 1", "to": "version 2"}
    assert told.alarms == [
        f"MLflow's alias 'champion' named version 1, the ledger says version 2 (entry {entry.seq}): put back"
    ]
    assert told.corrections[0]["entry"] == entry.seq
    head = Ledger(champions.settings).head()
    assert reconcile(champions, "run 2").alarms == []
    assert reconcile(champions).alarms == told.alarms
    assert Ledger(champions.settings).head() == head
    assert Ledger(champions.settings).verify().verified


def test_aliases_deleted_by_hand_come_back(champions: Champions) -> None:
    for alias in ("champion", "challenger"):
        delete_alias("flight_delay", alias, settings=champions.settings)
    assert len(reconcile(champions).alarms) == 2
    assert aliases(champions) == {"challenger": 2, "champion": 2}
    assert [e.payload["from"] for e in Ledger(champions.settings).entries(kinds=("alias_corrected",))] == [
        "nothing"
    ] * 2


def test_a_version_that_is_gone_cannot_be_named_and_somebody_is_told(champions: Champions) -> None:
    client = connect(champions.settings)
    client.delete_model_version("flight_delay", "2")
    told = reconcile(champions)
    assert [bool(item["problem"]) for item in told.corrections] == [True, True]
    assert "could not be put back" in told.alarms[0]


def test_a_pointer_moved_by_hand_is_put_back_and_the_service_loads_what_it_names(
    house: House, releases: list[Release]
) -> None:
    path = pointer_path(house.settings.serving_dir, "flight_delay")
    write_pointer(house.settings.serving_dir, reference_of(house.spec, releases[0], house.settings))
    ServiceClient(url=house.settings.serving_url, token=house.settings.serving_token).load("flight_delay")
    assert served(house) == ["1"]
    (alarm,) = reconcile(house).alarms
    assert "the online service's pointer named release 1, the ledger says release 2" in alarm
    assert (read_pointer(path).release, served(house)) == (2, ["2"])

    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "threshold": 0.01}))
    (alarm,) = reconcile(house, "run 2").alarms
    assert "named release 2 with another threshold" in alarm
    assert read_pointer(path).threshold == releases[1].threshold
    path.unlink()
    assert "named nothing" in reconcile(house, "run 3").alarms[0]
    entries = Ledger(house.settings).entries(kinds=("alias_corrected",))
    assert [entry.subject for entry in entries] == ["pointer"] * 3
    assert reconcile(house, "run 4").reasons == []


def test_a_service_that_serves_something_else_than_its_pointer_says_loads_it_again(
    house: House, releases: list[Release]
) -> None:
    write_pointer(house.settings.serving_dir, reference_of(house.spec, releases[0], house.settings))
    ServiceClient(url=house.settings.serving_url, token=house.settings.serving_token).load("flight_delay")
    write_pointer(house.settings.serving_dir, reference_of(house.spec, releases[1], house.settings))
    assert reconcile(house).reasons == ["The online service served release 1 and was told to load 2"]
    assert served(house) == ["2"]


def release_three(place: House | Champions) -> None:
    record_proven(place.settings, release_of(place.packages[0], 3, JUNE, replaces=2, registry_version=1))
    for alias in ("champion", "challenger"):
        set_alias("flight_delay", alias, 1, settings=place.settings)


def test_a_release_that_is_not_deployed_yet_is_no_pointer_moved_by_hand(house: House, releases: list[Release]) -> None:
    release_three(house)
    told = reconcile(house)
    assert (told.alarms, told.reasons) == ([], ["Release 3 is in force and not deployed yet"])
    assert (pointed(house).release, served(house)) == (2, ["2"])


def test_a_pointer_moved_by_hand_before_a_release_is_deployed_is_found_too(
    house: House, releases: list[Release]
) -> None:
    release_three(house)
    path = pointer_path(house.settings.serving_dir, "flight_delay")
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "release": 77, "threshold": 0.01}))
    (alarm,) = reconcile(house).alarms
    assert "pointer named release 77, the ledger says release 3" in alarm
    assert (pointed(house).release, served(house)) == (3, ["3"])


@pytest.mark.parametrize(("forged", "after"), [(False, PENDING), (False, -2 * PENDING), (True, timedelta())])
def test_a_rollback_that_never_reached_the_service_is_finished_and_somebody_is_told(
    house: House, releases: list[Release], forged: bool, after: timedelta
) -> None:
    restore(house.settings, house.spec, Rollback(version=1, reason="r", actor="ann", key="k"))
    set_alias("flight_delay", "champion", 1, settings=house.settings)
    if forged:
        path = pointer_path(house.settings.serving_dir, "flight_delay")
        path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "release": 77}))
    (alarm,) = reconcile(house, after=after).alarms
    move = Ledger(house.settings).entries(kinds=("rolled_back",))[-1]
    assert f"the rollback of entry {move.seq} never reached the online service" in alarm
    assert f"whose pointer named release {77 if forged else 2}; the ledger says release 1" in alarm
    assert (pointed(house).release, served(house)) == (1, ["1"])
    assert reconcile(house, "run 2").reasons == []


def test_a_rollback_on_its_way_to_the_service_alarms_nobody_and_gets_there_once(
    house: House, releases: list[Release]
) -> None:
    back = restore(house.settings, house.spec, Rollback(version=1, reason="r", actor="ann", key="k"))
    set_alias("flight_delay", "champion", 1, settings=house.settings)
    move = Ledger(house.settings).entries(kinds=("rolled_back",))[-1]
    away = dataclasses.replace(house.settings, serving_url="http://127.0.0.1:9")
    found = reconcile_registry(house.spec, settings=away, key="run 1")
    assert (found.alarms, found.corrections) == ([], [])
    assert found.reasons[0].startswith(f"Release 1 is in force by the rollback of entry {move.seq} and not served yet")

    found = reconcile(house, "run 2")
    assert (found.alarms, found.reasons) == ([], ["The online service served release 2 and was told to load 1"])
    assert (pointed(house).release, served(house)) == (1, ["1"])
    deploy_release(house.spec, back, settings=house.settings, actor="ann")
    entries = Ledger(house.settings).entries("flight_delay")
    assert [entry.kind for entry in entries if entry.seq > move.seq] == ["deployed"]


def test_something_else_behind_the_addresses_is_named_and_hides_nothing(champions: Champions) -> None:
    with pytest.raises(DeploymentError, match="is pending"):
        deploy_release(champions.spec, champions.releases[1], settings=champions.settings)
    path = pointer_path(champions.settings.serving_dir, "flight_delay")
    with service(lambda _: (200, b"<html>log in</html>")) as (url, _):
        away = dataclasses.replace(champions.settings, mlflow_url=url, serving_url=url)
        told = reconcile_registry(champions.spec, settings=away, key="k1")
        assert [reason.partition(":")[0] for reason in told.reasons] == [
            "Aliases are not checked",
            "What the online service serves is not known",
        ]
        path.unlink()
        (alarm,) = reconcile_registry(champions.spec, settings=away, key="k2").alarms
        assert "named nothing" in alarm
    assert pointed(champions).release == 2


def test_an_alert_of_an_attempt_that_failed_later_is_told_by_the_next_one(
    champions: Champions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_alias("flight_delay", "champion", 1, settings=champions.settings)
    (tmp_path / "file").write_text("")
    unusable = dataclasses.replace(champions.settings, serving_dir=tmp_path / "file" / "x")
    told = reconcile_registry(champions.spec, settings=unusable, key="k")
    assert [alarm.partition(",")[0] for alarm in told.alarms] == ["MLflow's alias 'champion' named version 1"]
    assert "pointer is not checked" in told.reasons[-1]

    set_alias("flight_delay", "challenger", 1, settings=champions.settings)

    def die(*_: object) -> None:
        raise StateUnavailableError("killed", where="here", remedy="again")

    with monkeypatch.context() as patch:
        patch.setattr("millrace.step.reconcile._Look.align_pointer", die)
        with pytest.raises(StateUnavailableError):
            reconcile(champions, "k2")
    (alarm,) = reconcile(champions, "k2").alarms
    assert alarm.startswith("MLflow's alias 'challenger' named version 1")
    assert reconcile(champions, "k3").alarms == []
    away = dataclasses.replace(champions.settings, mlflow_url="http://127.0.0.1:9")
    (alarm,) = reconcile_registry(champions.spec, settings=away, key="k2").alarms
    assert "could not be put back: it cannot be looked at now" in alarm


def test_a_package_that_is_not_whole_is_an_alarm_and_the_aliases_are_put_back(
    champions: Champions, tmp_path: Path
) -> None:
    set_alias("flight_delay", "champion", 1, settings=champions.settings)
    store = tmp_path / "damaged"
    shutil.copytree(champions.settings.packages, store)
    (store / champions.releases[1].package / "manifest.json").write_text("{}")
    damaged = dataclasses.replace(champions.settings, packages=store)
    alarms = reconcile_registry(champions.spec, settings=damaged, key="k").alarms
    assert "a package is not whole" in alarms[-1]
    assert len(alarms) == 2
    assert aliases(champions)["champion"] == 2


def test_a_pointer_of_any_length_fits_the_ledger(house: House, releases: list[Release]) -> None:
    path = pointer_path(house.settings.serving_dir, "flight_delay")
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "release": "9" * 100_000}))
    (alarm,) = reconcile(house).alarms
    entry = Ledger(house.settings).entries(kinds=("alias_corrected",))[-1]
    assert max(len(alarm), len(entry.key), len(entry.payload["from"])) < 300
    assert pointed(house).release == 2


def test_mlflow_and_the_service_being_away_are_named_and_fail_nothing(house: House, releases: list[Release]) -> None:
    house.live.process.terminate()
    house.live.process.wait(120)
    away = dataclasses.replace(house.settings, mlflow_url="http://127.0.0.1:9")
    told = reconcile_registry(house.spec, settings=away, key="k")
    assert told.alarms == []
    assert [reason.partition(":")[0] for reason in told.reasons] == [
        "Aliases are not checked",
        "What the online service serves is not known",
    ]


def test_a_ledger_that_proves_nothing_puts_nothing_back(champions: Champions) -> None:
    set_alias("flight_delay", "champion", 1, settings=champions.settings)
    with writing(champions.settings) as connection:
        connection.execute(update(RELEASE).where(RELEASE.c.version == 2).values(threshold=0.9))
    with pytest.raises(ReleaseRefusedError):
        reconcile(champions)
    assert aliases(champions)["champion"] == 1


def test_before_anything_was_released_there_is_nothing_to_put_back(settings: Settings) -> None:
    away = dataclasses.replace(settings, mlflow_url="http://127.0.0.1:9")
    told = reconcile_registry(load_use_case(settings.dags, "flight_delay"), settings=away, key="k")
    assert [reason.partition(":")[0] for reason in told.reasons] == ["Aliases are not checked"]
