"""Fixtures every test may use: an installation of its own under a temporary folder, and a small flights domain."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from millrace.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when a library loads OpenMP; spinning threads starve others
# A busy machine draws and runs single examples slowly; pytest's own time limit is the one there is.
examples.register_profile("millrace", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
examples.load_profile("millrace")


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A copy of the specs that a test may change."""
    target = tmp_path / "dags"
    shutil.copytree(ROOT / "dags", target, ignore=shutil.ignore_patterns("flight*.py", "__pycache__"))
    return target


@pytest.fixture
def settings(tmp_path: Path, dags: Path) -> Settings:
    """An installation of its own: lake, packages and SQLite databases under the test's folder."""
    (tmp_path / "var" / "mlflow").mkdir(parents=True)
    return Settings.load(
        {
            "MILLRACE_ROOT": str(ROOT),
            "MILLRACE_VAR": str(tmp_path / "var"),
            "MILLRACE_DAGS": str(dags),
        }
    )
