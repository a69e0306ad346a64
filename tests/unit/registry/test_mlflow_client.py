from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.unit.governance.proposal import Case, lay_mlflow

from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.registry import mlflow_client
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_tracking import log_failure
from millrace.settings import Settings


def at(settings: Settings, path: Path) -> Settings:
    return dataclasses.replace(settings, mlflow_url=f"sqlite:///{path}")


def fail(settings: Settings) -> Any:
    case = Case.of(settings)
    return log_failure(case.use_case, "a", "2013-03", "one class only", settings=settings)


def test_a_file_that_is_no_database_is_told_with_a_remedy(settings: Settings, tmp_path: Path) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"no database at all " * 500)
    with pytest.raises(RegistryError, match="not a database") as raised:
        fail(at(settings, broken))
    assert not raised.value.retryable
    assert "backup" in raised.value.remedy
    assert str(broken) in raised.value.where


@pytest.mark.parametrize("seen", [False, True])
def test_a_database_damaged_inside_is_told_with_a_remedy(
    settings: Settings, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_mlflow(settings)
    path = Path(settings.mlflow_url.removeprefix("sqlite:///"))
    monkeypatch.setattr(mlflow_client, "_started", {settings.mlflow_url} if seen else set())
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(RegistryError, match="malformed") as raised:
        fail(settings)
    assert raised.value.remedy


def test_a_folder_that_cannot_be_made_is_told_with_a_remedy(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/none/here"), tmp_path / "file" / "below"):
        with pytest.raises(RegistryUnavailableError, match="cannot be made") as raised:
            connect(at(settings, folder / "mlflow.db"))
        assert "MILLRACE_MLFLOW_URL" in raised.value.remedy


def test_artifacts_that_cannot_be_written_are_told_with_a_remedy(settings: Settings) -> None:
    from tests.unit.registry.test_mlflow_tracking import log

    lay_mlflow(settings)
    (settings.var / "mlflow").mkdir(parents=True, exist_ok=True)
    (settings.var / "mlflow" / "artifacts").touch()
    with pytest.raises(RegistryUnavailableError) as raised:
        log(Case.of(settings))
    assert raised.value.remedy
