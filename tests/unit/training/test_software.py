from __future__ import annotations

from importlib import metadata

from millrace.training.lock import NEEDED, parse_lock
from millrace.training.software import installed_pins, lock_text, matches


def test_pins_are_what_is_installed_with_all_that_it_needs() -> None:
    pins = installed_pins("xgboost")
    assert {*NEEDED, "xgboost-cpu", "scipy", "pydantic-core"} <= set(pins)
    assert pins["xgboost-cpu"] == metadata.version("xgboost-cpu")
    assert not {"pytest", "mlflow", "lightgbm"} & set(pins)
    assert {"scikit-learn", "skops", "joblib"} <= set(installed_pins("sklearn"))
    assert "+" not in installed_pins("torch")["torch"]


def test_pins_make_a_lock_that_reads_back_and_tell_whether_they_hold_here() -> None:
    pins = installed_pins("lightgbm")
    assert parse_lock(lock_text(pins), where="x") == pins
    assert matches(pins)
    assert not matches({**pins, "numpy": "0.0.1"})
    assert not matches({**pins, "not-installed-anywhere": "1.0"})
