"""Clean tables that are written once for all tests of a module."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.features import clean

from millrace.spec import DomainSpec, load_domain

DAGS = Path(__file__).resolve().parents[3] / "dags"


@pytest.fixture(scope="session")
def domain() -> DomainSpec:
    return load_domain(DAGS, "flights")


@pytest.fixture(scope="session")
def clean_lake(tmp_path_factory: pytest.TempPathFactory, domain: DomainSpec) -> str:
    """A lake with the clean tables of four months; for reading only."""
    lake = str(tmp_path_factory.mktemp("clean") / "lake")
    clean.write_clean(domain, lake, clean.raw_all())
    return lake
