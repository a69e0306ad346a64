"""Starts services in order, restarts what dies, and stops everything in reverse order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from millrace.errors import MillraceError, ServiceError
from millrace.local import process
from millrace.local.layout import Layout
from millrace.local.record import Record, ServiceRecord, write_record
from millrace.local.service import Service

_log = logging.getLogger(__name__)
_DEATHS_ALLOWED = 5
_WINDOW_S = 60.0
_POLL_S = 0.1
_SWEEP_S = 5.0


@dataclass(slots=True)
class _Kept:
    """A service and what became of it so far.

    The handle is held as long as the process lives: Python collects a child whose handle was dropped, at once or when
    it starts the next one, and then nobody else learns that it ended.
    """

    service: Service
    state: str = "waiting"
    identity: process.Identity | None = None
    handle: subprocess.Popen[bytes] | None = None
    past: list[process.Identity] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    restarts: int = 0
    not_before: float = 0.0
    ready_after_s: float | None = None


class Keeper:
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
        kept.handle, kept.identity = process.start(
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
        assert kept.identity is not None
        kept.past.append(kept.identity)
        if kept.handle is not None:
            kept.handle.returncode = code
        kept.identity = kept.handle = None
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
        """End what a dead scheduler left, once its tasks have ended.

        Its workers hold both ends of their queue, so they would wait for work for ever.
        """
        if self._clock() - self._swept < _SWEEP_S:
            return
        self._swept = self._clock()
        for kept in self._kept.values():
            for identity in list(kept.past):
                left = process.members([identity])
                if not left:
                    kept.past.remove(identity)
                    continue
                titles = {one.pid: _title(one) for one in left}
                workers = {pid: title for pid, title in titles.items() if "LocalExecutor" in title}
                busy = any("<idle>" not in title for title in workers.values())
                ended = [one for one in left if not busy or "<idle>" in workers.get(one.pid, "")]
                _log.info("ending %d processes that a dead %s left behind", len(ended), kept.service.name)
                process.kill(ended, patience_s=1.0, reap=self._reap)

    def _stop_all(self) -> None:
        """Stop what nothing depends on any more, all of it at once, until nothing is left."""
        self._stopping = True
        self._write("stopping")
        while running := {name: kept for name, kept in self._kept.items() if kept.identity is not None}:
            needed = {name for kept in running.values() for name in kept.service.after}
            last = [kept for name, kept in running.items() if name not in needed]
            for kept in last:
                if kept.identity is not None and (leader := kept.identity.find()) is not None:
                    with suppress(psutil.Error):
                        leader.send_signal(signal.SIGINT if kept.service.fast_stop else signal.SIGTERM)
            for kept in last:
                self._stop(kept)
        process.kill(psutil.Process().children(recursive=True), patience_s=2.0, reap=self._reap)
        self._write("failed" if self._fault else "stopped")

    def _stop(self, kept: _Kept) -> None:
        identity = kept.identity
        if identity is not None:
            process.stop(identity, patience_s=kept.service.patience_s, first=None, reap=self._reap)
        kept.identity, kept.handle, kept.state = None, None, "stopped"
        process.kill(process.members(kept.past), patience_s=2.0, reap=self._reap)
        _log.info("%s stopped", kept.service.name)

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


def _title(one: psutil.Process) -> str:
    try:
        return " ".join(one.cmdline())
    except psutil.Error:
        return ""


def last_words(log: Path, lines: int = 3) -> str:
    """The end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "".join(f"\n    | {line[:300]}" for line in text[-lines:])
