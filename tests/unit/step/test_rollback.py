from __future__ import annotations

import dataclasses
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.deployment.conftest import House, house, release_of, sealed
from tests.unit.deployment.test_httpx_client import service
from tests.unit.governance.proposal import record_proven
from tests.unit.step.champion import Champions, champions, put_two_in_service

from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.pointer import pointer_path
from millrace.errors import LedgerError, MillraceError, PackageError, ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.person import LONGEST_TEXT
from millrace.governance.release import Release, Releases
from millrace.registry.mlflow_alias import get_aliases
from millrace.serving.repository import read_pointer
from millrace.settings import Settings
from millrace.spec import load_use_case
from millrace.step.rollback import roll_back, rollback_release

__all__ = ["champions", "house", "sealed"]
JUNE = "2013-07-01T04:00:00Z"


@pytest.fixture
def releases(house: House, tmp_path: Path) -> list[Release]:
    return put_two_in_service(house, tmp_path)


def served(house: House) -> list[str]:
    return list(ServiceClient(url=house.settings.serving_url).metadata("flight_delay")["versions"])


def champion(house: House | Champions) -> int:
    return get_aliases("flight_delay", settings=house.settings)["champion"]


def test_package_pointer_threshold_alias_and_ledger_go_back_together_and_the_service_proves_it(
    house: House, releases: list[Release]
) -> None:
    told = roll_back(house.spec, None, "too slow", "ann", settings=house.settings)
    assert (told.release, told.replaced, told.package) == (1, 2, house.packages[0].digest)
    assert (told.rows, told.max_abs_diff <= 1e-6, told.pending) == (len(house.packages[0].golden), True, [])
    assert len(told.done) == 4
    assert (served(house), champion(house)) == (["1"], 1)
    pointer = read_pointer(pointer_path(house.settings.serving_dir, "flight_delay"))
    assert (pointer.release, pointer.package, pointer.threshold) == (1, house.packages[0].digest, releases[0].threshold)
    moved, deployed = Ledger(house.settings).entries("flight_delay")[-2:]
    assert (moved.kind, moved.actor, moved.payload) == (
        "rolled_back",
        "ann",
        {"version": 1, "from": 2, "reason": "too slow"},
    )
    assert (deployed.kind, deployed.actor, deployed.payload["version"]) == ("deployed", "ann", 1)


def test_said_again_it_does_what_is_left_and_goes_no_further_back(house: House, releases: list[Release]) -> None:
    record_proven(house.settings, release_of(house.packages[0], 3, JUNE, replaces=2, registry_version=1))
    roll_back(house.spec, None, "too slow", "ann", settings=house.settings)
    head = Ledger(house.settings).head()
    again = roll_back(house.spec, None, "too slow", "ann", settings=house.settings)
    assert (again.release, again.replaced) == (2, 2)
    assert roll_back(house.spec, 2, "whatever", "paul", settings=house.settings).release == 2
    assert Ledger(house.settings).head() == head
    for who in ("ann", "paul"):
        with pytest.raises(
            ReleaseRefusedError, match=r"(?s)ann rolled back from release 3 to 2, at 2.*'too slow'.*--to 1"
        ):
            roll_back(house.spec, None, "still too slow", who, settings=house.settings)
    assert roll_back(house.spec, 1, "still too slow", "ann", settings=house.settings).release == 1


def test_mlflow_being_away_is_pending_and_the_service_goes_back_all_the_same(
    house: House, releases: list[Release]
) -> None:
    away = dataclasses.replace(house.settings, mlflow_url="http://127.0.0.1:9")
    told = roll_back(house.spec, 1, "too slow", "ann", settings=away)
    assert served(house) == ["1"]
    assert "'champion' may still name another version: MLflow does not answer" in "".join(told.pending)
    assert champion(house) == 2
    assert roll_back(house.spec, 1, "too slow", "ann", settings=house.settings).pending == []
    assert champion(house) == 1


