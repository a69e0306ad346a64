from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.serving import sample

from millrace.package import Package
from millrace.serving.repository import Repository, Served
from millrace.spec import UseCaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One sealed package, rows, and an online store that knows most of their entities."""

    spec: UseCaseSpec
    package: Package
    rows: pa.Table
    online_store: Path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    spec = sample.use_case()
    package = sample.seal(folder / "packages", spec)
    rows = sample.feature_rows(spec, 60, seed=9)
    sample.fill_store(folder / "online.db", rows)
    return World(spec=spec, package=package, rows=rows, online_store=folder / "online.db")


@pytest.fixture
def repository(world: World, tmp_path: Path) -> Repository:
    sample.point(tmp_path / "serving", world.package)
    return Repository(tmp_path / "serving", world.online_store)


@pytest.fixture
def served(repository: Repository) -> Served:
    return repository.load("flight_delay")
