"""Trains one job in a process of its own: `python -m millrace.training.worker FOLDER STORE`.

FOLDER holds `job.json` and `rows.arrow`, and gets the checkpoints; the package goes to STORE. What happens is told on
standard output, a JSON object a line: `report`, then `sealed` or `failed`. A package of any commit is rebuilt by the
worker of that commit, so these names and arguments stay as they are.

An interpreter that runs it needs numpy, pyarrow, orjson, pydantic, pyyaml and the library of the trainer, nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from millrace.errors import MillraceError
from millrace.training.candidate import train_package
from millrace.training.data.rows import open_rows
from millrace.training.job import TrainingJob
from millrace.training.run import Checkpoint, FolderRun, StopFitError

JOB, ROWS = "job.json", "rows.arrow"
WITH_STDIN = "--ends-with-stdin"
_FAILED, _STOPPED = 1, 3
Tell = Callable[[Mapping[str, Any]], None]


class ToldRun:
    """A run on disk that tells its curves as they grow, and after a kill once more from the start."""

    def __init__(self, kept: FolderRun, tell: Tell) -> None:
        self._kept, self._tell = kept, tell

    @property
    def folder(self) -> Path:
        """That of the checkpoints."""
        return self._kept.folder

    def restore(self) -> Checkpoint | None:
        """The last checkpoint; the curves up to it are told."""
        found = self._kept.restore()
        steps: dict[int, dict[str, float]] = {}
        for name, points in self._kept.curves.items():
            for step, value in points:
                steps.setdefault(step, {})[name] = value
        for step in sorted(steps):
            self._tell({"report": steps[step], "step": step})
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep it on disk."""
        self._kept.save(checkpoint)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep and tell."""
        self._kept.report(step, metrics)
        self._tell({"report": {name: float(value) for name, value in metrics.items()}, "step": int(step)})


def main(arguments: Sequence[str]) -> int:
    """Train what a folder holds; 0 where a package was sealed."""
    if WITH_STDIN in arguments:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    folder, store = (Path(argument) for argument in arguments if argument != WITH_STDIN)
    tell = _open_channel()
    try:
        job = TrainingJob.from_bytes((folder / JOB).read_bytes(), where=folder / JOB)
        run = ToldRun(FolderRun(folder=folder), tell)
        trained = train_package(job, open_rows(folder / ROWS).table, store=store, run=run)
    except MillraceError as error:
        told = {"kind": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
        tell({"failed": told})
        return _FAILED
    except StopFitError:
        return _STOPPED
    tell({"sealed": trained.package.digest, "metrics": trained.metrics})
    return 0


def _open_channel() -> Tell:
    """Standard output for what is told alone: whatever else a library prints goes where errors go."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(document: Mapping[str, Any]) -> None:
        channel.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))

    return tell


def _end_with_stdin() -> None:
    """Whoever started this holds the other end of standard input; when they are gone, so is this."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(_STOPPED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
