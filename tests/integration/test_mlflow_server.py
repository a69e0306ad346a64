"""Logging, registration and aliases against MLflow's real server, as the demo runs it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ports import reserved_port
from tests.unit.governance.proposal import Case, empty_mlflow

from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.governance.ledger import Ledger
from millrace.registry.base import RunContent
from millrace.registry.mlflow_alias import delete_alias, get_aliases, set_alias
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_tracking import log_candidate
from millrace.settings import Settings
from millrace.step.approval import approve_by_policy
from millrace.step.registry import register_model
from millrace.step.release import release_model

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]


@dataclasses.dataclass
class Restartable:
    """A server that a test may kill and start again at the same place."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(self.folder / "files")),
        ]
        silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                argv, env={**os.environ, **silent}, stdout=log, stderr=log, start_new_session=True
            )
        _wait(self.url, self.process, self.folder / "log")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started_in(tmp_path_factory.mktemp("mlflow server")) as started:
        yield started.url


@pytest.fixture
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    with started_in(tmp_path_factory.mktemp("mlflow to kill")) as started:
        yield started


@contextmanager
def started_in(folder: Path) -> Iterator[Restartable]:
    (folder / "mlflow.db").write_bytes(empty_mlflow())
    with reserved_port() as port:
        server = Restartable(folder, port)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text()[-2000:])


def test_a_model_goes_through_the_server_and_comes_back_byte_for_byte(
    server: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.artifacts import download_artifacts

    case = Case.of(dataclasses.replace(settings, mlflow_url=server))
    evaluation = case.evaluation("a", "2013-03")
    sealed = case.seal(evaluation)
    started = time.process_time(), time.monotonic()
    runs = {
        log_candidate(case.use_case, evaluation.challenger, {"a": 1}, {"auc": 0.7}, sealed, settings=case.settings)
        for _ in range(2)
    }
    assert len(runs) == 1
    card = settings.var / "evidence" / f"{evaluation.evidence}.html"
    evaluation = dataclasses.replace(evaluation, card=str(card))
    verdict = case.judge(evaluation)
    registered = [
        register_model(case.use_case, case.domain, evaluation, verdict, settings=case.settings) for _ in range(2)
    ]
    assert registered[0] == registered[1]
    approval = approve_by_policy(case.use_case, case.policy, evaluation, verdict, settings=case.settings)
    release_model(case.use_case, case.policy, evaluation, verdict, registered[0], approval, settings=case.settings)
    print(f"cpu {time.process_time() - started[0]:.2f} s, wall {time.monotonic() - started[1]:.2f} s")
    assert get_aliases("flight_delay", settings=case.settings) == {"challenger": 1, "champion": 1}
    client = connect(case.settings)
    kept = {Path(item.path).name for item in client.list_artifacts(registered[0].run_id, "evidence")}
    assert kept == {card.with_suffix(kind).name for kind in (".json", ".html", ".md")}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    loaded = Path(download_artifacts("models:/flight_delay@champion", dst_path=str(tmp_path / "got")))
    for path in sealed.iterdir():
        assert (loaded / path.name).read_bytes() == path.read_bytes()
    assert Ledger(case.settings).verify().verified


def test_aliases_are_moved_by_http_as_mlflows_own_client_moves_them(server: str, settings: Settings) -> None:
    served = dataclasses.replace(settings, mlflow_url=server)
    client = connect(served)
    assert get_aliases("moved", settings=served) == {}
    with pytest.raises(RegistryError, match="no version 1 of 'moved'"):
        set_alias("moved", "champion", 1, settings=served)
    client.create_registered_model("moved")
    for _ in range(2):
        client.create_model_version("moved", "s3://packages/1", await_creation_for=0)
    assert set_alias("moved", "champion", 1, settings=served)
    assert not set_alias("moved", "champion", 1, settings=served)
    client.set_registered_model_alias("moved", "champion", "2")
    assert get_aliases("moved", settings=served) == {"champion": 2}
    with pytest.raises(RegistryError, match="no version 9"):
        set_alias("moved", "champion", 9, settings=served)
    delete_alias("moved", "champion", settings=served)
    delete_alias("moved", "champion", settings=served)
    assert client.get_registered_model("moved").aliases == {}


def test_a_server_killed_while_a_candidate_is_logged_leaves_nothing_by_halves(
    restartable: Restartable, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    case = Case.of(dataclasses.replace(settings, mlflow_url=restartable.url))
    evaluation = case.evaluation("a", "2013-03")
    sealed = case.seal(evaluation)
    content = RunContent(curves={"train_loss": [(step, 1.0 / (step + 1)) for step in range(3000)]})

    def log() -> str:
        return log_candidate(
            case.use_case,
            evaluation.challenger,
            {"a": 1},
            {"auc": 0.7},
            sealed,
            settings=case.settings,
            run_key="flight_delay_train/manual__1",
            content=content,
        )

    genuine = MlflowClient.log_artifacts

    def kill_then_log(self: MlflowClient, *args: str) -> None:
        restartable.kill()
        genuine(self, *args)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_artifacts", kill_then_log)
        with pytest.raises(RegistryUnavailableError) as caught:
            log()
    assert caught.value.retryable
    restartable.start()
    client = connect(case.settings)
    experiment = client.get_experiment_by_name("flight_delay").experiment_id
    assert client.search_registered_models() == []
    assert {run.info.status for run in client.search_runs([experiment])} == {"RUNNING"}
    run_id = log()
    runs = client.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert len(client.get_metric_history(run_id, "train_loss")) == 3000
    beside = {"MLmodel", "requirements.txt"}
    assert {Path(item.path).name for item in client.list_artifacts(run_id, "package")} == beside | {
        path.name for path in sealed.iterdir()
    }
