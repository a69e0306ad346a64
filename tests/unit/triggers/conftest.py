"""An Airflow home of its own for tests that import Airflow, set before it is imported."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="millrace-triggers-")
os.environ.setdefault("AIRFLOW_HOME", _HOME.name)


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[None]:
    """It is gone once the tests are over."""
    yield
    _HOME.cleanup()
