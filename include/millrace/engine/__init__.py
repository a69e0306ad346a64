"""Where heavy work runs: in this process, or on Ray."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from millrace.engine.base import Engine, RowWork
from millrace.engine.local import LocalEngine
from millrace.errors import SettingsError
from millrace.spec import ComputeSpec

if TYPE_CHECKING:
    from millrace.engine.ray_engine import RayEngine

__all__ = ["Engine", "LocalEngine", "RowWork", "open_engine", "ray_fault", "require_ray"]


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
    if fault := ray_fault(compute, where="compute.engine"):
        raise fault
    from millrace.engine.ray_engine import RayEngine

    engine = RayEngine(compute=compute, address=address, token=token)
    try:
        yield engine
    finally:
        engine.close()


def ray_fault(compute: ComputeSpec, *, where: str) -> SettingsError | None:
    """What is wrong where Ray is asked for and not installed; None where all is well.

    Args:
        compute: of a spec.
        where: its place, for the message.
    """
    if compute.engine != "ray" or importlib.util.find_spec("ray") is not None:
        return None
    return SettingsError(
        "engine `ray` needs Ray, which is not installed",
        where=where,
        remedy='install the extra (`pip install -c constraints.txt -e ".[ray]"`), or set `engine: local`',
    )


def require_ray(engine: Engine, *, where: str) -> RayEngine:
    """The engine, where it is Ray.

    Raises:
        SettingsError: it is not.
    """
    if importlib.util.find_spec("ray") is not None:
        from millrace.engine.ray_engine import RayEngine

        if isinstance(engine, RayEngine):
            return engine
    raise SettingsError("workers that train together need Ray", where=where, remedy="set `engine: ray`")
