"""A session with Ray: a cluster of its own on this machine's loopback, or one that runs elsewhere."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from millrace.errors import EngineError

log = logging.getLogger(__name__)
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_DASHBOARD_LOG_INFO": "1"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray then takes 127.0.0.1 for this machine's address: what it starts listens there alone."""
_OWN = {**_LOOPBACK, "RAY_task_oom_retries": "3"}
_FOLDER = "millrace-ray-"
_KEPT_S = 24 * 3600
_OBJECTS_BYTES = 256 * 2**20
_CONNECT_S = 10.0
_TRIES = 2
_STARTS = 3
_SET_BY_RAY = ("PYTHONBREAKPOINT",)
_LATE = "timed out"
_CLIENT_PORT = 10001


@contextmanager
def session(address: str, token: str) -> Iterator[None]:
    """Ray for the time of a block: started here, or connected to; what was started is gone afterwards.

    A session that this process has already is used as it is, and left as it is.

    Raises:
        EngineError: the cluster does not answer or refuses the token, or Ray does not start here.
    """
    with ExitStack() as stack:
        stack.enter_context(environment(_variables(address, token)))
        import ray

        if not ray.is_initialized():
            # What a variable of that name says is read once, when Ray is first imported.
            ray._private.ray_constants.ENABLE_RAY_CLUSTER = bool(address) and not _is_loopback(address)
            stack.enter_context(_connected(ray, address) if address else _started(ray))
        yield


@contextmanager
def _started(ray: Any) -> Iterator[None]:
    """A cluster of this process's own. Its sockets' paths must be short, so it does not lie under `var`."""
    _sweep()
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-")
    try:
        with _signal_kept(), _errors_told("this machine"):
            _read_token_anew(ray)
            _start(ray, folder)
        log.info("Ray %s started with %s", ray.__version__, _width(ray))
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        log.info("Ray stopped")


def _start(ray: Any, folder: str) -> None:
    """Ray gives its own processes half a minute to get ready, which a busy machine may need more than once."""
    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=_OBJECTS_BYTES,
                _temp_dir=folder,
            )
        except Exception as error:
            ray.shutdown()
            _end_half_started(folder)
            if not left or _LATE not in str(error):
                raise
            log.warning("Ray did not get ready in time; started again")
        else:
            return


def _end_half_started(folder: str) -> None:
    """End what a start left that failed: Ray forgets those processes until this one ends."""
    import psutil

    ended = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(folder in word for word in one.cmdline()):
                one.kill()
                ended.append(one)
    psutil.wait_procs(ended, timeout=_CONNECT_S)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    _require_answer(address)
    try:
        with _signal_kept(), _errors_told(address):
            _read_token_anew(ray)
            _join(ray, address)
        log.info("connected to Ray at %s with %s", address, _width(ray))
        yield
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    """A cluster starts a server for each client, which may take too long the first time."""
    for left in reversed(range(_TRIES)):
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except ConnectionAbortedError:
            if not left:
                raise
            log.warning("Ray at %s did not get ready for a client in time; asked again", address)
        else:
            return


def _sweep() -> None:
    """Take away what a killed session left, a day after its process was gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        try:
            gone = pid.isdecimal() and not Path("/proc", pid).exists()
            if gone and time.time() - folder.stat().st_mtime > _KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # another session swept it
            continue


def _variables(address: str, token: str) -> dict[str, str]:
    if not address:
        return {**_QUIET, **_OWN, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    asked = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    return {**_QUIET, **asked, **(_LOOPBACK if _is_loopback(address) else {})}


def _read_token_anew(ray: Any) -> None:
    """Ray keeps what it once read of mode and token; a second session of a process has another token."""
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()


def _width(ray: Any) -> str:
    found = ray.cluster_resources()
    return f"{found.get('CPU', 0):g} cores and {found.get('memory', 0) / 1e9:.1f} GB"


def _require_answer(address: str) -> None:
    """Ray itself would wait for minutes, and then end the process."""
    host, port = _parts(address)
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def own_head() -> str:
    """`<host>:<port>` of the cluster that this process is a job of; "" where it is none."""
    return os.environ.get("RAY_ADDRESS", "")


def _is_loopback(address: str) -> bool:
    host = _parts(address)[0]
    return host in {"localhost", "::1"} or host.startswith("127.")


def _parts(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or (_CLIENT_PORT if parts.scheme == "ray" else None)
        if not parts.hostname or port is None:
            raise ValueError("no host and port")
    except ValueError as error:
        raise EngineError(
            f"{address!r} is no address of a Ray cluster: {error}",
            where="compute.connection",
            remedy="write ray://<host>:10001, or <host>:6379 in the connection's extra `address`",
        ) from error
    return parts.hostname, port


@contextmanager
def _errors_told(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise _unreachable(address, error) from error
    except Exception as error:
        if type(error) is not Exception and type(error).__module__.partition(".")[0] not in {"ray", "grpc"}:
            raise
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: BaseException) -> EngineError:
    told = " ".join(str(error).split())[:300]
    return EngineError(
        f"Ray cannot be reached or started: {told or type(error).__name__}",
        where=address,
        remedy="is the cluster up, of the same Ray and Python, and is the connection's password its token? Then run "
        "the task again; or set `engine: local`",
    )


@contextmanager
def _signal_kept() -> Iterator[None]:
    """Ray sets a handler of SIGTERM; the one that was there must stay, since it cleans up."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process for the time of a block; what Ray sets by itself goes with them."""
    before = {name: os.environ.get(name) for name in (*values, *_SET_BY_RAY)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
