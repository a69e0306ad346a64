"""Two proven releases of one use case, registered in MLflow, the second one in service: to be rolled back or moved."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.unit.deployment.conftest import House, release_of
from tests.unit.governance.proposal import lay_mlflow, record_proven

from millrace.governance.release import Release
from millrace.package import Package
from millrace.registry.base import CHALLENGER, CHAMPION
from millrace.registry.mlflow_alias import set_alias
from millrace.registry.mlflow_client import connect
from millrace.settings import Settings
from millrace.spec import UseCaseSpec
from millrace.step.deployment import deploy_release

MARCH, APRIL = "2013-04-01T04:00:00Z", "2013-05-01T04:00:00Z"


@dataclass(frozen=True, slots=True)
class Champions:
    """An installation with two proven releases, registered, the second one in force; no service runs."""

    settings: Settings
    spec: UseCaseSpec
    packages: list[Package]
    releases: list[Release]


def lay_champions(settings: Settings, spec: UseCaseSpec, packages: list[Package], folder: Path) -> Champions:
    """Put release 1, then release 2 in force; MLflow's aliases say so. Any folder stands for MLflow's artifacts."""
    lay_mlflow(settings)
    client, name = connect(settings), spec.name
    client.create_registered_model(name)
    releases = []
    for version, (package, effective_at) in enumerate(zip(packages, (MARCH, APRIL), strict=True), 1):
        client.create_model_version(name, str(folder), await_creation_for=0)
        more = {"registry_version": version, "replaces": version - 1}
        releases.append(record_proven(settings, release_of(package, version, effective_at, **more)))
    for alias in (CHAMPION, CHALLENGER):
        set_alias(name, alias, 2, settings=settings)
    return Champions(settings, spec, packages, releases)


def put_two_in_service(house: House, folder: Path) -> list[Release]:
    """The same, and the second one is served."""
    champions = lay_champions(house.settings, house.spec, house.packages, folder)
    deploy_release(house.spec, champions.releases[-1], settings=house.settings, actor="system")
    return champions.releases


@pytest.fixture
def champions(sealed: tuple[UseCaseSpec, Path, list[Package]], settings: Settings, tmp_path: Path) -> Champions:
    """Two releases and no service; a service that is asked all the same is known to be away at once."""
    spec, store, packages = sealed
    away = dataclasses.replace(settings, packages=store, serving_url="http://127.0.0.1:9")
    return lay_champions(away, spec, packages, tmp_path)
