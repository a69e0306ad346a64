"""A rollback, killed at every point of it: the same command, and the next run of the monitoring too, finish it."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.children import answer, in_children
from tests.faults.points import KILLED, Points
from tests.unit.deployment.conftest import House, house, sealed
from tests.unit.governance.proposal import lay_mlflow
from tests.unit.step.champion import put_two_in_service

from millrace.deployment import pointer
from millrace.deployment.httpx_client import ServiceClient
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.registry.mlflow_alias import get_aliases
from millrace.serving.repository import read_pointer
from millrace.step import deployment, release, rollback
from millrace.step.reconcile import PENDING, reconcile_registry

__all__ = ["house", "sealed"]
pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
USE_CASE = "flight_delay"


@dataclass(frozen=True, kw_only=True)
class Place:
    """An installation in which release 2 is served, which can be put back to that."""

    house: House
    kept: Path

    def reset(self) -> None:
        settings = self.house.settings
        shutil.rmtree(settings.var)
        shutil.copytree(self.kept, settings.var)
        ServiceClient(url=settings.serving_url, token=settings.serving_token).load(USE_CASE)

    def back(self) -> list[str]:
        return rollback.roll_back(self.house.spec, None, "too slow", "ann", settings=self.house.settings).pending

    def state(self) -> dict[str, Any]:
        settings = self.house.settings
        in_force = Releases(settings).in_force(USE_CASE)
        assert in_force is not None
        return {
            "in force": in_force.version,
            "champion": get_aliases(USE_CASE, settings=settings)["champion"],
            "pointer": read_pointer(pointer.pointer_path(settings.serving_dir, USE_CASE)).release,
            "served": ServiceClient(url=settings.serving_url).metadata(USE_CASE)["versions"],
            "moves": [entry.payload for entry in Ledger(settings).entries(kinds=("rolled_back",))],
            "deployed": len(Ledger(settings).entries(kinds=("deployed",))),
            "verified": Ledger(settings).verify().verified,
        }


def mark(points: Points) -> None:
    for owner, name in (
        (Ledger, "append"),
        (rollback, "restore"),
        (release, "set_alias"),
        (pointer, "_replace"),
        (deployment, "_load"),
    ):
        points.around(owner, name)


def start(house: House, folder: Path) -> int:
    return len(put_two_in_service(house, folder))


def go(place: Place, die_at: int) -> list[str]:
    points = Points(die_at)
    mark(points)
    assert place.back() == []
    return points.events


def look(place: Place) -> dict[str, Any]:
    later = datetime.now(UTC) + PENDING
    report = reconcile_registry(place.house.spec, settings=place.house.settings, key="monitor", at=later)
    return {"state": place.state(), "alarms": report.alarms}


def again(place: Place) -> dict[str, Any]:
    assert place.back() == []
    return place.state()


@pytest.fixture
def place(house: House, tmp_path: Path) -> Place:
    lay_mlflow(house.settings)
    house = dataclasses.replace(house, live=None)  # a process does not pickle
    answer(partial(start, house, tmp_path))
    shutil.copytree(house.settings.var, tmp_path / "kept")
    return Place(house=house, kept=tmp_path / "kept")


def test_killed_at_any_point_a_rollback_is_finished_and_what_it_left_is_told(place: Place, tmp_path: Path) -> None:
    before = answer(place.state)
    events = answer(partial(go, place, -1))
    whole = answer(place.state)
    assert (before["in force"], before["served"]) == (2, ["2"])
    assert {name: whole[name] for name in ("in force", "champion", "pointer", "served")} == {
        **dict.fromkeys(("in force", "champion", "pointer"), 1),
        "served": ["1"],
    }
    # The first entry is the rollback, within its transaction; the second one says that it is deployed.
    deaths = [at for at, event in enumerate(events) if event.startswith("after")]
    committed, recorded = events.index("after restore"), [at for at in deaths if events[at] == "after append"][-1]
    for death in deaths:
        event = events[death]
        place.reset()
        (killed,) = in_children(partial(go, place, death))
        assert killed.status == KILLED, (event, killed.error)
        left = tmp_path / "left"
        shutil.copytree(place.house.settings.var, left)
        found = answer(partial(look, place))
        unfinished = committed <= death < recorded
        assert found["state"] == (whole if death >= committed else before), event
        assert any("never reached the online service" in alarm for alarm in found["alarms"]) == unfinished, event
        shutil.rmtree(place.house.settings.var)
        left.rename(place.house.settings.var)
        assert answer(partial(again, place)) == whole, event
    print(f"killed at {len(deaths)} points: {', '.join(events[death] for death in deaths)}")
