"""Who acts by the CLI: the person that Airflow says a token is of, never a name that somebody types."""

from __future__ import annotations

import stat
from typing import Any

import httpx
import orjson

from millrace.errors import IdentityError, ServiceError
from millrace.settings import Settings

_WHO = "/ui/auth/me"
_TIMEOUT_S = 10.0
_HOW = "`millrace login`, or set MILLRACE_AIRFLOW_TOKEN to a token that Airflow gave you"


def acting_person(settings: Settings) -> str:
    """The Airflow user name of who runs this command.

    The token comes from MILLRACE_AIRFLOW_TOKEN, else from `millrace login`; Airflow is asked whose it is.

    Raises:
        IdentityError: there is no token, or Airflow does not take it.
        ServiceError: Airflow does not answer.
    """
    return name_of(_token(settings), settings)


def bearer(settings: Settings) -> dict[str, str]:
    """Headers of a request to Airflow that is made in the name of who runs this command.

    Raises:
        IdentityError: there is no token.
    """
    return {"Authorization": f"Bearer {_token(settings)}"}


def _token(settings: Settings) -> str:
    token = settings.airflow_token.strip() or read_logins(settings).get(settings.airflow_url, "")
    if not token:
        raise IdentityError(
            "who does this? There is no token of yours", where=f"Airflow at {settings.airflow_url}", remedy=_HOW
        )
    return token


def name_of(token: str, settings: Settings) -> str:
    """The user name that Airflow has for a token.

    Raises:
        IdentityError: Airflow does not take it.
        ServiceError: Airflow does not answer.
    """
    if not token.isascii() or not token.isprintable() or " " in token:
        raise IdentityError("the token holds signs that no token has", where="MILLRACE_AIRFLOW_TOKEN", remedy=_HOW)
    answer = ask(settings, "GET", _WHO, headers={"Authorization": f"Bearer {token}"})
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise IdentityError(
            f"Airflow does not take your token: {detail_of(answer)}",
            where=f"Airflow at {settings.airflow_url}",
            remedy=_HOW,
        )
    try:
        name = str(answer.raise_for_status().json()["username"])
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"what answers does not say whose a token is ({answer.status_code})",
            where=f"{settings.airflow_url}{_WHO}",
            remedy="correct MILLRACE_AIRFLOW_URL; it is the base address of Airflow 3.3",
        ) from error
    if not name:
        raise IdentityError("Airflow has no name for your token", where=settings.airflow_url, remedy=_HOW)
    return name


def ask(settings: Settings, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to Airflow.

    Raises:
        ServiceError: it does not answer.
    """
    try:
        with httpx.Client(base_url=settings.airflow_url, timeout=_TIMEOUT_S, trust_env=False) as client:
            return client.request(method, path, **options)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(
            f"Airflow does not answer, so nobody can say who you are: {error}",
            where=settings.airflow_url,
            remedy="`make status` shows whether it runs, `make up` starts it; else correct MILLRACE_AIRFLOW_URL",
        ) from error


def detail_of(answer: httpx.Response) -> str:
    """What Airflow says about a refusal."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)


def read_logins(settings: Settings) -> dict[str, str]:
    """Address of an Airflow → token, as `millrace login` keeps them.

    Raises:
        IdentityError: the file is damaged, or others may read it.
    """
    path = settings.logins
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
            raise IdentityError(
                "other users of this machine can read your tokens",
                where=str(path),
                remedy="remove the file and `millrace login` again; the tokens in it are no secret any more",
            )
        found = orjson.loads(path.read_bytes())
        return {str(url): str(token) for url, token in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise IdentityError(
            f"the file of your tokens cannot be read: {error}",
            where=str(path),
            remedy="remove it and `millrace login` again",
        ) from error
