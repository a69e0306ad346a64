"""Addresses of sources: without a name and password, and as they may be told."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_CONTAINERS = {"abfs", "abfss", "adl", "wasb", "wasbs"}
"""Schemes whose part before `@` names a container."""
_WEB = {"http", "https"}


def public_address(uri: str) -> str:
    """An address as it may be told: without name and password, and without what a web address asks for or carries."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    authority, slash, path = rest.partition("/")
    if scheme.lower() not in _CONTAINERS:
        authority = authority.rpartition("@")[2]
    whole = f"{scheme}://{authority}{slash}{path}"
    return re.split(r"[?#]", whole, maxsplit=1)[0] if scheme.lower() in _WEB else whole


def without_login(uri: str) -> str:
    """The address, where it holds no name and password.

    Raises:
        ValueError: it does.
    """
    scheme, mark, rest = uri.partition("://")
    if mark and scheme.lower() not in _CONTAINERS and "@" in rest.partition("/")[0]:
        raise ValueError("an address holds no name and password; use `connection`, which keeps them in Airflow")
    return uri


Address = Annotated[str, AfterValidator(without_login)]
