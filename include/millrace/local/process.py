"""Processes of our own: started in sessions of their own, known by pid *and* start time, stopped by group."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.05
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same pid.

    Attributes:
        pid: also the id of its session and process group, where we started it.
        started: when the kernel says it started (seconds since the epoch).
    """

    pid: int
    started: float

    def was_replaced(self) -> bool:
        """Whether another process has the pid by now."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) >= _TICK_S
        except psutil.Error:
            return False

    def find(self) -> psutil.Process | None:
        """The process, while it lives."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) < _TICK_S and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.Error:
            pass
        return None


def adopt_orphans() -> None:
    """Make this process the parent of all descendants that lose theirs, so that none escapes."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    argv: list[str], *, env: Mapping[str, str], cwd: Path, log: Path, dies_with_parent: bool = True
) -> tuple[subprocess.Popen[bytes], Identity]:
    """Start `argv` in a session of its own with its output appended to `log`.

    Args:
        argv: command and arguments.
        env: the whole environment.
        cwd: working directory.
        log: output file, made with mode 0600.
        dies_with_parent: have the kernel send SIGTERM when the starting process dies.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ask_for_signal if dies_with_parent else None,  # noqa: PLW1509 - the supervisor has one thread
        )
    finally:
        os.close(output)
    try:
        started = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    return process, Identity(pid=process.pid, started=started)


def _ask_for_signal() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def members(identities: Iterable[Identity]) -> list[psutil.Process]:
    """All living processes in the sessions that `identities` lead or led, and those they started.

    The kernel gives no pid away that still names a session; where another process has the pid of a leader, nothing is
    left of that session.
    """
    sessions = {identity.pid for identity in identities if not identity.was_replaced()}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) in sessions:
                found[process.pid] = process
    for process in list(found.values()):
        with suppress(psutil.Error):
            found.update({child.pid: child for child in process.children(recursive=True)})
    return [process for process in found.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Whether `process` runs: neither ended, nor a zombie, nor a later one with its pid."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def stop(
    identity: Identity,
    *,
    patience_s: float,
    first: signal.Signals | None = signal.SIGTERM,
    reap: Callable[[], object] = lambda: None,
) -> None:
    """Ask the leader to end, wait, then end whatever is left of its session.

    Args:
        identity: leader of the session.
        patience_s: seconds until what is left is killed.
        first: how the leader is asked; None where it was asked already.
        reap: called while waiting, so that ended children do not stay as zombies.
    """
    everyone = members([identity])
    leader = identity.find()
    if leader is not None:
        if first is not None:
            with suppress(psutil.Error):
                leader.send_signal(first)
        wait_until(lambda: identity.find() is None, patience_s, reap=reap)
    kill([process for process in {*everyone, *members([identity])} if is_alive(process)], patience_s=1.0, reap=reap)


def kill(processes: list[psutil.Process], *, patience_s: float, reap: Callable[[], object] = lambda: None) -> None:
    """TERM, then KILL; psutil checks for each that the pid is still the same process."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(number)
        if wait_until(lambda: not any(is_alive(process) for process in processes), patience_s, reap=reap):
            return


def try_lock(file: IO[str]) -> bool:
    """Take the lock of an open file; False where another process holds it. Closing the file, or dying, gives it up."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_until(
    reached: Callable[[], bool], patience_s: float, *, pause_s: float = 0.05, reap: Callable[[], object] = lambda: None
) -> bool:
    """Poll `reached`, collecting ended children in between; False where it did not come true in time."""
    end = time.monotonic() + patience_s
    while True:
        reap()
        if reached():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(pause_s)
