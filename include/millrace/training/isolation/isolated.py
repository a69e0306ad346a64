"""Training in another interpreter: rows and job go there as files, progress comes back line by line."""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

import millrace
from millrace import errors
from millrace.errors import MillraceError, TrainingError
from millrace.package import Package
from millrace.training.candidate import Trained
from millrace.training.data.rows import TrainingRows, as_rows, save_rows
from millrace.training.isolation.environment import Environment, clean_environ
from millrace.training.job import TrainingJob
from millrace.training.run import FitRun, StopFitError, go_on
from millrace.training.worker import JOB, ROWS, WITH_STDIN

log = logging.getLogger(__name__)
GOLDEN_TOLERANCE = 1e-6
"""Greatest difference between predictions there and here; the online service allows as much."""
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


def train_isolated(
    job: TrainingJob,
    rows: pa.Table | TrainingRows,
    *,
    environment: Environment,
    store: Path,
    run: FitRun,
    stop: Callable[[], bool] = go_on,
) -> Trained:
    """Train a job in an environment of its own, with the code that runs here; the package must read the same here.

    Args:
        job: what to train; its `lock` is sealed with the model.
        rows: training rows in time order.
        environment: what `build_environment` gave.
        store: folder of all packages.
        run: its folder holds the checkpoints; what the fit reports goes to it, as it happens.
        stop: asked five times a second; True ends the fit at once.

    Raises:
        SpecError, FeatureError, TrainingError: as `train_package`; also where the libraries of this process read the
            model otherwise than those that trained it.
        StopFitError: `stop` said so, or the run did.
    """
    place = Place(python=environment.python, code=own_code(), folder=run.folder / "worker", store=store)
    digest, metrics = work(job.to_bytes(), rows, place, run=run, stop=stop)
    package = Package.open(store / digest, digest)
    check_readable(package, where=f"{job.where}.environment")
    shutil.rmtree(place.folder, ignore_errors=True)
    return Trained(package=package, metrics=metrics, libraries=environment.libraries)


def check_readable(package: Package, *, where: str) -> None:
    """Whether the libraries of this process make the same predictions of a package as those that trained it.

    Raises:
        TrainingError: they do not, or cannot load the model.
    """
    library = package.manifest.library
    remedy = f"train with a version of {library.name} whose models the installation's version reads"
    try:
        gap = package.probe()
    except MillraceError as error:
        raise TrainingError(
            f"the installation cannot read what {library.name} {library.version} trained: {error.what}",
            where=where,
            remedy=remedy,
        ) from error
    if not gap <= GOLDEN_TOLERANCE:
        raise TrainingError(
            f"the installation reads what {library.name} {library.version} trained otherwise: golden predictions "
            f"differ by {gap:g}, allowed is {GOLDEN_TOLERANCE:g}",
            where=where,
            remedy=remedy,
        )


def work(
    job: bytes, rows: pa.Table | TrainingRows, place: Place, *, run: FitRun, stop: Callable[[], bool] = go_on
) -> tuple[str, dict[str, float]]:
    """Let a worker train a job; digest of the package it sealed in `place.store`, and the metrics.

    Raises:
        MillraceError: what the worker failed with.
        StopFitError: `stop` said so, or `run` did.
    """
    _prepare(job, rows, place)
    with (place.folder / _LOG).open("wb") as told:
        process = subprocess.Popen(
            [str(place.python), "-s", "-P", "-m", "millrace.training.worker", *_arguments(place)],
            env={**clean_environ(), "PYTHONPATH": str(place.folder / "code")},
            cwd=place.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            start_new_session=True,
        )
        try:
            return _follow(process, place, run, stop)
        finally:
            _end(process)


def _prepare(job: bytes, rows: pa.Table | TrainingRows, place: Place) -> None:
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


def _arguments(place: Place) -> list[str]:
    return [str(place.folder), str(place.store.absolute()), WITH_STDIN]


def _follow(
    process: subprocess.Popen[bytes], place: Place, run: FitRun, stop: Callable[[], bool]
) -> tuple[str, dict[str, float]]:
    for told in _lines(process, stop):
        if "report" in told:
            run.report(int(told["step"]), told["report"])
        elif "sealed" in told:
            return str(told["sealed"]), dict(told["metrics"])
        elif "failed" in told:
            raise _error(told["failed"])
    status = process.wait()
    why = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise TrainingError(
        f"the worker {why}: {_last_words(place)}",
        where=str(place.folder / _LOG),
        remedy="see its log; SIGKILL is most often the system's answer to too little memory",
    )


def _lines(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stop():
                raise StopFitError("the fit was asked to end")
            if not ready.select(_POLL_S):
                continue
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from filter(None, map(_message, lines))


def _message(line: bytes) -> dict[str, Any]:
    """What a line says; nothing where a library printed it."""
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        log.info("worker: %s", line.decode("utf-8", "replace"))
        return {}
    return told


def _error(told: dict[str, str]) -> MillraceError:
    kind = getattr(errors, told["kind"], TrainingError)
    if not (isinstance(kind, type) and issubclass(kind, MillraceError)):
        kind = TrainingError
    return kind(told["what"], where=told["where"], remedy=told["remedy"])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running, whatever happened; what the worker itself started is in its session."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.debug("the worker %d has just ended", process.pid)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _last_words(place: Place) -> str:
    content = (place.folder / _LOG).read_text(encoding="utf-8", errors="replace")
    return next((line.strip() for line in reversed(content.splitlines()) if line.strip()), "it said nothing")
