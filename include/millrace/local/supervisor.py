"""Keeps the services of one installation running: `python -m millrace.local.supervisor <root> <var> <dags>`.

It leads a session of its own, adopts every descendant that loses its parent, restarts what dies, and on SIGTERM stops
everything in reverse order. Where it is killed itself, the kernel tells its children (SIGTERM).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from millrace.errors import MillraceError, ServiceError
from millrace.local import postgres, process
from millrace.local.environment import inherit_environment
from millrace.local.layout import Layout
from millrace.local.prepare import Installation, load_installation
from millrace.local.record import Record, ServiceRecord, lock_version, migration_stamp, write_record
from millrace.local.service import Service, define_services

_log = logging.getLogger(__name__)
_DEATHS_ALLOWED = 5
_WINDOW_S = 60.0
_POLL_S = 0.1
_SWEEP_S = 5.0


@dataclass(slots=True)
class _Kept:
    """A service and what became of it so far."""

    service: Service
    state: str = "waiting"
    identity: process.Identity | None = None
    past: list[process.Identity] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    restarts: int = 0
    not_before: float = 0.0
    ready_after_s: float | None = None


class Supervisor:
    """Runs `services` until told to stop.

    Args:
        layout: paths of logs and of the record.
        services: in order of their start.
        environ: inherited by every service.
        on_ready: called once for a service that has become ready for the first time.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        layout: Layout,
        services: list[Service],
        environ: Mapping[str, str],
        on_ready: Callable[[Service], None] = lambda service: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layout = layout
        self._kept = {service.name: _Kept(service) for service in services}
        self._environ = dict(environ)
        self._on_ready = on_ready
        self._clock = clock
        self._begun = clock()
        self._swept = 0.0
        self._fault = ""
        self._stopping = False

    def stop_soon(self, *_: object) -> None:
        """Leave `run` at the next turn (a signal handler)."""
        self._stopping = True

    def run(self) -> None:
        """Start, watch and restart until told to stop, or until a service dies too often; then stop everything.

        Raises:
            ServiceError: a service died too often, or a job failed.
        """
        try:
            while not self._stopping:
                self._reap()
                for kept in self._kept.values():
                    self._advance(kept)
                self._sweep()
                self._write("running")
                time.sleep(_POLL_S)
        except MillraceError as error:
            self._fault = str(error)
            raise
        finally:
            self._stop_all()

    def _advance(self, kept: _Kept) -> None:
        if kept.state in {"waiting", "died"} and self._may_start(kept):
            self._start(kept)
        elif kept.state == "starting" and not kept.service.once and kept.service.ready():
            self._mark_ready(kept)

    def _may_start(self, kept: _Kept) -> bool:
        others = (self._kept[name].state for name in kept.service.after)
        return self._clock() >= kept.not_before and all(state in {"running", "done"} for state in others)

    def _start(self, kept: _Kept) -> None:
        service = kept.service
        _, kept.identity = process.start(
            service.argv,
            env={**self._environ, **service.env},
            cwd=Path("/") if service.fast_stop else self._layout.root,
            log=self._layout.log(service.name),
        )
        kept.state = "starting"
        _log.info("%s started, pid %d", service.name, kept.identity.pid)

    def _mark_ready(self, kept: _Kept) -> None:
        if kept.ready_after_s is None:
            kept.ready_after_s = round(self._clock() - self._begun, 2)
            self._on_ready(kept.service)
        kept.state = "done" if kept.service.once else "running"
        _log.info("%s ready, %.1f s after the start", kept.service.name, self._clock() - self._begun)

    def _reap(self) -> None:
        """Collect ended children, adopted ones too, and take note of services among them."""
        by_pid = {kept.identity.pid: kept for kept in self._kept.values() if kept.identity is not None}
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] in by_pid:
                    self._note_end(by_pid[ended[0]], os.waitstatus_to_exitcode(ended[1]))

    def _note_end(self, kept: _Kept, code: int) -> None:
        service, log = kept.service, str(self._layout.log(kept.service.name))
        assert kept.identity is not None  # noqa: S101 - only what was started ends
        kept.past.append(kept.identity)
        kept.identity = None
        if self._stopping:
            kept.state = "stopped"
            return
        if service.once and code == 0:
            self._mark_ready(kept)
            return
        now = self._clock()
        kept.state = "died"
        kept.deaths = [at for at in kept.deaths if now - at < _WINDOW_S] + [now]
        _log.warning("%s ended with %d (%d times within a minute)", service.name, code, len(kept.deaths))
        if service.once or len(kept.deaths) >= _DEATHS_ALLOWED:
            raise ServiceError(
                f"{service.name} ended with {code}{last_words(self._layout.log(service.name))}",
                where=log,
                remedy=f"read {log}, mend the cause, then `make up`",
            )
        kept.restarts += 1
        kept.not_before = now + min(8.0, 0.25 * 2 ** (len(kept.deaths) - 1))

    def _sweep(self) -> None:
        """End what a dead scheduler left idle: its workers hold both ends of their queue and would wait for ever."""
        if self._clock() - self._swept < _SWEEP_S:
            return
        self._swept = self._clock()
        mine = {kept.identity.pid for kept in self._kept.values() if kept.identity is not None}
        past = {identity.pid for kept in self._kept.values() for identity in kept.past}
        if not past:
            return
        for left in process.members([identity for kept in self._kept.values() for identity in kept.past]):
            with suppress(psutil.Error, OSError):
                title = " ".join(left.cmdline())
                adopted = left.pid not in mine and os.getsid(left.pid) in past
                if adopted and "LocalExecutor" in title and "<idle>" in title:
                    _log.info("ending an idle worker of a dead scheduler, pid %d", left.pid)
                    left.terminate()

    def _stop_all(self) -> None:
        self._stopping = True
        self._write("stopping")
        for kept in reversed(self._kept.values()):
            if kept.identity is not None:
                first = signal.SIGINT if kept.service.fast_stop else signal.SIGTERM
                process.stop(
                    kept.identity, patience_s=kept.service.patience_s, first=first, reap=self._reap
                )
                _log.info("%s stopped", kept.service.name)
            process.kill(process.members(kept.past), patience_s=2.0, reap=self._reap)
        process.kill(psutil.Process().children(recursive=True), patience_s=2.0, reap=self._reap)
        self._write("failed" if self._fault else "stopped")

    def _write(self, state: str) -> None:
        services = {
            name: ServiceRecord(
                state=kept.state,
                pid=kept.identity.pid if kept.identity else None,
                started=kept.identity.started if kept.identity else None,
                port=kept.service.port,
                restarts=kept.restarts,
                log=str(self._layout.log(name)),
                ready_after_s=kept.ready_after_s,
            )
            for name, kept in self._kept.items()
        }
        write_record(self._layout, Record.of_this_process(state=state, fault=self._fault, services=services))


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "".join(f"\n    | {line[:300]}" for line in text[-lines:])


