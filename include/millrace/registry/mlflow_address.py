"""Where the files of a model lie that MLflow names by run, version, alias or id.

MLflow's own download asks the server that the process has by default for models (and makes a database in the working
folder where it has none), whatever server it is given; here all is asked of one client.
"""

from __future__ import annotations

from typing import Any

from millrace.registry.mlflow_client import is_fault, quote

_MODELS, _RUNS = "models:/", "runs:/"


def locate(address: str, client: Any) -> str:
    """Address of the files in MLflow's storage; one that names storage already stays as it is.

    Args:
        address: such as `models:/name/3`, `models:/name@champion`, `models:/m-…`, `runs:/<id>/model`.
        client: an `MlflowClient`.

    Raises:
        MlflowException: there is no such model or run.
    """
    while address.startswith((_MODELS, _RUNS)):
        address = _of_model(address, client) if address.startswith(_MODELS) else _of_run(address, client)
    return address


def _of_model(address: str, client: Any) -> str:
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    base, rest = ModelsArtifactRepository.split_models_uri(address)
    named = get_model_name_and_version(client, base)
    if len(named) == 1:
        return _join(client.get_logged_model(*named).artifact_location, rest)
    return _join(client.get_model_version_download_uri(*named), rest)


def _of_run(address: str, client: Any) -> str:
    """A model that was logged in the run under that name; else the run's artifacts."""
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    run_id, path = RunsArtifactRepository.parse_runs_uri(address)
    run = client.get_run(run_id)
    name, _, rest = (path or "").partition("/")
    model = _logged_in(run, name, client) if name else None
    return _join(run.info.artifact_uri, path or "") if model is None else _join(model.artifact_location, rest)


def _logged_in(run: Any, name: str, client: Any) -> Any:
    """The logged model of a run, None where there is none or the server is older than those."""
    from mlflow.exceptions import MlflowException

    token = None
    try:
        while True:
            page = client.search_logged_models(
                [run.info.experiment_id], filter_string=f"name = {quote(name)}", page_token=token
            )
            found = next((model for model in page if model.source_run_id == run.info.run_id), None)
            if found is not None or not page.token:
                return found
            token = page.token
    except MlflowException as error:
        if is_fault(error, "ENDPOINT_NOT_FOUND"):
            return None
        raise


def _join(folder: str, rest: str) -> str:
    return f"{folder.rstrip('/')}/{rest}" if rest else folder