def test_the_service_being_away_is_pending_and_ledger_and_alias_go_back(house: House, releases: list[Release]) -> None:
    house.live.process.terminate()
    house.live.process.wait(120)
    told = roll_back(house.spec, 1, "too slow", "ann", settings=house.settings)
    assert (told.release, told.rows) == (1, 0)
    assert "release 1 of 'flight_delay' is pending: its pointer is written" in "".join(told.pending)
    assert champion(house) == 1
    assert read_pointer(pointer_path(house.settings.serving_dir, "flight_delay")).release == 1


def test_a_package_that_is_not_whole_is_not_put_in_force(champions: Champions, tmp_path: Path) -> None:
    store = tmp_path / "damaged"
    shutil.copytree(champions.settings.packages, store)
    model = store / champions.releases[0].package / champions.packages[0].manifest.model.name
    model.write_bytes(model.read_bytes() + b"\0")
    head = Ledger(champions.settings).head()
    damaged = dataclasses.replace(champions.settings, packages=store)
    with pytest.raises(PackageError):
        roll_back(champions.spec, 1, "too slow", "ann", settings=damaged)
    assert Ledger(champions.settings).head() == head


def test_a_rollback_goes_back_one_by_one_and_its_key_does_it_once(champions: Champions) -> None:
    record_proven(champions.settings, release_of(champions.packages[0], 3, JUNE, replaces=2, registry_version=1))

    def back(key: str, version: int | None = None, *, days: float = 0) -> int:
        asked_at = datetime.now(UTC) + timedelta(days=days)
        how = {"settings": champions.settings, "key": key, "asked_at": asked_at}
        return rollback_release(champions.spec, version, "wrong", "oncall", **how).version

    assert [back("1"), back("1"), back("2", days=1.1), back("1")] == [2, 2, 1, 2]
    assert Releases(champions.settings).in_force("flight_delay") == champions.releases[0]
    assert champion(champions) == 1
    with pytest.raises(ReleaseRefusedError, match=r"rolled back from release 2 to 1, at .*there is none before it"):
        back("3")
    with pytest.raises(ReleaseRefusedError, match="no release before 1"):
        back("3", days=1.1)
    assert back("4", 3) == 3
    assert back("5", 3) == 3
    with pytest.raises(LedgerError, match="went to release 3"):
        back("4", 1)
    entries = Ledger(champions.settings).entries(kinds=("rolled_back",))
    assert [entry.payload["version"] for entry in entries] == [2, 1, 3]
    assert {entry.effective_at.isoformat() for entry in entries} == {"2013-07-01T04:00:00+00:00"}


@pytest.mark.parametrize(("version", "reason", "said"), [(9, "too slow", "no release 9"), (1, " ", "without a reason")])
def test_a_rollback_to_nowhere_is_refused_and_changes_nothing(
    champions: Champions, version: int, reason: str, said: str
) -> None:
    head = Ledger(champions.settings).head()
    with pytest.raises(MillraceError, match=said):
        roll_back(champions.spec, version, reason, "oncall", settings=champions.settings)
    assert Ledger(champions.settings).head() == head


def test_where_nothing_was_released_there_is_nothing_to_go_back_to(settings: Settings) -> None:
    with pytest.raises(ReleaseRefusedError, match="nothing was ever released"):
        roll_back(load_use_case(settings.dags, "flight_delay"), None, "too slow", "oncall", settings=settings)


def test_something_else_behind_the_addresses_leaves_parts_pending_and_the_rest_done(champions: Champions) -> None:
    ledger, back = Ledger(champions.settings), 1
    with service(lambda _: (200, b"<html>log in</html>")) as (url, _):
        for changes, said in (
            ({"mlflow_url": url}, "MLflow does not answer"),
            ({"mlflow_url": "http://host:notaport"}, "MLflow does not answer"),
            ({"serving_url": url}, "what answers is not the online service"),
            ({"serving_url": "http://host:notaport"}, "no address of an online service"),
            ({"serving_dir": champions.packages[0].folder / "manifest.json"}, "cannot use the folder"),
        ):
            settings = dataclasses.replace(champions.settings, **changes)
            told = roll_back(champions.spec, back, f"because of {changes}", "ann", settings=settings)
            assert told.release == back
            assert said in "".join(told.pending), told
            assert f"the ledger says that release {back} is in force" in told.done
            assert ledger.entries(kinds=("rolled_back",))[-1].payload["version"] == back
            back = 3 - back


