"""Candidates in MLflow: one run a sealed package in a training run, however often it is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace.artifact import ModelRef, digest_of
from millrace.governance.git_tree import git_tree
from millrace.registry.base import PACKAGE_TAG, RunContent
from millrace.registry.mlflow_client import answering, connect
from millrace.registry.mlflow_dataset import dataset_input
from millrace.registry.mlflow_figure import log_figures
from millrace.registry.mlflow_pyfunc import RECORD, model_record
from millrace.registry.mlflow_run import KIND_TAG, TRAINING_TAG, open_experiment, search_run
from millrace.registry.requirement import requirements_of
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
_INPUTS_TAG = "millrace.inputs"
_FOLDER = "package"
_REASON_LENGTH = 4000


def log_candidate(
    use_case: UseCaseSpec,
    model: ModelRef,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    package_dir: Path,
    *,
    settings: Settings,
    run_key: str = "",
    content: RunContent | None = None,
) -> str:
    """Log a sealed package as a run under its training run; the same package on the same inputs is one run there.

    A run that was left half-written by a task that died is completed, not doubled: it counts as finished only when
    everything is in it.

    Args:
        use_case: its use case.
        model: the package.
        params: parameters of the trainer.
        metrics: figures of the training.
        package_dir: folder of the package; its files are logged as they are.
        settings: the installation.
        run_key: names the training run it belongs to; by default the one of its holdout.
        content: curves, samples, training set and further files.

    Returns:
        The run's id.

    Raises:
        RegistryUnavailableError: MLflow does not answer; a retry goes on where this one stopped.
    """
    client, content = connect(settings), content or RunContent()
    inputs = digest_of(
        {"params": params, "candidate": model.candidate, "through": model.trained_through, "holdout": model.holdout}
    )
    key = run_key or default_run_key(use_case, model.holdout)
    tags = {PACKAGE_TAG: model.digest, _INPUTS_TAG: inputs, TRAINING_TAG: key, KIND_TAG: "candidate"}
    with answering(f"run of {model.candidate}, use case {use_case.name}", settings):
        experiment = open_experiment(client, use_case.name, settings)
        parent = experiment.open_training_run(key, name=_title(use_case, model.holdout))
        run = experiment.open_run(
            tags,
            _tags(model, settings),
            name=f"{model.candidate} {model.holdout}",
            parent=parent,
            started=content.started,
        )
        run_id = str(run.info.run_id)
        if run.info.status == "FINISHED":
            log.info("mlflow run %s holds package %s already", run_id, model.digest)
        else:
            _fill(client, run, params, metrics, package_dir=package_dir, content=content)
            client.set_terminated(run_id, end_time=content.ended or None)
        client.set_terminated(parent)
    log.info("mlflow run %s: package %s of %s", run_id, model.digest, model.candidate)
    return run_id


def log_failure(
    use_case: UseCaseSpec, candidate: str, holdout: str, reason: str, *, settings: Settings, run_key: str = ""
) -> str:
    """Log that a candidate did not train, as a failed run beside the others of its training run; the run's id.

    Raises:
        RegistryUnavailableError: MLflow does not answer.
    """
    client = connect(settings)
    key = run_key or default_run_key(use_case, holdout)
    tags = {TRAINING_TAG: key, KIND_TAG: "failure", "millrace.candidate": candidate}
    with answering(f"failure of {candidate}, use case {use_case.name}", settings):
        experiment = open_experiment(client, use_case.name, settings)
        parent = experiment.open_training_run(key, name=_title(use_case, holdout))
        run = experiment.open_run(tags, {"millrace.holdout": holdout}, name=f"{candidate} {holdout}", parent=parent)
        run_id = str(run.info.run_id)
        client.set_tag(run_id, "mlflow.note.content", reason[:_REASON_LENGTH])
        client.set_terminated(run_id, status="FAILED")
        client.set_terminated(parent)
    log.info("mlflow run %s: %s of %s failed", run_id, candidate, use_case.name)
    return run_id


def note_training_run(
    use_case: UseCaseSpec,
    holdout: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    *,
    settings: Settings,
    run_key: str = "",
) -> str:
    """Put tags and figures of the evaluation on the training run itself; its id.

    Raises:
        RegistryUnavailableError: MLflow does not answer.
    """
    from mlflow.entities import RunTag

    client = connect(settings)
    key = run_key or default_run_key(use_case, holdout)
    with answering(f"training run of {use_case.name}", settings):
        experiment = open_experiment(client, use_case.name, settings)
        run_id = experiment.open_training_run(key, name=_title(use_case, holdout))
        run = client.get_run(run_id)
        log_figures(client, run, {}, metrics, RunContent())
        marks = [RunTag(name, value) for name, value in sorted(tags.items())]
        client.log_batch(run_id, tags=marks, synchronous=True)
        client.set_terminated(run_id)
    return run_id


def find_run(client: Any, use_case: str, model: ModelRef) -> str:
    """The finished run that a package was logged as ("" where there is none)."""
    if model.run_id:
        return model.run_id
    experiment = client.get_experiment_by_name(use_case)
    run = None if experiment is None else search_run(client, experiment.experiment_id, {PACKAGE_TAG: model.digest})
    return "" if run is None or run.info.status != "FINISHED" else str(run.info.run_id)


def default_run_key(use_case: UseCaseSpec, holdout: str) -> str:
    """The training run of candidates that no DAG run trains, as from a notebook."""
    return f"{use_case.name}/{holdout}"


def _fill(
    client: Any,
    run: Any,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    *,
    package_dir: Path,
    content: RunContent,
) -> None:
    run_id = str(run.info.run_id)
    started = time.perf_counter()
    if content.input is not None:
        client.log_inputs(run_id, datasets=[dataset_input(content.input)])
    log_figures(client, run, params, metrics, content)
    client.log_artifacts(run_id, str(package_dir), _FOLDER)
    pins = "\n".join(requirements_of(package_dir)) + "\n"
    made = datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(" ")
    client.log_text(run_id, model_record(package_dir, run_id=run_id, made=made, folder=_FOLDER), f"{_FOLDER}/{RECORD}")
    for place in ("requirements.txt", f"{_FOLDER}/requirements.txt"):
        client.log_text(run_id, pins, place)
    for folder, path in content.files:
        client.log_artifact(run_id, str(path), folder or None)
    log.info("mlflow run %s filled in %.2f s", run_id, time.perf_counter() - started)


def _title(use_case: UseCaseSpec, holdout: str) -> str:
    return f"{use_case.name} {holdout}"


def _tags(model: ModelRef, settings: Settings) -> dict[str, str]:
    tree = git_tree(settings.root)
    named = {
        "candidate": model.candidate,
        "trainer": model.trainer,
        "trained_through": model.trained_through,
        "holdout": model.holdout,
    }
    return {
        **{f"millrace.{name}": value for name, value in named.items()},
        "millrace.tree": tree.state,
        **({"mlflow.source.git.commit": tree.commit} if tree.commit else {}),
    }
