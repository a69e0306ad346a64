"""`millrace login` and `logout`: keep a token of Airflow's, so that what a person does by the CLI bears their name."""

from __future__ import annotations

import sys
from typing import Annotated

import httpx
import orjson
import typer
from rich.console import Console

from millrace.cli.actor import ask, detail_of, name_of, read_logins
from millrace.errors import IdentityError, ServiceError
from millrace.local.secret import write_private
from millrace.settings import Settings

_console = Console()


def login(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Your Airflow user name; else it asks.")] = None,
    *,
    with_token: Annotated[
        bool, typer.Option("--with-token", help="Give a token that Airflow made for you, not name and password.")
    ] = False,
) -> None:
    """Log in to Airflow: waivers, replays and rollbacks by the CLI then bear your name.

    The password, or the token, is asked for; where the input is no terminal, it is its first line.
    """
    settings = Settings.load()
    if with_token:
        token = _secret("Token")
    else:
        name = user or str(typer.prompt("User"))
        token = _token_for(name, _secret(f"Password of {name}"), settings)
    person = name_of(token, settings)
    _keep({**read_logins(settings), settings.airflow_url: token}, settings)
    _console.print(f"logged in to {settings.airflow_url} as {person}", markup=False, soft_wrap=True)


def logout() -> None:
    """Forget the token of this Airflow."""
    settings = Settings.load()
    kept = read_logins(settings)
    known = kept.pop(settings.airflow_url, None)
    if known is not None:
        _keep(kept, settings)
    told = "logged out of" if known is not None else "nobody was logged in to"
    _console.print(f"{told} {settings.airflow_url}", markup=False, soft_wrap=True)


def _secret(what: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True)).strip()
    return sys.stdin.readline().strip()


def _token_for(user: str, password: str, settings: Settings) -> str:
    """A token of Airflow's for name and password.

    Raises:
        IdentityError: Airflow does not know them.
        ServiceError: Airflow does not answer, or not as its login does.
    """
    answer = ask(settings, "POST", "/auth/token", json={"username": user, "password": password})
    if answer.is_client_error and answer.status_code != httpx.codes.NOT_FOUND:
        raise IdentityError(
            f"Airflow gives {user!r} no token: {detail_of(answer)}",
            where=f"{settings.airflow_url}/auth/token",
            remedy="check name and password (`millrace status` prints those of an embedded installation)",
        )
    try:
        return str(answer.raise_for_status().json()["access_token"])
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"this Airflow gives no token for a name and a password ({answer.status_code})",
            where=f"{settings.airflow_url}/auth/token",
            remedy="make a token in Airflow's web UI and give it to `millrace login --with-token`",
        ) from error


def _keep(tokens: dict[str, str], settings: Settings) -> None:
    settings.logins.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(settings.logins, orjson.dumps(tokens, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
