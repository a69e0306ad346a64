from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

import pytest

from millrace.errors import RebuildError
from millrace.training.isolation.lock import NEEDED, parse_lock
from millrace.training.isolation.software import NO_DISTRIBUTION, installed_pins, lock_text, matches, require_pinned


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


def test_a_package_that_no_distribution_brought_is_warned_of_and_cannot_be_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "loose_models.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        pins = installed_pins("loose_models", "json", "not importable at all")
    assert pins == installed_pins() | {"loose_models": NO_DISTRIBUTION}
    assert "loose_models is not installed as a distribution: a model trained with it cannot be rebuilt" in caplog.text
    assert not matches(pins)
    for refuse in (lock_text, require_pinned):
        with pytest.raises(RebuildError, match="loose_models was not installed as a distribution") as raised:
            refuse(pins)
        assert raised.value.remedy


@pytest.mark.parametrize("file", ["top_level.txt", "entry_points.txt"])
def test_a_package_is_pinned_by_the_distribution_that_names_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"top_level.txt": "our_models\n", "entry_points.txt": "[millrace.readers]\nx = our_models.reader\n"}
    about = tmp_path / "shop_of_models-2.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-of-models\nVersion: 2.5\n")
    (about / file).write_text(told[file])
    (tmp_path / "our_models.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_pins("our_models") == installed_pins() | {"shop-of-models": "2.5"}
