"""The run a fit belongs to: where it puts checkpoints and tells its progress, and who may end it."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

log = logging.getLogger(__name__)
_SUFFIX = ".checkpoint"
Curves = dict[str, list[tuple[int, float]]]
"""Metric → (step, value) in the order of the steps."""


class StopFitError(Exception):
    """Somebody outside wants a fit to end: a pruner that gave it up, or a task that is being killed."""


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
        """Keep a checkpoint in place of the one before."""
        ...

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the metrics after a round or epoch (counted from 0).

        Raises:
            StopFitError: the fit shall end now; trainers let it through.
        """
        ...


@dataclass(slots=True)
class FolderRun:
    """A run that keeps checkpoints in a folder of its own, and the curves in memory.

    Attributes:
        folder: made where it is missing.
        curves: what was reported.
    """

    folder: Path
    curves: Curves = field(default_factory=dict)

    def restore(self) -> Checkpoint | None:
        """The checkpoint with most behind it that is whole."""
        found = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: path.name, reverse=True)
        for path in found:
            try:
                kept = path.read_bytes()
            except OSError:  # another process of the same job replaced it
                continue
            content = kept[32:]
            if hashlib.sha256(content).digest() == kept[:32]:
                done = int(path.name.removesuffix(_SUFFIX))
                log.info("goes on after %d rounds or epochs, from %s", done, path)
                return Checkpoint(done=done, content=content)
            log.warning("%s is damaged and left aside", path)
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it beside, then rename: a kill in between leaves the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{checkpoint.done:08d}{_SUFFIX}"
        fresh = self.folder / f".{target.name}.{os.getpid()}"
        with fresh.open("wb") as file:
            file.write(hashlib.sha256(checkpoint.content).digest() + checkpoint.content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if path.name < target.name:
                path.unlink(missing_ok=True)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the figures; a fit that goes on after a kill knows those since then."""
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append((step, float(value)))

    def discard(self) -> None:
        """Take the folder away, once what it led to is sealed."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True)
class LooseRun:
    """A run without checkpoints: nothing is kept but the curves.

    Attributes:
        folder: for large temporary files.
        curves: what was reported.
    """

    folder: Path
    curves: Curves = field(default_factory=dict)

    def restore(self) -> Checkpoint | None:
        """None."""
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Nothing is kept."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the figures."""
        for name, value in metrics.items():
            self.curves.setdefault(name, []).append((step, float(value)))
