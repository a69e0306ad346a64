"""Model versions and aliases in MLflow: one version a package, whatever happens between two calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.artifact import ModelRef
from millrace.errors import RegistryError
from millrace.governance.state import exclusive
from millrace.registry.base import PACKAGE_TAG
from millrace.registry.mlflow_client import answering, connect, is_fault, one_attempt, quote
from millrace.registry.mlflow_tracking import find_run
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
_EVIDENCE = "evidence"


def register_version(
    use_case: UseCaseSpec,
    model: ModelRef,
    *,
    tags: Mapping[str, str],
    description: str,
    evidence: Sequence[Path],
    settings: Settings,
) -> tuple[int, str]:
    """Register a package as a version of the use case's model, and put evidence beside it; version and run id.

    The version carries the package's digest from the moment it exists, and versions of one model are made one at a
    time: whoever comes again, also after a kill, finds it.

    Args:
        use_case: names the registered model.
        model: the package.
        tags: tags of the version, beside the package's digest.
        description: sentence for people.
        evidence: files to keep with the run.
        settings: the installation.

    Raises:
        RegistryError: the package was never logged.
        RegistryUnavailableError: MLflow does not answer.
    """
    client = connect(settings)
    with answering(f"registered model {use_case.name}", settings):
        run_id = find_run(client, use_case.name, model)
        if not run_id:
            raise RegistryError(
                f"package {model.digest} was never logged to MLflow",
                where=f"experiment {use_case.name}",
                remedy="run the task that trained it again",
            )
        version = find_version(client, use_case.name, model.digest)
        _attach(client, run_id, evidence)
        if version is None:
            wanted = {**tags, PACKAGE_TAG: model.digest}
            with exclusive(settings, f"mlflow.version.{use_case.name}"):
                version = find_version(client, use_case.name, model.digest) or _create(
                    client, use_case, run_id, wanted, description
                )
        present = dict(version.tags)
        for name, value in sorted(tags.items()):
            if present.get(name) != value:
                client.set_model_version_tag(use_case.name, str(version.version), name, value)
    return int(version.version), run_id


def find_version(client: Any, name: str, digest: str) -> Any:
    """The version of a model that holds a package; the first one, were there ever two."""
    found = client.search_model_versions(f"name = {quote(name)} and tag.`{PACKAGE_TAG}` = {quote(digest)}")
    return min(found, key=lambda version: int(version.version), default=None)


def _create(client: Any, use_case: UseCaseSpec, run_id: str, tags: Mapping[str, str], description: str) -> Any:
    from mlflow.exceptions import MlflowException

    source = f"{client.get_run(run_id).info.artifact_uri}/package"
    try:
        client.create_registered_model(use_case.name, description=use_case.description)
    except MlflowException as error:
        if not is_fault(error, "RESOURCE_ALREADY_EXISTS"):
            raise
    with one_attempt():
        made = client.create_model_version(
            use_case.name,
            source,
            run_id=run_id,
            tags=dict(tags),
            description=description,
            await_creation_for=0,
        )
    log.info("mlflow model %s: version %s registered from run %s", use_case.name, made.version, run_id)
    return made


def _attach(client: Any, run_id: str, files: Sequence[Path]) -> None:
    if not files:
        return
    present = {Path(item.path).name for item in client.list_artifacts(run_id, _EVIDENCE)}
    for path in files:
        if path.name not in present:
            client.log_artifact(run_id, str(path), _EVIDENCE)
