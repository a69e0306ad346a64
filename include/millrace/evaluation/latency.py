"""How long a package takes to load and to answer, measured in a process of its own, once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
from pydantic import ValidationError

from millrace.artifact import canonical
from millrace.errors import EvaluationError
from millrace.evaluation.finding import Latency
from millrace.settings import Settings

log = logging.getLogger(__name__)
TIMEOUT_S = 300
_START = "import sys; sys.path[:] = sys.argv[4:]; from millrace.evaluation.stopwatch import main; main(*sys.argv[1:4])"


def latency_of(digest: str, settings: Settings) -> Latency:
    """The latency of a package of the store: as it was measured the first time, else measured now and kept.

    Raises:
        EvaluationError: the package does not load or answer in a process of its own, or takes longer than five
            minutes.
    """
    path = settings.var / "latency" / f"{digest}.json"
    if (known := _kept(path)) is not None:
        return known
    found = measure_latency(settings.packages / digest, digest)
    _keep_first(path, canonical(found.model_dump()))
    log.info("package %s: one row %.2f ms, %d rows %.1f ms", digest[:12], found.one_median, found.rows, found.batch)
    return _kept(path) or found


def measure_latency(folder: Path, digest: str) -> Latency:
    """Measure a package in a fresh interpreter on one thread, by its golden rows.

    Raises:
        EvaluationError: it does not load or answer there, or not in five minutes.
    """
    remedy = "open the package by hand with millrace.package.Package.open, then run the task again"
    with tempfile.TemporaryDirectory(prefix="millrace-latency-") as place:
        told = Path(place) / "latency.json"
        command = [sys.executable, "-c", _START, str(folder), digest, str(told), *filter(None, sys.path)]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, text=True)
        except subprocess.TimeoutExpired as error:
            raise EvaluationError(
                f"the package was not measured within {TIMEOUT_S} s", where=str(folder), remedy=remedy
            ) from error
        if ended.returncode or not told.is_file():
            raise EvaluationError(
                f"the package does not answer in a process of its own: {_last_words(ended)}",
                where=str(folder),
                remedy=remedy,
            )
        return Latency.model_validate(orjson.loads(told.read_bytes()))


def _last_words(ended: subprocess.CompletedProcess[str]) -> str:
    """What the error says that ended a process; its details are indented."""
    said = [line for line in ended.stderr.splitlines() if line[:1].strip()]
    return said[-1] if said else f"it ended with status {ended.returncode}"


def _kept(path: Path) -> Latency | None:
    try:
        return Latency.model_validate(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, ValidationError):
        log.warning("%s cannot be read, the package is measured again", path)
        path.unlink(missing_ok=True)
        return None


def _keep_first(path: Path, content: bytes) -> None:
    """Write a file unless another process did so first: its figures may stand in evidence already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as fresh:
        fresh.write(content)
        fresh.flush()
        os.fsync(fresh.fileno())
        try:
            os.link(fresh.name, path)
        except FileExistsError:
            log.debug("%s was measured meanwhile", path.name)
