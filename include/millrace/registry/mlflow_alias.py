"""MLflow's aliases: what each names, and moving them; a server is asked without importing MLflow, which is slow."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.governance.state import exclusive
from millrace.registry.mlflow_client import answering, connect, is_fault
from millrace.settings import Settings

log = logging.getLogger(__name__)
_API = "/api/2.0/mlflow/registered-models"
_TIMEOUT_S = 10.0
_AWAY = frozenset({429, 500, 502, 503, 504})
_NO_SUCH = "RESOURCE_DOES_NOT_EXIST"
_NO_MLFLOW = "what answers at its address is no MLflow"


class _NotByHttpError(Exception):
    """The server wants what only MLflow's client knows: credentials, certificates."""


@contextlib.contextmanager
def moving_aliases(use_case: str, settings: Settings) -> Iterator[None]:
    """Hold the right to decide what the aliases of a use case name, from the ledger's entry to MLflow's alias.

    Whoever compares the two outside of it would take an alias that is about to follow for one that was moved by hand.
    """
    with exclusive(settings, f"mlflow.aliases.{use_case}"):
        yield


def get_aliases(use_case: str, *, settings: Settings) -> dict[str, int]:
    """Alias → version, as MLflow has them; empty where it has no such model.

    Raises:
        RegistryUnavailableError: MLflow does not answer.
    """
    try:
        found = _ask(settings, "GET", "/get", use_case, params={"name": use_case})
    except _NotByHttpError:
        return _aliases_by_client(use_case, settings)
    if found is None:
        return {}
    try:
        named = found["registered_model"].get("aliases", [])
        return {str(item["alias"]): int(item["version"]) for item in named}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unavailable(_NO_MLFLOW, f"aliases of {use_case} at {settings.mlflow_url}") from error


def set_alias(use_case: str, alias: str, version: int, *, settings: Settings) -> bool:
    """Let an alias name a version; False where it does already.

    Raises:
        RegistryError: no such model or version.
        RegistryUnavailableError: MLflow does not answer.
    """
    aliases = get_aliases(use_case, settings=settings)
    if aliases.get(alias) == version:
        return False
    wanted = {"name": use_case, "alias": alias, "version": str(version)}
    try:
        if _ask(settings, "POST", "/alias", use_case, json=wanted) is None:
            raise RegistryError(
                f"MLflow has no version {version} of {use_case!r}",
                where=f"alias {alias} of {use_case} at {settings.mlflow_url}",
                remedy="register the model again: clear `register_model` of the training run that made it",
            )
    except _NotByHttpError:
        client = connect(settings)
        with answering(f"alias {alias} of {use_case}", settings):
            client.set_registered_model_alias(use_case, alias, str(version))
    log.info("mlflow alias %s of %s: version %s, before %s", alias, use_case, version, aliases.get(alias, "none"))
    return True


def delete_alias(use_case: str, alias: str, *, settings: Settings) -> None:
    """Let an alias name nothing.

    Raises:
        RegistryError: MLflow refuses.
        RegistryUnavailableError: MLflow does not answer.
    """
    try:
        _ask(settings, "DELETE", "/alias", use_case, json={"name": use_case, "alias": alias})
    except _NotByHttpError:
        client = connect(settings)
        with answering(f"alias {alias} of {use_case}", settings):
            client.delete_registered_model_alias(use_case, alias)
    log.info("mlflow alias %s of %s: deleted", alias, use_case)


def _aliases_by_client(use_case: str, settings: Settings) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    with answering(f"aliases of {use_case}", settings):
        try:
            found = client.get_registered_model(use_case).aliases
        except MlflowException as error:
            if is_fault(error, _NO_SUCH):
                return {}
            raise
    return {alias: int(version) for alias, version in found.items()}


def _ask(settings: Settings, method: str, path: str, use_case: str, **options: Any) -> Mapping[str, Any] | None:
    """What MLflow's REST API answers; None where it has no such thing.

    Raises:
        _NotByHttpError: no plain HTTP server, or one that wants to know who asks.
        RegistryUnavailableError: it does not answer, or something else does.
        RegistryError: it refuses.
    """
    if not settings.mlflow_url.startswith("http://"):
        raise _NotByHttpError
    where = f"aliases of {use_case} at {settings.mlflow_url}"
    try:
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = client.request(method, f"{settings.mlflow_url.rstrip('/')}{_API}{path}", **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unavailable(str(error) or type(error).__name__, where) from error
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise _NotByHttpError
    told = _document(answer)
    if answer.is_success:
        if told is None:
            raise _unavailable(_NO_MLFLOW, where)
        return told
    told = told or {}
    if told.get("error_code") == _NO_SUCH:
        return None
    if answer.status_code in _AWAY or not told:
        raise _unavailable(f"{answer.status_code} {told.get('message', '')}".strip(), where)
    raise RegistryError(
        f"MLflow refuses: {told.get('message', answer.status_code)}", where=where, remedy="correct what it names"
    )


def _document(answer: httpx.Response) -> dict[str, Any] | None:
    """The JSON object that an answer holds; None where it holds none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _unavailable(what: str, where: str) -> RegistryUnavailableError:
    return RegistryUnavailableError(
        f"MLflow does not answer: {what[:300]}",
        where=where,
        remedy="see that its server runs (`millrace status`) and that MILLRACE_MLFLOW_URL is its address, "
        "then run it again",
    )
