"""An Airflow home of its own for tests that parse DAGs, set before Airflow is imported."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_HOME = tempfile.TemporaryDirectory(prefix="millrace-dags-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")


@pytest.fixture(scope="session")
def dag_bag() -> Iterator[Any]:
    """All DAGs of the checkout."""
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(str(ROOT / "dags"), bundle_name="dags-folder")
    _HOME.cleanup()