def supervise(layout: Layout, environ: Mapping[str, str]) -> int:
    """Run the installation under `layout` in this process; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    lock = (layout.run / "supervisor.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.info("another supervisor runs already")
        return 0
    process.adopt_orphans()
    try:
        _serve(layout, load_installation(layout), environ)
    except MillraceError as error:
        _log.error("%s", error)  # noqa: TRY400 - the message says it all
        write_record(layout, Record.of_this_process(state="failed", fault=str(error), services={}), keep_services=True)
        return 1
    return 0


def _serve(layout: Layout, installation: Installation, environ: Mapping[str, str]) -> None:
    account = postgres.choose_account(layout)
    fresh = postgres.initialise(layout, account)
    stamp = layout.run / "migrated"
    if fresh:
        stamp.unlink(missing_ok=True)
    services = define_services(layout, installation, account)
    migrated = stamp.is_file() and stamp.read_text() == migration_stamp(lock_version(layout))
    if migrated:
        services = [_without_migration(service) for service in services if service.name != "migrate"]

    def note(service: Service) -> None:
        if service.name == "postgres":
            postgres.create_databases(layout)
        if service.name == "migrate":
            stamp.write_text(migration_stamp(lock_version(layout)))

    supervisor = Supervisor(layout, services, inherit_environment(environ), on_ready=note)

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stop_soon(number, frame)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    supervisor.run()


def _without_migration(service: Service) -> Service:
    from dataclasses import replace

    return replace(service, after=tuple("postgres" if name == "migrate" else name for name in service.after))


if __name__ == "__main__":
    root, var, dags = (Path(word) for word in sys.argv[1:4])
    sys.exit(supervise(Layout(root=root, var=var, dags=dags), os.environ))
