"""The run a fit belongs to: where it puts checkpoints and tells its progress, and who may end it."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import orjson

from millrace.errors import TrainingError

log = logging.getLogger(__name__)
_SUFFIX = ".checkpoint"
_DIGEST = hashlib.sha256().digest_size
_SIZE = 8
Curves = dict[str, list[tuple[int, float]]]
"""Metric → (step, value) in the order of the steps."""


class StopFitError(Exception):
    """Somebody outside wants a fit to end: a pruner that gave it up, or a task that is being killed."""


def go_on() -> bool:
    """Says that nobody wants the fit to end."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a fit between two segments.

    Attributes:
        done: rounds or epochs that are behind it.
        content: what the trainer needs to go on exactly as if it had not stopped.
    """

    done: int
    content: bytes


class FitRun(Protocol):
    """What a trainer's `fit` may use of the run around it."""

    @property
    def folder(self) -> Path:
        """A folder for large temporary files; it may be empty or gone after the fit."""
        ...

    def restore(self) -> Checkpoint | None:
        """The last checkpoint of this very job; None where it starts at the beginning."""
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint in place of the one before.

        Raises:
            StopFitError: the fit shall end now; the checkpoint is kept.
        """
        ...

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the metrics after a round or epoch (counted from 0).

        Raises:
            StopFitError: the fit shall end now; trainers let it through.
        """
        ...


@dataclass(slots=True)
class FolderRun:
    """A run that keeps checkpoints in a folder of its own, with the curves up to them.

    Attributes:
        folder: made where it is missing.
        stop: asked after every round or epoch; True ends the fit.
        curves: what was reported, also by the processes before this one.
    """

    folder: Path
    stop: Callable[[], bool] = go_on
    curves: Curves = field(default_factory=dict)

    def restore(self) -> Checkpoint | None:
        """The checkpoint with most behind it that is whole; the curves go on from it, too."""
        self.curves.clear()
        found = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: path.name, reverse=True)
        for path in found:
            try:
                kept = path.read_bytes()
            except OSError:  # another process of the same job replaced it
                continue
            if hashlib.sha256(kept[_DIGEST:]).digest() != kept[:_DIGEST]:
                log.warning("%s is damaged and left aside", path)
                continue
            start = _DIGEST + _SIZE + int.from_bytes(kept[_DIGEST : _DIGEST + _SIZE], "big")
            for name, points in orjson.loads(kept[_DIGEST + _SIZE : start]).items():
                # JSON has no word for what is no number.
                self.curves[name] = [(step, math.nan if value is None else value) for step, value in points]
            done = int(path.name.removesuffix(_SUFFIX))
            log.info("goes on after %d rounds or epochs, from %s", done, path)
            return Checkpoint(done=done, content=kept[start:])
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it beside, then rename: a kill in between leaves the one before.

        Raises:
            StopFitError: the fit shall end now; the checkpoint is kept.
            TrainingError: it cannot be written; the one before is kept.
        """
        try:
            self._write(checkpoint)
        except OSError as error:
            raise TrainingError(
                f"the checkpoint after {checkpoint.done} rounds or epochs cannot be written: {error.strerror}",
                where=str(self.folder),
                remedy="free some space and make the folder writable, then run the task again: it goes on from the "
                "checkpoint before",
            ) from error
        _end_where(self.stop)

    def _write(self, checkpoint: Checkpoint) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{checkpoint.done:08d}{_SUFFIX}"
        fresh = self.folder / f".{target.name}.{os.getpid()}"
        curves = orjson.dumps({name: _before(points, checkpoint.done) for name, points in self.curves.items()})
        parts = (len(curves).to_bytes(_SIZE, "big"), curves, checkpoint.content)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        try:
            with fresh.open("wb") as file:
                file.writelines((digest.digest(), *parts))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(target)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if path.name < target.name:
                path.unlink(missing_ok=True)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the figures.

        Raises:
            StopFitError: the fit shall end now.
        """
        _keep(self.curves, step, metrics)
        _end_where(self.stop)

    def discard(self) -> None:
        """Take the folder away, once what it led to is sealed."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True)
class LooseRun:
    """A run without checkpoints: nothing is kept but the curves.

    Attributes:
        folder: for large temporary files.
        stop: asked after every round or epoch; True ends the fit.
        curves: what was reported.
    """

    folder: Path
    stop: Callable[[], bool] = go_on
    curves: Curves = field(default_factory=dict)

    def restore(self) -> Checkpoint | None:
        """None."""
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Nothing is kept.

        Raises:
            StopFitError: the fit shall end now.
        """
        _end_where(self.stop)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the figures.

        Raises:
            StopFitError: the fit shall end now.
        """
        _keep(self.curves, step, metrics)
        _end_where(self.stop)


@contextmanager
def alone(path: Path, stop: Callable[[], bool] = go_on) -> Iterator[None]:
    """Hold the lock of a file, which ends with its process; wait for it as long as another process holds it.

    The file is taken away at the end.

    Raises:
        StopFitError: `stop` said so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            file = stack.enter_context(path.open("w", encoding="utf-8"))
            if _taken(file, path):
                break
            _end_where(stop)
            stack.close()
            time.sleep(0.1)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_UN)


def _taken(file: IO[str], path: Path) -> bool:
    """Whether the lock is ours, of the very file that has the name: its last holder takes it away."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def sweep_runs(root: Path, *, older_than_s: float, now: float | None = None) -> list[Path]:
    """Take folders of runs away that nobody touched for long: their jobs were changed, or given up.

    Args:
        root: folder with one folder a job in it.
        older_than_s: seconds since the last write in it.
        now: the time, in seconds since the epoch; by default that of the clock.

    Returns:
        The folders taken away.
    """
    end = (time.time() if now is None else now) - older_than_s
    swept = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.is_dir() and _touched(folder) < end:
            shutil.rmtree(folder, ignore_errors=True)
            log.info("%s is taken away: nothing was written there for %.0f days", folder, older_than_s / 86_400)
            swept.append(folder)
    return swept


def _touched(folder: Path) -> float:
    found = [0.0]
    for path in (folder, *folder.rglob("*")):
        try:
            found.append(path.stat().st_mtime)
        except OSError:  # gone meanwhile
            continue
    return max(found)


def _keep(curves: Curves, step: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        points = curves.setdefault(name, [])
        while points and points[-1][0] >= step:  # a step that is done again
            points.pop()
        points.append((step, float(value)))


def _before(points: list[tuple[int, float]], done: int) -> list[tuple[int, float]]:
    return [point for point in points if point[0] < done]


def _end_where(stop: Callable[[], bool]) -> None:
    if stop():
        raise StopFitError("the fit was asked to end")
