"""A worker in another interpreter: what it needs lies in a folder, and it ends with whoever started it."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

import millrace
from millrace import errors
from millrace.errors import MillraceError, TrainingError
from millrace.training.data.rows import TrainingRows, as_rows, save_rows
from millrace.training.isolation.environment import clean_environ
from millrace.training.run import StopFitError, go_on
from millrace.training.worker import JOB, ROWS

log = logging.getLogger(__name__)
_LOG = "worker.log"
_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job is worked on.

    Attributes:
        python: interpreter with the libraries.
        code: folder of the package `millrace` whose code runs.
        folder: for job, rows and checkpoints; an attempt that was killed goes on from it.
        store: where the package is sealed.
    """

    python: Path
    code: Path
    folder: Path
    store: Path


def own_code() -> Path:
    """The folder of the package that runs here."""
    return Path(millrace.__file__).resolve().parent


def prepare_place(job: bytes, rows: pa.Table | TrainingRows, place: Place) -> None:
    """Lay job, rows and code where a worker reads them."""
    place.folder.mkdir(parents=True, exist_ok=True)
    (place.folder / JOB).write_bytes(job)
    # Beside, then renamed: the worker of a second task of the same job may have the file mapped.
    fresh = place.folder / f".{ROWS}.{os.getpid()}"
    save_rows(as_rows(rows), fresh)
    fresh.replace(place.folder / ROWS)
    # A link in a folder of its own: beside the package may lie other libraries of ours, which nobody shall find there.
    link = place.folder / "code" / "millrace"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(place.code)


def start_worker(module: str, arguments: Sequence[str], place: Place) -> subprocess.Popen[bytes]:
    """Start a module of the code of a place; what it writes to standard error goes to a log there."""
    with (place.folder / _LOG).open("wb") as told:
        return subprocess.Popen(
            [str(place.python), "-s", "-P", "-m", module, *arguments],
            env={**clean_environ(), "PYTHONPATH": str(place.folder / "code")},
            cwd=place.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            start_new_session=True,
        )


def lines_of(process: subprocess.Popen[bytes], stop: Callable[[], bool] = go_on) -> Iterator[bytes]:
    """What a worker says, line by line, until it has ended: a child that outlives it may hold the pipe open.

    Raises:
        StopFitError: `stop` said so.
    """
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stop():
                raise StopFitError("the fit was asked to end")
            ended = _has_ended(process)  # asked first: what it said last is read all the same
            if not ready.select(0 if ended else _POLL_S):
                if ended:
                    return
                continue
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines


def kill_worker(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running; what the worker itself started is in its session, also where it outlived the worker."""
    if process.returncode is None:  # until it is waited for, its session's number is nobody else's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_worker(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running and nothing open, whatever happened."""
    kill_worker(process)
    for pipe in (process.stdin, process.stdout):
        _close(pipe)


def error_of(told: Mapping[str, str]) -> MillraceError:
    """The error that a worker told of."""
    kind = getattr(errors, told["kind"], TrainingError)
    if not (isinstance(kind, type) and issubclass(kind, MillraceError)):
        kind = TrainingError
    return kind(told["what"], where=told["where"], remedy=told["remedy"])


def ended_early(process: subprocess.Popen[bytes], place: Place) -> TrainingError:
    """The error of a worker that ended before it had told what came of its work."""
    with suppress(ChildProcessError):  # it was waited for before
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    kill_worker(process)
    status = process.returncode
    why = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return TrainingError(
        f"the worker {why}: {_last_words(place)}",
        where=str(place.folder / _LOG),
        remedy="see its log; SIGKILL is most often the system's answer to too little memory",
    )


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ended; it is not waited for, so that its session can still be ended."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _close(pipe: IO[bytes] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except BrokenPipeError:
        log.debug("the worker was gone before it had read all")


def _last_words(place: Place) -> str:
    content = (place.folder / _LOG).read_text(encoding="utf-8", errors="replace")
    return next((line.strip() for line in reversed(content.splitlines()) if line.strip()), "it said nothing")
