"""Training in another interpreter: rows and job go there as files, progress comes back line by line."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from millrace.errors import MillraceError, TrainingError
from millrace.package import Package
from millrace.training.candidate import Trained
from millrace.training.data.rows import TrainingRows
from millrace.training.isolation.environment import Environment
from millrace.training.isolation.worker_process import (
    Place,
    end_worker,
    ended_early,
    error_of,
    lines_of,
    own_code,
    prepare_place,
    start_worker,
)
from millrace.training.job import TrainingJob
from millrace.training.run import FitRun, go_on
from millrace.training.worker import WITH_STDIN

log = logging.getLogger(__name__)
GOLDEN_TOLERANCE = 1e-6
"""Greatest difference between predictions there and here; the online service allows as much."""


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
    prepare_place(job, rows, place)
    process = start_worker("millrace.training.worker", _arguments(place), place)
    try:
        return _follow(process, place, run, stop)
    finally:
        end_worker(process)


def _arguments(place: Place) -> list[str]:
    return [str(place.folder), str(place.store.absolute()), WITH_STDIN]


def _follow(
    process: subprocess.Popen[bytes], place: Place, run: FitRun, stop: Callable[[], bool]
) -> tuple[str, dict[str, float]]:
    for told in filter(None, map(_message, lines_of(process, stop))):
        if "report" in told:
            run.report(int(told["step"]), told["report"])
        elif "sealed" in told:
            return str(told["sealed"]), dict(told["metrics"])
        elif "failed" in told:
            raise error_of(told["failed"])
    raise ended_early(process, place)


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
