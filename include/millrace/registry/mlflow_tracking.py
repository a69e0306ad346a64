"""Runs in MLflow: one a sealed package and its training inputs, however often it is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from millrace.artifact import ModelRef, canonical, digest_of
from millrace.governance.git_tree import git_tree
from millrace.governance.state import exclusive
from millrace.registry.base import PACKAGE_TAG
from millrace.registry.mlflow_client import answering, artifact_root, connect, is_fault, quote
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
_INPUTS_TAG = "millrace.inputs"
_PARAMS_A_BATCH = 100
_DISTRIBUTIONS = {"xgboost": "xgboost-cpu", "sklearn": "scikit-learn"}
_FOLDER = "package"


def log_candidate(
    use_case: UseCaseSpec,
    model: ModelRef,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    package_dir: Path,
    *,
    settings: Settings,
) -> str:
    """Log a sealed package as a run of the use case's experiment; the same package on the same inputs is one run.

    A run that was left half-written by a task that died is completed, not doubled.

    Args:
        use_case: its use case.
        model: the package.
        params: parameters of the trainer.
        metrics: figures of the training.
        package_dir: folder of the package; its files are logged as they are.
        settings: the installation.

    Returns:
        The run's id.

    Raises:
        RegistryUnavailableError: MLflow does not answer; a retry goes on where this one stopped.
    """
    client = connect(settings)
    inputs = digest_of(
        {"params": params, "candidate": model.candidate, "through": model.trained_through, "holdout": model.holdout}
    )
    with answering(f"run of {model.candidate}, use case {use_case.name}", settings):
        experiment = _experiment(client, use_case.name, settings)
        tags = {PACKAGE_TAG: model.digest, _INPUTS_TAG: inputs}
        run = _find(client, experiment, tags)
        if run is not None and run.info.status == "FINISHED":
            log.info("mlflow run %s holds package %s already", run.info.run_id, model.digest)
            return str(run.info.run_id)
        if run is None:
            run = client.create_run(
                experiment, run_name=f"{model.candidate} {model.holdout}", tags=_tags(model, tags, settings)
            )
        run_id = str(run.info.run_id)
        _log_batches(client, run_id, params, metrics)
        client.log_artifacts(run_id, str(package_dir), _FOLDER)
        client.log_text(run_id, "\n".join(requirements_of(package_dir)) + "\n", "requirements.txt")
        client.set_terminated(run_id)
    log.info("mlflow run %s: package %s of %s", run_id, model.digest, model.candidate)
    return run_id


def find_run(client: Any, use_case: str, model: ModelRef) -> str:
    """The finished run that a package was logged as ("" where there is none)."""
    if model.run_id:
        return model.run_id
    experiment = client.get_experiment_by_name(use_case)
    run = None if experiment is None else _find(client, experiment.experiment_id, {PACKAGE_TAG: model.digest})
    return "" if run is None or run.info.status != "FINISHED" else str(run.info.run_id)


def requirements_of(package_dir: Path) -> list[str]:
    """What loading the package's model needs, pinned: from its manifest, not by inference."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        library = orjson.loads((package_dir / "manifest.json").read_bytes()).get("library", {})
    except (OSError, orjson.JSONDecodeError, AttributeError):
        library = {}
    pins = {"numpy": version("numpy")}
    if name := str(library.get("name", "")):
        distribution = _DISTRIBUTIONS.get(name, name)
        try:
            version(distribution)
        except PackageNotFoundError:
            distribution = name
        # A local build (`2.13.0+cpu`) is found on no index; the public part of its version is.
        pins[distribution] = str(library.get("version", "")).split("+")[0]
    return [f"{name}=={pin}" for name, pin in sorted(pins.items()) if pin]


def _experiment(client: Any, name: str, settings: Settings) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        with exclusive(settings, f"mlflow.experiment.{name}"):
            try:
                root = artifact_root(settings)
                return str(client.create_experiment(name, artifact_location=root and f"{root}/{name}"))
            except MlflowException as error:
                if not is_fault(error, "RESOURCE_ALREADY_EXISTS"):
                    raise
                found = client.get_experiment_by_name(name)
    return str(found.experiment_id)


def _find(client: Any, experiment: str, tags: Mapping[str, str]) -> Any:
    """The run with these tags: a finished one before one that was left, the oldest first."""
    wanted = " and ".join(f"tags.`{name}` = {quote(value)}" for name, value in tags.items())
    runs = client.search_runs([experiment], wanted, order_by=["attributes.start_time ASC"], max_results=50)
    return next(iter(sorted(runs, key=lambda run: run.info.status != "FINISHED")), None)


def _tags(model: ModelRef, tags: Mapping[str, str], settings: Settings) -> dict[str, str]:
    tree = git_tree(settings.root)
    named = {
        "candidate": model.candidate,
        "trainer": model.trainer,
        "trained_through": model.trained_through,
        "holdout": model.holdout,
    }
    return {
        **tags,
        **{f"millrace.{name}": value for name, value in named.items()},
        "millrace.tree": tree.state,
        **({"mlflow.source.git.commit": tree.commit} if tree.commit else {}),
    }


def _log_batches(client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric, Param

    moment = int(time.time() * 1000)
    figures = [Metric(name, float(value), moment, 0) for name, value in sorted(metrics.items())]
    values = [Param(name, _text(value)) for name, value in sorted(params.items())]
    parts: Sequence[list[Any]] = [
        values[start : start + _PARAMS_A_BATCH] for start in range(0, len(values), _PARAMS_A_BATCH)
    ] or [[]]
    for number, part in enumerate(parts):
        client.log_batch(run_id, metrics=figures if number == 0 else [], params=part, synchronous=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()
