from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.governance.proposal import Case, lay_mlflow

from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_registry import get_aliases, register_version, set_alias
from millrace.registry.mlflow_tracking import log_candidate, requirements_of
from millrace.settings import Settings

PARAMS = {"rounds": 200, "hidden": [128, 64], "trainer": "xgboost", "subsample": 0.8}
METRICS = {"train_auc": 0.75, "seconds": 1.5}


@pytest.fixture
def case(settings: Settings) -> Case:
    lay_mlflow(settings)
    return Case.of(settings)


def log(case: Case, name: str = "a", holdout: str = "2013-03") -> str:
    evaluation = case.evaluation(name, holdout)
    return log_candidate(
        case.use_case, evaluation.challenger, PARAMS, METRICS, case.seal(evaluation), settings=case.settings
    )


def test_a_candidate_is_one_finished_run_with_its_package_params_and_tags(case: Case) -> None:
    run = connect(case.settings).get_run(log(case))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rounds": "200", "hidden": "[128,64]", "trainer": "xgboost", "subsample": "0.8"}
    assert run.data.metrics == METRICS
    assert run.data.tags["millrace.holdout"] == "2013-03"
    stored = Path(run.info.artifact_uri.removeprefix("file://")) / "package"
    sealed = case.seal(case.evaluation("a", "2013-03"))
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
        path.name: path.read_bytes() for path in sealed.iterdir()
    }
    assert "xgboost-cpu==3.2.0" in (stored.parent / "requirements.txt").read_text()


def test_logging_the_same_again_finds_the_run(case: Case) -> None:
    assert log(case) == log(case)
    assert log(case, "b") != log(case, "a")
    assert log(case, "a", "2013-04") != log(case, "a", "2013-03")


def test_a_run_left_by_a_killed_task_is_completed_not_doubled(case: Case) -> None:
    connect(case.settings)
    child = os.fork()
    if child == 0:
        from mlflow import MlflowClient

        MlflowClient.set_terminated = lambda *_: os._exit(9)  # type: ignore[method-assign]
        log(case)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    run_id = log(case)
    client = connect(case.settings)
    experiment = client.get_experiment_by_name("flight_delay")
    runs = client.search_runs([experiment.experiment_id])
    assert [(run.info.run_id, run.info.status) for run in runs] == [(run_id, "FINISHED")]


def test_a_package_is_one_version_whoever_registers_it_at_once(case: Case) -> None:
    model = dataclasses.replace(case.evaluation("a", "2013-03").challenger, run_id=log(case))

    def register() -> int:
        return register_version(
            case.use_case, model, tags={"x": "1"}, description="d", evidence=[], settings=case.settings
        )[0]

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = register()
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [1, 1, 1]
    versions = connect(case.settings).search_model_versions("name = 'flight_delay'")
    assert [version.version for version in versions] == [1]


def test_a_package_that_was_never_logged_is_refused(case: Case) -> None:
    model = case.evaluation("a", "2013-03").challenger
    with pytest.raises(RegistryError, match="never logged"):
        register_version(case.use_case, model, tags={}, description="", evidence=[], settings=case.settings)


def test_an_alias_moves_once_and_follows_the_version(case: Case) -> None:
    for name in ("a", "b"):
        model = dataclasses.replace(case.evaluation(name, "2013-03").challenger, run_id=log(case, name))
        register_version(case.use_case, model, tags={}, description="", evidence=[], settings=case.settings)
    assert get_aliases("nothing", settings=case.settings) == {}
    assert set_alias("flight_delay", "champion", 2, settings=case.settings)
    assert not set_alias("flight_delay", "champion", 2, settings=case.settings)
    assert set_alias("flight_delay", "champion", 1, settings=case.settings)
    assert get_aliases("flight_delay", settings=case.settings) == {"champion": 1}
    with pytest.raises(RegistryError):
        set_alias("flight_delay", "champion", 7, settings=case.settings)


def test_a_server_that_is_away_is_told_apart_and_worth_a_retry(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        away = dataclasses.replace(case, settings=dataclasses.replace(case.settings, mlflow_url=url))
        with pytest.raises(RegistryUnavailableError, match="millrace status") as caught:
            log(away)
    assert caught.value.retryable


def test_an_embedded_database_that_cannot_be_opened_is_away_too(case: Case) -> None:
    (case.settings.var / "folder").mkdir()
    broken = dataclasses.replace(case.settings, mlflow_url=f"sqlite:///{case.settings.var / 'folder'}")
    with pytest.raises(RegistryUnavailableError):
        log(dataclasses.replace(case, settings=broken))


def test_requirements_are_pinned_from_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"library": {"name": "torch", "version": "2.13.0+cpu"}}')
    assert requirements_of(tmp_path)[1:] == ["torch==2.13.0"]
    (tmp_path / "manifest.json").unlink()
    assert [line.split("==")[0] for line in requirements_of(tmp_path)] == ["numpy"]


def test_a_request_to_the_server_does_not_load_feast() -> None:
    code = (
        "import sys\nfrom millrace.settings import Settings\n"
        "from millrace.registry.mlflow_registry import get_aliases\n"
        "from millrace.errors import RegistryUnavailableError\n"
        "s = Settings.load({'MILLRACE_VAR': sys.argv[1], 'MILLRACE_MLFLOW_URL': 'http://127.0.0.1:9'})\n"
        "try: get_aliases('x', settings=s)\n"
        "except RegistryUnavailableError: print('feast' in sys.modules, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, "/tmp/nowhere"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
