from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.children import in_children, statuses
from tests.unit.governance.proposal import Case, lay_mlflow

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.registry.base import RunContent, TrainingInput
from millrace.registry.mlflow_alias import get_aliases, set_alias
from millrace.registry.mlflow_client import connect
from millrace.registry.mlflow_registry import register_version
from millrace.registry.mlflow_tracking import log_candidate, log_failure, note_training_run
from millrace.registry.requirement import requirements_of
from millrace.settings import Settings

PARAMS = {"rounds": 200, "hidden": [128, 64], "trainer": "xgboost", "subsample": 0.8}
METRICS = {"train_auc": 0.75, "seconds": 1.5}
ROUNDS = 2000


@pytest.fixture
def case(settings: Settings) -> Case:
    lay_mlflow(settings)
    return Case.of(settings)


def log(
    case: Case, name: str = "a", holdout: str = "2013-03", *, run_key: str = "", content: RunContent | None = None
) -> str:
    evaluation = case.evaluation(name, holdout)
    return log_candidate(
        case.use_case,
        evaluation.challenger,
        PARAMS,
        METRICS,
        case.seal(evaluation),
        settings=case.settings,
        run_key=run_key,
        content=content,
    )


def content_of(case: Case) -> RunContent:
    plot = case.settings.var / "history.html"
    plot.write_text("<svg/>", encoding="utf-8")
    return RunContent(
        started=1_700_000_000_000,
        ended=1_700_000_060_000,
        curves={"train_logloss": [(step, 1 / (step + 1)) for step in range(ROUNDS)]},
        samples=[(1_700_000_001_000, {"cpu_utilization_percentage": 80.0})],
        input=TrainingInput(
            ref=DatasetRef(table="flight_delay/training_set/v2", version=4, digest="d" * 64),
            uri="file:///lake/a b",
            columns={"distance": "double", "carrier": "string"},
            rows=10,
            partitions=["2013-01"],
        ),
        files=[("tuning", plot)],
    )


def die_while_logging(case: Case, call: str) -> None:
    """At the first call of its kind, or at the second where the first is that of the run above."""
    from mlflow import MlflowClient

    genuine, calls = getattr(MlflowClient, call), []

    def die_at_the_second(*args: Any, **kwargs: Any) -> Any:
        calls.append(call)
        if len(calls) > 1 or call.startswith(("log_inputs", "log_artifacts", "log_text")):
            os._exit(9)
        return genuine(*args, **kwargs)

    setattr(MlflowClient, call, die_at_the_second)
    log(case, content=content_of(case))


def register(case: Case, model: ModelRef) -> int:
    return register_version(
        case.use_case, model, tags={"x": "1"}, description="d", evidence=[], settings=case.settings
    )[0]


def runs_of(client: Any, kind: str) -> list[Any]:
    experiment = client.get_experiment_by_name("flight_delay")
    return list(client.search_runs([experiment.experiment_id], f"tags.`millrace.kind` = '{kind}'"))


def test_a_candidate_is_one_finished_run_with_its_package_params_and_tags(case: Case) -> None:
    run = connect(case.settings).get_run(log(case))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"rounds": "200", "hidden": "[128,64]", "trainer": "xgboost", "subsample": "0.8"}
    assert run.data.metrics == METRICS
    assert run.data.tags["millrace.holdout"] == "2013-03"
    stored = Path(run.info.artifact_uri.removeprefix("file://")) / "package"
    sealed = case.seal(case.evaluation("a", "2013-03"))
    for place in (stored, stored.parent):
        assert "xgboost-cpu==3.2.0" in (place / "requirements.txt").read_text()
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
        **{path.name: path.read_bytes() for path in sealed.iterdir()},
        **{name: (stored / name).read_bytes() for name in ("MLmodel", "requirements.txt")},
    }


def test_logging_the_same_again_finds_the_run(case: Case) -> None:
    assert log(case) == log(case)
    assert log(case, "b") != log(case, "a")
    assert log(case, "a", "2013-04") != log(case, "a", "2013-03")


@pytest.mark.parametrize(
    "call", ["create_run", "log_inputs", "log_batch", "log_artifacts", "log_text", "set_terminated"]
)
def test_a_run_left_by_a_killed_task_is_completed_not_doubled(case: Case, call: str) -> None:
    assert statuses(partial(die_while_logging, case, call)) == [9]
    run_id = log(case, content=content_of(case))
    client = connect(case.settings)
    runs = {kind: runs_of(client, kind) for kind in ("training", "candidate")}
    assert {kind: [run.info.status for run in found] for kind, found in runs.items()} == {
        "training": ["FINISHED"],
        "candidate": ["FINISHED"],
    }
    run = runs["candidate"][0]
    assert run.info.run_id == run_id
    assert run.data.tags["mlflow.parentRunId"] == runs["training"][0].info.run_id
    assert len(client.get_metric_history(run_id, "train_logloss")) == ROUNDS
    assert len(run.inputs.dataset_inputs) == 1


