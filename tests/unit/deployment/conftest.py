from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.governance.proposal import record_proven
from tests.unit.serving import sample

from millrace.governance.release import Release
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import UseCaseSpec


def release_of(package: Package, version: int, effective_at: str, /, **changes: Any) -> Release:
    plain = {
        "use_case": package.manifest.use_case,
        "version": version,
        "package": package.digest,
        "candidate": package.manifest.candidate,
        "trainer": package.manifest.trainer,
        "trained_through": "2013-02",
        "holdout": "2013-03",
        "effective_at": effective_at,
        "evidence": f"{version:064d}",
        "policy": "0" * 64,
        "feature_service": package.features.service,
        "threshold": 0.5,
        "reference": "0" * 64,
    }
    return Release(**{**plain, **changes})


record = record_proven


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """An installation with two sealed packages and a live service."""

    settings: Settings
    spec: UseCaseSpec
    packages: list[Package]
    live: sample.Live


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[UseCaseSpec, Path, list[Package]]:
    store = tmp_path_factory.mktemp("sealed")
    spec = sample.use_case()
    return spec, store, [sample.seal(store, spec), sample.seal(store, sample.use_case(rounds=5))]


@pytest.fixture
def house(sealed: tuple[UseCaseSpec, Path, list[Package]], settings: Settings, tmp_path: Path) -> Iterator[House]:
    spec, store, packages = sealed
    settings = dataclasses.replace(settings, packages=store, serving_token="a test's token")
    environ = {"MILLRACE_SERVING_TOKEN": settings.serving_token}
    with sample.live_service(settings.serving_dir, log=tmp_path / "log", environ=environ) as live:
        yield House(
            settings=dataclasses.replace(settings, serving_url=live.url), spec=spec, packages=packages, live=live
        )
