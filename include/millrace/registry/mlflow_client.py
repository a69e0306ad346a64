"""The connection to MLflow: explicit address, no telemetry, bounded waiting, faults told apart."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from millrace.errors import RegistryError, RegistryUnavailableError
from millrace.governance.state import exclusive
from millrace.settings import Settings

_FEAST_HEADERS = "feast.infra.data_sources.mlflow.auth"
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_DEFAULTS: dict[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    _RETRIES: "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Set where the environment says nothing else: a server that is away is known after some seconds, not four minutes."""


def connect(settings: Settings) -> Any:
    """An `MlflowClient` for the installation's tracking server, or for a database without one.

    Raises:
        RegistryUnavailableError: the database cannot be opened.
        RegistryError: it is damaged.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if is_server(settings.mlflow_url):
        from mlflow import MlflowClient

        _load_headers_without_feast()
        return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)
    return _embedded(settings)


def is_server(url: str) -> bool:
    """Whether the URL is one of a tracking server; else it is a database that MLflow opens in this process."""
    return urlsplit(url).scheme in {"http", "https"}


def artifact_root(settings: Settings) -> str | None:
    """Where artifacts lie when there is no server to say so."""
    return None if is_server(settings.mlflow_url) else (settings.var / "mlflow" / "artifacts").resolve().as_uri()


@contextlib.contextmanager
def answering(what: str, settings: Settings) -> Iterator[None]:
    """Turn MLflow's exceptions into errors of ours.

    Raises:
        RegistryUnavailableError: it does not answer, or its database does not.
        RegistryError: it refuses, or its database is damaged.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except SQLAlchemyError as error:  # MLflow passes on what its database says before its tables stand
        raise _broken(error, what, settings) from error
    except OSError as error:
        raise RegistryUnavailableError(
            f"MLflow's files cannot be read or written: {error}",
            where=f"{what} at {settings.mlflow_url}",
            remedy="see that there is room and that this user may write there, then run the task again",
        ) from error
    except MlflowException as error:
        if not _is_away(error):
            raise RegistryError(
                f"MLflow refuses: {error}", where=f"{what} at {settings.mlflow_url}", remedy="correct what it names"
            ) from error
        raise RegistryUnavailableError(
            f"MLflow does not answer: {str(error)[:300]}",
            where=f"{what} at {settings.mlflow_url}",
            remedy="see that its server runs (`millrace status`), then run the task again",
        ) from error


@contextlib.contextmanager
def one_attempt() -> Iterator[None]:
    """No retries of a request inside: MLflow also repeats those that create, and an answer lost is then two things."""
    before = os.environ.get(_RETRIES)
    os.environ[_RETRIES] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_RETRIES, None)
        else:
            os.environ[_RETRIES] = before


def is_fault(error: Exception, *codes: str) -> bool:
    """Whether an `MlflowException` has one of these error codes."""
    return getattr(error, "error_code", "") in codes


def quote(value: str) -> str:
    """A literal in MLflow's filter language, which knows no escapes.

    Raises:
        RegistryError: it holds a quote.
    """
    if "'" in value:
        raise RegistryError(f"{value!r} holds a quote", where="search in MLflow", remedy="choose another name")
    return f"'{value}'"


def _is_away(error: Exception) -> bool:
    from requests.exceptions import RequestException

    if is_fault(error, "TEMPORARILY_UNAVAILABLE"):
        return True
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RequestException):
            return True
        found = found.__cause__ or found.__context__
    return False


def _embedded(settings: Settings) -> Any:
    from mlflow import MlflowClient

    if settings.mlflow_url.startswith("sqlite:///"):
        _make_folder(Path(settings.mlflow_url.removeprefix("sqlite:///")).parent)
    _require_database(settings.mlflow_url)
    with answering("opening the database", settings):
        client = MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)
    if settings.mlflow_url not in _started:
        with exclusive(settings, "mlflow.start"), answering("opening the database", settings):
            client.search_experiments(max_results=1)
        _started.add(settings.mlflow_url)
    return client


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnavailableError(
            f"the folder of MLflow's database cannot be made: {error}",
            where=str(folder),
            remedy="correct MILLRACE_MLFLOW_URL, or make the folder writable for this user",
        ) from error


def _broken(error: SQLAlchemyError, what: str, settings: Settings) -> RegistryError:
    """What a database says that is there: it may be busy for now, or damaged for good."""
    where = f"{what} at {make_url(settings.mlflow_url).render_as_string()}"
    if not isinstance(error, OperationalError):
        return _damaged(error, where)
    return RegistryUnavailableError(
        f"MLflow's database does not answer: {_told(error)}",
        where=where,
        remedy="see that it is up and that this user may write to it, then run the task again",
    )


def _damaged(error: SQLAlchemyError, where: str) -> RegistryError:
    return RegistryError(
        f"MLflow's database cannot be read: {_told(error)}",
        where=where,
        remedy="restore it from a backup, or move it away: MLflow then begins an empty one",
    )


def _told(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def _load_headers_without_feast() -> None:
    """Load MLflow's request headers, but not the provider that Feast adds to them by an entry point.

    It would import the whole of Feast with the first request (4 s), and in a pod send the service account's token
    along, which nobody asked for; MLflow's own MLFLOW_TRACKING_* variables say who we are. `None` in `sys.modules`
    says to the import system that there is no such module.
    """
    if "mlflow.tracking.request_header.registry" in sys.modules:
        return
    before = sys.modules.get(_FEAST_HEADERS)
    sys.modules[_FEAST_HEADERS] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("mlflow.tracking.request_header.registry")
    finally:
        del sys.modules[_FEAST_HEADERS]
        if before is not None:
            sys.modules[_FEAST_HEADERS] = before


def _require_database(url: str) -> None:
    """MLflow itself tries for a hundred seconds to open what cannot be opened."""
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            if url.startswith("sqlite"):
                connection.execute(text("PRAGMA schema_version"))  # the first to look into the file
    except SQLAlchemyError as error:
        if type(error) is DatabaseError:
            raise _damaged(error, make_url(url).render_as_string()) from error
        raise RegistryUnavailableError(
            f"MLflow's database cannot be opened: {error}".splitlines()[0],
            where=make_url(url).render_as_string(),
            remedy="correct MILLRACE_MLFLOW_URL, or start the database",
        ) from error


_started: set[str] = set()
"""Databases whose tables were made or seen by this process: MLflow makes them on first use, without a lock."""
