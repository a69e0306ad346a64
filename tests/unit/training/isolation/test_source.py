from __future__ import annotations

from pathlib import Path

import pytest

import millrace
from millrace.training.isolation import source
from millrace.training.isolation.source import code_digest, package_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a trainer that lies beside, with one of its own below it."""
    folder = tmp_path / "house_models"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "inner" / "__init__.py").touch()
    (folder / "inner" / "reader.py").write_text("scale = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def named(trainer: str) -> str:
    code_digest.cache_clear()
    return code_digest(trainer)


def test_changed_code_of_a_trainers_package_is_another_job(package: Path) -> None:
    first = package_digest("house_models")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert package_digest("house_models") == first
    (package / "inner" / "reader.py").write_text("scale = 2\n")
    second = package_digest("house_models")
    assert second != first
    (package / "inner" / "reader.py").rename(package / "inner" / "readers.py")
    assert package_digest("house_models") not in (first, second)


@pytest.mark.full
def test_code_of_a_trainer_outside_is_named_beside_ours(package: Path) -> None:
    first = named("house_models.trainer:Own")
    assert named("house_models.trainer:Own") == first
    (package / "inner" / "reader.py").write_text("scale = 2\n")
    assert named("house_models.trainer:Own") != first
    assert named("xgboost") == named("lightgbm") != first


def test_a_trainer_in_one_module_counts_too_and_an_unknown_one_has_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "lone_models.py"
    module.write_text("a = 1\n")
    first = package_digest("lone_models")
    module.write_text("a = 2\n")
    assert package_digest("lone_models") not in ("", first)
    assert package_digest("nobody_has_this") == ""
    assert package_digest("sys") == ""


def test_all_of_our_code_that_trains_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("training/boosting", "package"):
        (tmp_path / name).mkdir(parents=True)
    ours = tmp_path / "training" / "boosting" / "xgboost_trainer.py"
    ours.write_text("rounds = 1\n")
    monkeypatch.setattr(source.millrace, "__file__", str(tmp_path / "__init__.py"))
    first = named("xgboost")
    ours.write_text("rounds = 2\n")
    assert named("xgboost") != first
    monkeypatch.undo()
    assert named("xgboost") != first
    assert millrace.__file__