def test_a_package_lost_meanwhile_is_pending_too(champions: Champions, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        raise PackageError("it is gone", where="a folder", remedy="restore it")

    monkeypatch.setattr("millrace.step.rollback.deploy_release", lose)
    told = roll_back(champions.spec, 1, "too slow", "ann", settings=champions.settings)
    assert told.pending == ["it is gone; restore it"]
    assert Releases(champions.settings).in_force("flight_delay") == champions.releases[0]


def test_two_who_mean_away_from_the_same_release_go_one_back_not_two(champions: Champions) -> None:
    settings = champions.settings
    three = record_proven(settings, release_of(champions.packages[0], 3, JUNE, replaces=2, registry_version=1))
    asked_at = datetime.now(UTC)
    assert roll_back(champions.spec, None, "too slow", "ann", settings=settings, seen=three).release == 2
    with pytest.raises(ReleaseRefusedError, match="release 3 is not in force any more, 2 is"):
        roll_back(champions.spec, None, "too slow", "bob", settings=settings, seen=three)
    with pytest.raises(ReleaseRefusedError, match="release 3 is not in force any more"):
        rollback_release(champions.spec, None, "too slow", "paul", settings=settings, key="k", asked_at=asked_at)
    assert Releases(settings).in_force("flight_delay") == champions.releases[1]
    asked_at = datetime.now(UTC)
    with pytest.raises(ReleaseRefusedError, match="ann rolled back from release 3 to 2"):
        rollback_release(champions.spec, None, "too slow", "paul", settings=settings, key="k2", asked_at=asked_at)
    assert Releases(settings).in_force(champions.spec) == champions.releases[1]
    for _ in range(2):
        assert rollback_release(champions.spec, 1, "too slow", "paul", settings=settings, key="k3").version == 1


def test_a_release_made_meanwhile_is_not_mistaken_for_the_one_to_go_away_from(champions: Champions) -> None:
    two = champions.releases[1]
    record_proven(champions.settings, release_of(champions.packages[0], 3, JUNE, replaces=2, registry_version=1))
    with pytest.raises(ReleaseRefusedError, match="release 2 is not in force any more, 3 is"):
        roll_back(champions.spec, None, "2 is bad", "ann", settings=champions.settings, seen=two)
    assert roll_back(champions.spec, 1, "2 is bad", "ann", settings=champions.settings, seen=two).release == 1


def test_a_reason_is_kept_as_text_of_bounded_length(champions: Champions) -> None:
    roll_back(champions.spec, 1, os.fsdecode(b"slow \xff"), "ann", settings=champions.settings)
    assert Ledger(champions.settings).entries(kinds=("rolled_back",))[-1].payload["reason"] == "slow ?"
    for version in (2, None):
        roll_back(champions.spec, version, "x" * 3000, "ann", settings=champions.settings)
    entries = Ledger(champions.settings).entries(kinds=("rolled_back",))
    assert [entry.payload["version"] for entry in entries] == [1, 2]
    assert len(entries[-1].payload["reason"]) == LONGEST_TEXT


def test_the_question_that_the_package_answers_is_put_back_whatever_the_spec_asks_by_now(champions: Champions) -> None:
    spec = champions.spec.model_copy(update={"problem": "regression"})
    roll_back(spec, 1, "too slow", "ann", settings=champions.settings)
    pointer = read_pointer(pointer_path(champions.settings.serving_dir, "flight_delay"))
    assert (pointer.release, pointer.threshold) == (1, champions.releases[0].threshold)


def test_the_first_release_has_none_before_it_and_the_others_are_listed(champions: Champions) -> None:
    how: dict[str, Settings] = {"settings": champions.settings}
    assert rollback_release(champions.spec, 1, "wrong", "oncall", key="1", **how).version == 1
    later = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(ReleaseRefusedError, match="there is no release before 1") as caught:
        rollback_release(champions.spec, None, "wrong again", "oncall", key="2", asked_at=later, **how)
    assert "(`--to`): 2 (" in caught.value.remedy