def test_curves_of_many_rounds_go_in_few_calls_and_samples_keep_their_times(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    genuine, sizes = MlflowClient.log_batch, []

    def counted(self: Any, run_id: str, metrics: Sequence[Any] = (), **kwargs: Any) -> Any:
        sizes.append(len(metrics))
        return genuine(self, run_id, metrics, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    run_id = log(case, content=content_of(case))
    assert max(sizes) <= 1000
    assert len(sizes) == 3
    assert sum(sizes) == len(METRICS) + ROUNDS + 1
    client = connect(case.settings)
    history = client.get_metric_history(run_id, "train_logloss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(ROUNDS)]
    assert [point.timestamp for point in client.get_metric_history(run_id, "system/cpu_utilization_percentage")] == [
        1_700_000_001_000
    ]


def test_the_training_set_stands_as_the_runs_input(case: Case) -> None:
    run = connect(case.settings).get_run(log(case, content=content_of(case)))
    given = run.inputs.dataset_inputs[0]
    assert (given.dataset.name, given.dataset.source_type) == ("flight_delay/training_set/v2", "delta_table")
    assert json.loads(given.dataset.source) == {"path": "file:///lake/a b", "delta_table_version": 4}
    assert json.loads(given.dataset.profile)["digest"] == "d" * 64
    assert [column["name"] for column in json.loads(given.dataset.schema)["mlflow_colspec"]] == ["distance", "carrier"]
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_060_000)


def test_candidates_that_finish_at_once_lie_under_one_training_run(case: Case) -> None:
    works = [partial(log, case, name, run_key="flight_delay_train/manual__1") for name in ("a", "b", "c")]
    assert statuses(*works) == [0, 0, 0]
    client = connect(case.settings)
    parents = runs_of(client, "training")
    assert [run.data.tags["millrace.training_run"] for run in parents] == ["flight_delay_train/manual__1"]
    above = {run.data.tags["mlflow.parentRunId"] for run in runs_of(client, "candidate")}
    assert above == {parents[0].info.run_id}
    again = log(case, "a", run_key="flight_delay_train/manual__2")
    assert again not in {run.info.run_id for run in runs_of(client, "candidate")[1:]} | above


def test_a_candidate_that_failed_is_a_failed_run_with_the_reason(case: Case) -> None:
    for reason in ("no rows", "one class only"):
        run_id = log_failure(case.use_case, "torch", "2013-03", reason, settings=case.settings, run_key="r")
    client = connect(case.settings)
    run = client.get_run(run_id)
    assert [found.info.run_id for found in runs_of(client, "failure")] == [run_id]
    assert (run.info.status, run.data.tags["mlflow.note.content"]) == ("FAILED", "one class only")
    note_training_run(
        case.use_case, "2013-03", {"millrace.challenger": "a"}, {"a.auc": 0.7}, settings=case.settings, run_key="r"
    )
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.data.tags["millrace.challenger"], parent.data.metrics) == ("a", {"a.auc": 0.7})


def test_a_package_is_one_version_whoever_registers_it_at_once(case: Case) -> None:
    model = dataclasses.replace(case.evaluation("a", "2013-03").challenger, run_id=log(case))
    ended = in_children(*[partial(register, case, model)] * 3)
    assert [child.answer for child in ended] == [1, 1, 1], ended
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
    about = '"library": {"name": "sklearn", "version": "1.9.0"}'
    for model_format, names in (
        ("imported-zip", ["polars", "scikit-learn", "skops"]),
        ("sklearn-skops", ["scikit-learn", "skops"]),
    ):
        (tmp_path / "manifest.json").write_text(f'{{{about}, "model": {{"format": "{model_format}"}}}}')
        assert [line.split("==")[0] for line in requirements_of(tmp_path)] == ["numpy", *names]
    (tmp_path / "manifest.json").unlink()
    assert [line.split("==")[0] for line in requirements_of(tmp_path)] == ["numpy"]


def test_a_request_to_the_server_does_not_load_feast(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom millrace.settings import Settings\n"
        "from millrace.registry.mlflow_client import answering, connect\n"
        "from millrace.errors import RegistryUnavailableError\n"
        "s = Settings.load({'MILLRACE_VAR': sys.argv[1], 'MILLRACE_MLFLOW_URL': 'http://127.0.0.1:9'})\n"
        "try:\n"
        "    with answering('x', s): connect(s).get_registered_model('x')\n"
        "except RegistryUnavailableError: print('feast' in sys.modules, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["False", "False"], done.stderr
