"""Where heavy work runs: in this process, or on Ray."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from millrace.engine.base import Engine
from millrace.engine.local import LocalEngine
from millrace.errors import SettingsError
from millrace.spec import ComputeSpec

__all__ = ["Engine", "LocalEngine", "open_engine"]


@contextmanager
def open_engine(compute: ComputeSpec, *, address: str = "", token: str = "") -> Iterator[Engine]:
    """The engine that a domain asks for; what it started is stopped at the end.

    Args:
        compute: which engine, and what one piece of work may use.
        address: of a Ray cluster (`ray://host:port`, or `host:port` of its head); "" starts Ray on this machine.
        token: what that cluster asks for before it answers ("" where it asks for nothing).

    Raises:
        SettingsError: Ray is asked for and not installed.
    """
    if compute.engine == "local":
        yield LocalEngine()
        return
    if importlib.util.find_spec("ray") is None:
        raise SettingsError(
            "engine `ray` needs Ray, which is not installed",
            where="compute.engine",
            remedy='install the extra (`pip install -c constraints.txt -e ".[ray]"`), or set `engine: local`',
        )
    from millrace.engine.ray_engine import RayEngine

    engine = RayEngine(compute=compute, address=address, token=token)
    try:
        yield engine
    finally:
        engine.close()
