"""Airflow's users of the embedded installation: who there is, in which role, with which password."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import orjson

from millrace.errors import SettingsError
from millrace.governance.person import key_of
from millrace.local.secret import keep_secret, write_private

DEFAULTS: dict[str, str] = {"admin": "admin", "operator": "op", "reviewer": "op", "viewer": "viewer"}
"""User → role. Besides `admin`, who owns the demo's use cases, two people may approve: what `high` asks for."""
ROLES = ("viewer", "user", "op", "admin")
"""Roles of Airflow's simple auth manager, each of which may do what the ones before it may."""
USERS = "MILLRACE_USERS"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_NOBODY = "system"


def choose_users(environ: Mapping[str, str], previous: Mapping[str, str] | None = None) -> dict[str, str]:
    """The default users and those that are set, else those of last time.

    Args:
        environ: may name more in `MILLRACE_USERS`, as `name:role`, with commas; a default user's role may be another.
        previous: users of the last start, kept where the variable is not set; an empty one leaves the defaults.

    Raises:
        SettingsError: a name or a role is none, one name is there twice, or `admin`, whom Millrace itself starts runs
            as, would lose the role.
    """
    text = environ.get(USERS)
    if text is None:
        return {**DEFAULTS, **(previous or {})}
    given: dict[str, str] = {}
    for name, role in (_named(item.strip()) for item in text.split(",") if item.strip()):
        if name in given:
            raise _fault(f"{name!r} is there twice", "name everybody once, in one role")
        given[name] = role
    users = {**DEFAULTS, **given}
    if users["admin"] != "admin":
        raise _fault("admin stays an admin: Millrace starts runs as that user", "give somebody else that role")
    seen: dict[str, str] = {}
    for name in users:
        if (other := seen.setdefault(key_of(name), name)) != name:
            raise _fault(f"{other!r} and {name!r} are one person's name in two spellings", "take one of them out")
    return users


def keep_passwords(path: Path, users: Mapping[str, str]) -> None:
    """Write a random password for everyone who has none yet; those that are there stay as they are.

    Raises:
        SettingsError: the file is no JSON object.
    """
    text = keep_secret(path, lambda: _dump({}))
    try:
        known = dict(orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"damaged: {error}", where=str(path), remedy="mend it, or remove it to have new passwords made"
        ) from error
    new = {user: secrets.token_urlsafe(9) for user in users if user not in known}
    if new:
        write_private(path, _dump({**known, **new}).encode())


def _dump(passwords: Mapping[str, str]) -> str:
    return orjson.dumps(dict(passwords), option=orjson.OPT_INDENT_2).decode()


def _named(item: str) -> tuple[str, str]:
    name, separator, role = item.partition(":")
    if not separator or role not in ROLES:
        raise _fault(f"{item!r} is no user and role", f"write name:role, such as anna:op; roles: {', '.join(ROLES)}")
    if not _NAME.fullmatch(name):
        raise _fault(
            f"{name!a} is no user's name", "use letters, digits and . _ @ + -, beginning with a letter or digit"
        )
    if key_of(name) == _NOBODY:
        raise _fault(f"{name!r} stands for nobody in the ledger", "take another name")
    return name, role


def _fault(what: str, remedy: str) -> SettingsError:
    return SettingsError(what, where=USERS, remedy=remedy)
