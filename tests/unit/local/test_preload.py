"""The preload imports what it can, names what it cannot, and starts no thread of polars."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.local.preload import MODULES, THREADED, WARM_MODULE, preload


def test_a_module_that_fails_is_named_and_the_others_are_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert preload(("json", "no_such_module_of_ours", "csv")) == ["no_such_module_of_ours"]
    said = capsys.readouterr().err
    assert "cannot preload no_such_module_of_ours" in said
    assert "preloaded 2 modules" in said


def test_threaded_libraries_stay_importable_afterwards(tmp_path: Path) -> None:
    (tmp_path / "polars.py").write_text("value = 7\n", encoding="utf-8")  # stands in for one that may be installed
    code = """
import sys
from millrace.local.preload import preload
assert preload(("polars",)) == ["polars"]
assert "polars" not in sys.modules
import polars
assert polars.value == 7
"""
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240, env=environ)


def test_the_heavy_libraries_are_on_the_list() -> None:
    assert {"airflow", "great_expectations", "feast", "evidently", "mlflow"} <= set(MODULES)
    assert not set(THREADED) & set(MODULES)
    assert WARM_MODULE not in MODULES
