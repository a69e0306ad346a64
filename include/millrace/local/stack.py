"""Up, down, status and clean: what `make` and the CLI call."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from millrace.errors import ServiceError, SettingsError
from millrace.local import process
from millrace.local.airflow_client import AirflowClient
from millrace.local.layout import MARKER, Layout
from millrace.local.postgres import socket_folder
from millrace.local.prepare import Installation, load_installation, prepare, read_password
from millrace.local.record import Record, read_record
from millrace.local.user import USERS, choose_users

_START_S = 240.0
_STOP_S = 60.0
_PARSE_S = 45.0
"""How long a DAG may be unknown to a healthy Airflow: longer than it takes to parse a mended file again."""
TEST_FOLDER = "test"
"""Where the tests keep their state below `var/`, also where nothing was ever started."""


def is_running(layout: Layout) -> bool:
    """Whether the supervisor of this installation lives: it holds a lock for as long as it does."""
    path = layout.run / "supervisor.lock"
    if not path.exists():
        return False
    with path.open("r+") as lock:
        return not process.try_lock(lock)


def up(
    layout: Layout,
    environ: Mapping[str, str],
    *,
    dag_ids: tuple[str, ...] = (),
    patience_s: float = _START_S,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Installation, bool]:
    """Start everything and wait until it is healthy. Two callers at once: the second waits and finds it running.

    Args:
        layout: the installation.
        environ: the caller's environment.
        dag_ids: DAGs that must be known to Airflow, too.
        patience_s: seconds until the start counts as failed.
        tell: is called with a line for each service that becomes ready.

    Returns:
        The installation, and whether this call started it.

    Raises:
        SettingsError: `var/` or a port cannot be used.
        ServiceError: a service did not come up; everything was stopped again.
    """
    layout.create()
    with _only_one(layout, patience_s):
        if is_running(layout):
            installation = load_installation(layout)
            _refuse_other_ports(installation, environ)
            _refuse_other_users(installation, environ)
            wait_healthy(layout, installation, dag_ids=dag_ids, patience_s=patience_s, tell=tell)
            return installation, False
        end_leftovers(layout)
        layout.state.unlink(missing_ok=True)
        installation = prepare(layout, environ)
        _launch(layout, environ)
        try:
            wait_healthy(layout, installation, dag_ids=dag_ids, patience_s=patience_s, tell=tell)
        except BaseException:
            down(layout)
            raise
        return installation, True


def down(layout: Layout) -> bool:
    """Stop everything, in reverse order, by process group. False where nothing ran."""
    if not layout.run.is_dir():
        return False
    ran = is_running(layout)
    record = read_record(layout)
    if ran and record is not None and (supervisor := record.supervisor.find()) is not None:
        supervisor.send_signal(signal.SIGTERM)
        if not process.wait_until(lambda: not process.is_alive(supervisor), _STOP_S):
            process.kill([supervisor], patience_s=1.0)
    left = end_leftovers(layout)
    return ran or left > 0


def end_leftovers(layout: Layout) -> int:
    """End what a supervisor that was killed left behind; how many processes that were."""
    record = read_record(layout)
    if record is None:
        return 0
    found = {name: service.identity for name, service in record.services.items()}
    database = found.pop("postgres", None)
    left = process.members([identity for identity in found.values() if identity is not None])
    process.kill(left, patience_s=3.0)
    if database is None:
        return len(left)
    server = process.members([database])
    process.stop(database, patience_s=8.0, first=signal.SIGINT)
    return len(left) + len(server)


def clean(layout: Layout) -> bool:
    """Stop everything and remove `var/`. False where there was nothing.

    Raises:
        SettingsError: the folder does not carry Millrace's marker.
    """
    if not layout.var.exists():
        return False
    if not (layout.var / MARKER).is_file():
        if strangers := sorted(path.name for path in layout.var.iterdir() if path.name != TEST_FOLDER):
            raise SettingsError(
                f"{layout.var} does not carry the marker {MARKER}, so it is not removed; it holds {strangers[0]!r}",
                where="MILLRACE_VAR",
                remedy="look what it is; remove it by hand if it is an installation of Millrace",
            )
        shutil.rmtree(layout.var)
        return True
    down(layout)
    socket = socket_folder(layout)
    try:
        shutil.rmtree(layout.var)
        if socket.exists():
            shutil.rmtree(socket)
    except OSError as error:
        raise SettingsError(
            f"cannot remove {error.filename}: {error.strerror}",
            where=str(layout.var),
            remedy=f"remove it as the user who made it: `sudo rm -rf '{layout.var}'`",
        ) from error
    return True


def wait_healthy(
    layout: Layout,
    installation: Installation,
    *,
    dag_ids: tuple[str, ...] = (),
    patience_s: float = _START_S,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Wait until every service is ready, Airflow calls all its components healthy, and it knows `dag_ids`.

    Raises:
        ServiceError: it did not happen in time or a service failed; names the service and its log.
    """
    end, told, parsed_by = time.monotonic() + patience_s, set[str](), 0.0
    client: AirflowClient | None = None
    try:
        while True:
            record = read_record(layout)
            if record is not None:
                _raise_fault(record, layout)
                _tell_ready(record, told, tell)
                if record.services and all(s.state in {"running", "done"} for s in record.services.values()):
                    client = client or AirflowClient(installation.addresses["airflow"], "admin", read_password(layout))
                    missing = client.missing(dag_ids)
                    if not missing:
                        return
                    parsed_by = parsed_by or time.monotonic() + _PARSE_S
                    if time.monotonic() > parsed_by:
                        raise_import_error(client, missing)
                    waiting = ", ".join(missing)
                else:
                    waiting = ", ".join(n for n, s in record.services.items() if s.state not in {"running", "done"})
            else:
                waiting = "the supervisor"
            if time.monotonic() > end:
                raise ServiceError(
                    f"not up after {patience_s:.0f} s; still waiting for {waiting}",
                    where=str(layout.logs),
                    remedy="read the log of that name there",
                )
            if not is_running(layout) and record is not None and record.state not in {"running"}:
                _raise_fault(record, layout, ended=True)
            time.sleep(0.1)
    finally:
        if client is not None:
            client.close()


