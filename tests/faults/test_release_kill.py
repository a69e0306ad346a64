"""Registering, approving, releasing and deploying, killed at every point of it: the next run ends as if it were whole.

Each child starts from the same installation, in which one release is in force, and dies at another point of the way of
the next one. Nobody may find a champion without proof at any of them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.children import answer, in_children
from tests.faults.points import KILLED, Points
from tests.unit.governance.proposal import Case, lay_mlflow
from tests.unit.serving import sample

from millrace.deployment import pointer
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.probe import probe_service
from millrace.evaluation.base import Evaluation
from millrace.governance import succession
from millrace.governance.ledger import Ledger
from millrace.governance.proof import prove_in_force, prove_release
from millrace.governance.release import Releases
from millrace.package import Package
from millrace.registry import mlflow_registry
from millrace.registry.mlflow_alias import get_aliases
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_tracking import log_candidate
from millrace.serving.repository import read_pointer
from millrace.settings import Settings
from millrace.step import deployment, registry, release
from millrace.step.approval import approve_by_policy

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
USE_CASE = "flight_delay"


@dataclass(frozen=True, kw_only=True)
class House:
    """An installation that can be put back to how it was."""

    settings: Settings
    packages: list[Package]
    kept: Path

    @property
    def case(self) -> Case:
        return Case.of(self.settings)

    def reset(self) -> None:
        shutil.rmtree(self.settings.var)
        shutil.copytree(self.kept, self.settings.var)

    def evaluation(self, number: int, holdout: str) -> Evaluation:
        """The challenger `number`, compared with the release before it."""
        found = self.case.evaluation(str(number), holdout, number)
        model = dataclasses.replace(found.challenger, digest=self.packages[number].digest)
        return dataclasses.replace(found, challenger=model, evidence=self.case.bundle(model, number))

    def train(self, number: int, holdout: str) -> None:
        evaluation = self.evaluation(number, holdout)
        folder = self.packages[number].folder
        log_candidate(self.case.use_case, evaluation.challenger, {}, {}, folder, settings=self.settings)
        self.case.judge(evaluation)

    def bring(self, number: int, holdout: str) -> None:
        """From the verdict to the service that answers."""
        case, evaluation = self.case, self.evaluation(number, holdout)
        verdict = case.judge(evaluation)
        what = (case.use_case, case.policy, evaluation, verdict)
        registered = registry.register_model(case.use_case, case.domain, evaluation, verdict, settings=self.settings)
        approval = approve_by_policy(*what, settings=self.settings)
        made = release.release_model(*what, registered, approval, settings=self.settings)
        deployment.deploy_release(case.use_case, made, settings=self.settings, actor="olive")
        client = ServiceClient(url=self.settings.serving_url, token=self.settings.serving_token)
        probe_service(client, USE_CASE, made.version, self.packages[number])

    def state(self) -> dict[str, Any]:
        """All that is to be the same whatever happened; times and hashes, which carry them, left out."""
        ledger = Ledger(self.settings)
        found = connect(self.settings).search_model_versions(f"name = '{USE_CASE}'")
        deployed = {entry.key for entry in ledger.entries(kinds=("deployed",))}
        return {
            "entries": [[e.seq, e.kind, e.subject, e.actor, e.payload] for e in ledger.entries()],
            "deployed": len(deployed),
            "verified": ledger.verify().verified,
            "releases": [item.to_dict() for item in Releases(self.settings).list(USE_CASE)],
            "versions": sorted([int(version.version), dict(version.tags)] for version in found),
            "aliases": get_aliases(USE_CASE, settings=self.settings),
            "pointer": self.pointed().to_dict(),
            "leftovers": sorted(path.name for path in (self.settings.serving_dir / USE_CASE).glob(".pointer-*")),
        }

    def pointed(self) -> Any:
        return read_pointer(pointer.pointer_path(self.settings.serving_dir, USE_CASE))

    def require_proof(self) -> None:
        """Ledger, alias and pointer name a release that is proven, and the ledger is whole."""
        ledger = Ledger(self.settings)
        assert ledger.verify().verified
        in_force = prove_in_force(USE_CASE, settings=self.settings)
        assert in_force is not None
        releases = Releases(self.settings).list(USE_CASE)
        champion = get_aliases(USE_CASE, settings=self.settings)["champion"]
        assert champion in {item.registry_version for item in releases}
        assert self.pointed().release in {item.version for item in releases}
        for item in releases:
            prove_release(item, settings=self.settings)


def mark(points: Points) -> None:
    """Every step from the verdict to the service, and the writes within it."""
    for owner, name in (
        (registry, "register_version"),
        (mlflow_registry, "_attach"),
        (mlflow_registry, "_create"),
        (Ledger, "append"),
        (registry, "set_alias"),
        (succession, "store_policy"),
        (Releases, "add"),
        (release, "succeed"),
        (release, "set_alias"),
        (deployment, "write_pointer"),
        (pointer, "_replace"),
        (deployment, "_record"),
        (deployment, "_load"),
    ):
        points.around(owner, name)


def start(house: House) -> None:
    house.train(0, "2013-03")
    house.bring(0, "2013-03")
    house.train(1, "2013-06")


def go(house: House, die_at: int) -> list[str]:
    points = Points(die_at)
    mark(points)
    house.bring(1, "2013-06")
    return points.events


def look(house: House) -> dict[str, Any]:
    house.bring(1, "2013-06")
    return house.state()


def recover(house: House) -> dict[str, Any]:
    house.require_proof()
    return look(house)


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[House]:
    """One release in force and in service, the next one judged; the service is another process."""
    store = tmp_path / "store"
    packages = [sample.seal(store, sample.use_case(rounds=rounds)) for rounds in (8, 5)]
    settings = dataclasses.replace(settings, packages=store, serving_token="a test's token")
    lay_mlflow(settings)
    settings.serving_dir.mkdir(parents=True)
    environ = {"MILLRACE_SERVING_TOKEN": settings.serving_token}
    with sample.live_service(settings.serving_dir, log=tmp_path / "log", environ=environ) as live:
        settings = dataclasses.replace(settings, serving_url=live.url)
        found = House(settings=settings, packages=packages, kept=tmp_path / "kept")
        answer(partial(start, found))
        shutil.copytree(settings.var, found.kept)
        yield found


def test_killed_at_any_point_the_next_run_ends_in_the_state_of_an_undisturbed_one(house: House) -> None:
    events = answer(partial(go, house, -1))
    whole = answer(house.state)
    assert answer(partial(look, house)) == whole
    assert (whole["verified"], whole["deployed"], whole["pointer"]["release"]) == (True, 2, 2)
    assert [len(whole["releases"]), len(whole["versions"])] == [2, 2]
    assert whole["aliases"] == {"challenger": 2, "champion": 2}
    named = {event.partition(" ")[2] for event in events}
    assert len(named) == 12, named  # `registry.set_alias` and `release.set_alias` are two of one name
    # Between the end of one step and the start of the next nothing happens: one of the two points is enough.
    places = [at for at, event in enumerate(events) if event.startswith("after") or events[at - 1].startswith("before")]
    for place in places:
        event = events[place]
        house.reset()
        (killed,) = in_children(partial(go, house, place))
        assert killed.status == KILLED, (event, killed.error)
        assert answer(partial(recover, house)) == whole, event
    print(f"killed at {len(places)} points: {', '.join(events[place] for place in places)}")
