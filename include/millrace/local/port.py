"""Ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from millrace.errors import SettingsError

LOOPBACK = "127.0.0.1"
DEFAULTS: dict[str, int] = {"airflow": 8080, "mlflow": 5000, "serving": 8090}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of one installation.

    Attributes:
        airflow: API server and web UI.
        mlflow: tracking server.
        serving: online service.
        moved: names whose default was taken, with the default.
    """

    airflow: int
    mlflow: int
    serving: int
    moved: dict[str, int]


def host_name() -> str:
    """What Airflow calls this machine (`[core] hostname_callable`): no name is looked up, nothing leaves loopback."""
    return "localhost"


def is_free(port: int) -> bool:
    """Whether nothing listens on `port` on any interface of this machine."""
    for family, address in ((socket.AF_INET, ""), (socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError:
            if family == socket.AF_INET6 and not _has_ipv6():
                continue
            return False
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def choose_ports(environ: Mapping[str, str], previous: Mapping[str, int] | None = None) -> Ports:
    """Find a free port for each service: as set, else as last time, else the default, else the next free one.

    Args:
        environ: may name ports in `MILLRACE_AIRFLOW_PORT`, `MILLRACE_MLFLOW_PORT` and `MILLRACE_SERVING_PORT`.
        previous: ports of the last start.

    Raises:
        SettingsError: a port that was set is not a port or is taken.
    """
    found: dict[str, int] = {}
    explicit = {name: port for name in DEFAULTS if (port := _explicit(environ, name)) is not None}
    for name, default in DEFAULTS.items():
        taken = set(found.values()) | {port for other, port in explicit.items() if other != name}
        if name in explicit:
            if explicit[name] in taken or not is_free(explicit[name]):
                raise SettingsError(
                    f"port {explicit[name]} is taken",
                    where=_variable(name),
                    remedy=f"stop what listens on it (`ss -ltnp 'sport = :{explicit[name]}'`), set another one, "
                    f"or unset {_variable(name)} to have a free one chosen",
                )
            found[name] = explicit[name]
            continue
        last = (previous or {}).get(name, default)
        wanted = [last, default, *range(default + 1, min(default + 2000, 65536))]
        chosen = next((port for port in wanted if port not in taken and is_free(port)), None)
        if chosen is None:
            raise SettingsError(f"no free port from {default} on", where=name, remedy=f"set {_variable(name)}")
        found[name] = chosen
    moved = {name: default for name, default in DEFAULTS.items() if name not in explicit and found[name] != default}
    return Ports(**found, moved=moved)


def _variable(name: str) -> str:
    return f"MILLRACE_{name.upper()}_PORT"


def _explicit(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(_variable(name), "").strip()
    if not text:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise SettingsError(f"{text!r} is not a port", where=_variable(name), remedy="give a number from 1 to 65535")
    return int(text)