def _tell_ready(record: Record, told: set[str], tell: Callable[[str], None]) -> None:
    for name, service in record.services.items():
        if service.state in {"running", "done"} and name not in told:
            told.add(name)
            tell(f"{name} ready" + (f" ({service.ready_after_s:.1f} s)" if service.ready_after_s else ""))


def raise_import_error(client: AirflowClient, missing: list[str]) -> None:
    """Tell why DAGs are missing, in the words of the file that does not import; nothing where all files do.

    Raises:
        ServiceError: a file does not import.
    """
    found = client.import_errors()
    if found:
        trace = str(found[0]["stack_trace"]).strip()
        starts = [match.start() for match in re.finditer(r"^[\w.]+: ", trace, re.MULTILINE)]
        raise ServiceError(
            f"Airflow does not know {', '.join(missing)}: {trace[starts[-1] :] if starts else trace[-500:]}",
            where=str(found[0]["filename"]) + (f", and {len(found) - 1} more files" if found[1:] else ""),
            remedy="mend what it names (`make check` finds more), then run it again",
        )


def _raise_fault(record: Record, layout: Layout, *, ended: bool = False) -> None:
    if record.state == "failed" or ended:
        if record.fault:
            raise ServiceError(record.fault)
        raise ServiceError(
            "the supervisor was stopped", where=str(layout.log("supervisor")), remedy="read that log, then `make up`"
        )


def _launch(layout: Layout, environ: Mapping[str, str]) -> None:
    for log in layout.logs.glob("*.log"):
        if log.stat().st_size > 20_000_000:
            log.replace(log.with_suffix(".log.1"))
    popen, _ = process.start(
        [sys.executable, "-m", "millrace.local.supervisor", str(layout.root), str(layout.var), str(layout.dags)],
        env=dict(environ),
        cwd=layout.root,
        log=layout.log("supervisor"),
        dies_with_parent=False,
    )
    held = process.wait_until(lambda: is_running(layout) or popen.poll() is not None, 30.0)
    if not held or popen.poll() is not None:
        raise ServiceError("the supervisor did not start", where=str(layout.log("supervisor")), remedy="read that log")
    popen.returncode = 0  # it lives on after us: no warning about it when we leave


def _refuse_other_ports(installation: Installation, environ: Mapping[str, str]) -> None:
    for name, port in installation.ports.items():
        variable = f"MILLRACE_{name.upper()}_PORT"
        wanted = environ.get(variable, "").strip()
        if wanted and wanted != str(port):
            raise SettingsError(
                f"{name} runs on port {port} already, not on {wanted}",
                where=variable,
                remedy="`make down` first, then `make up`",
            )


def _refuse_other_users(installation: Installation, environ: Mapping[str, str]) -> None:
    if USERS in environ and choose_users(environ) != installation.users:
        raise SettingsError(
            f"it runs already, with the users {', '.join(installation.users)}",
            where="MILLRACE_USERS",
            remedy="`make down` first, then `make up`",
        )


@contextmanager
def only_story(layout: Layout) -> Iterator[None]:
    """Hold the right to tell the story: two at once would take each other's runs for their own.

    Raises:
        ServiceError: somebody else tells it.
    """
    path = layout.run / "demo.lock"
    with path.open("w") as lock:
        if not process.try_lock(lock):
            raise ServiceError(
                "another `millrace demo` is at work on this installation",
                where=str(path),
                remedy="wait for its end, or set MILLRACE_VAR to have one of your own",
            )
        yield


@contextmanager
def _only_one(layout: Layout, patience_s: float) -> Iterator[None]:
    path: Path = layout.run / "up.lock"
    with path.open("w") as lock:
        if not process.wait_until(lambda: process.try_lock(lock), patience_s, pause_s=0.2):
            raise ServiceError(
                "another `up` is still at work", where=str(path), remedy="wait for it, or end it and try again"
            )
        yield
