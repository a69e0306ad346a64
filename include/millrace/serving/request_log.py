"""The request log: a bounded sample of the rows asked by key, written by a thread of its own.

Answering never waits for it. What a full queue or disk cannot take is dropped and counted, files are rotated by size,
and the oldest go. It holds what is needed to compute the features again, the answer and its id, and nothing else: no
columns of the request that are neither keys nor inputs of a function, and of what is tagged personal only tokens.
Rows that came as full vectors are counted in it, for they name neither keys nor an instant to compare them by.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from millrace.serving.base import InferenceRequest
from millrace.serving.sampled_row import SUFFIX, SampledRow, log_files, microseconds, vectors_line

if TYPE_CHECKING:
    from millrace.package import FeatureSpec
    from millrace.serving.assembly import FeatureVector
    from millrace.serving.repository import Served

log = logging.getLogger(__name__)
PROBE = "millrace-probe"
"""Id of requests that are no traffic: they are answered and not kept."""

_TOKEN = re.compile(r"^tok_[0-9a-f]{40}$")
_CLOSE_SECONDS = 5.0
_COUNT_SECONDS = 10.0
"""How often at most the number of full vectors is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """What the log may take.

    Attributes:
        file_bytes: a file that has so many is closed, and the next begun.
        files: files kept of a use case; the oldest go.
        waiting: rows that may wait to be written.
        request_rows: rows kept of one request.
        line_bytes: longer rows are not kept.
    """

    file_bytes: int = 4 * 2**20
    files: int = 8
    waiting: int = 2_000
    request_rows: int = 50
    line_bytes: int = 32_768


class RequestLog:
    """Keeps a sample of the rows that were asked by key. Its thread starts with the first row.

    `outcomes` counts rows by (model, what became of them): `kept`; `dropped`, because the queue was full; `withheld`,
    because personal data came untokenised or the row was too long; `unwritten`, because the disk refused.

    Args:
        folder: where the files go, one folder a use case.
        limits: what it may take.
        random: draws the sample.
        clock: tells the wall clock.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: LogLimits | None = None,
        random: Random | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self.limits = limits or LogLimits()
        self.outcomes: dict[tuple[str, str], int] = defaultdict(int)
        self._random = random or Random()
        self._clock = clock
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(self.limits.waiting)
        self._names: dict[str, list[str]] = {}
        self._files: dict[str, _LogFile] = {}
        self._thread: threading.Thread | None = None
        self._vectors: dict[str, int] = defaultdict(int)
        self._count_at = 0.0

    def offer(
        self,
        served: Served,
        request: InferenceRequest,
        vector: FeatureVector,
        *,
        answer: str = "",
        predictions: NDArray[Any] | None = None,
    ) -> None:
        """Draw from the rows of an answered request, and hand what is drawn to the thread. It never raises.

        Args:
            served: the release that answered.
            request: what was asked.
            vector: what the model saw.
            answer: id of the answer.
            predictions: what it answered, row by row.
        """
        share = served.ref.request_sample
        if share <= 0 or request.id == PROBE:
            return
        try:
            if vector.source != "online":
                self._count(served.ref.use_case, request.rows)
            elif places := draw(self._random, request.rows, share, self.limits.request_rows):
                self._take(served, request, vector, places, answer=answer, predictions=predictions)
        except Exception:
            # The answer is on its way and right; only the sample is lost.
            log.exception("a request of %s cannot be kept for comparison", served.ref.use_case)

    def close(self) -> None:
        """Write what waits and stop the thread."""
        self._tell_vectors()
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            log.warning("the disk holds the request log up; %d sampled rows are lost", self._queue.qsize())
        else:
            self._thread.join(_CLOSE_SECONDS)
        self._thread = None

    def _take(
        self,
        served: Served,
        request: InferenceRequest,
        vector: FeatureVector,
        places: Sequence[int],
        *,
        answer: str,
        predictions: NDArray[Any] | None,
    ) -> None:
        ref, features = served.ref, served.package.features
        names = self._names.get(ref.package)
        if names is None:
            names = self._names[ref.package] = kept_columns(features)
        marks = {view: microseconds(mark) for view, mark in vector.marks.items()}
        asked = [name for name in ref.personal if name in request.columns]
        recorded_at = microseconds(self._clock())
        for place in places:
            row = SampledRow(
                release=ref.release,
                package=ref.package,
                effective_at=min(marks.values(), default=0),
                recorded_at=recorded_at,
                marks=marks,
                columns={name: _plain(vector.columns[name][place]) for name in names},
                answer=f"{answer}.{place}" if answer else "",
                prediction=None if predictions is None else _figure(predictions[place]),
            )
            line = row.to_bytes()
            clear = all(_is_token(row.columns.get(name)) for name in asked)
            self._hand_over(ref.use_case, line if clear and len(line) <= self.limits.line_bytes else None)

    def _hand_over(self, use_case: str, line: bytes | None) -> None:
        outcome = "withheld"
        if line is not None:
            outcome = "kept" if self._put(use_case, line) else "dropped"
        self.outcomes[(use_case, outcome)] += 1

    def _count(self, use_case: str, rows: int) -> None:
        """Add rows that came as full vectors to their number, and hand it over from time to time."""
        self._vectors[use_case] += rows
        if (now := time.monotonic()) >= self._count_at:
            self._count_at = now + _COUNT_SECONDS
            self._tell_vectors()

    def _tell_vectors(self) -> None:
        """Hand the numbers of full vectors over; what the queue cannot take is told the next time."""
        recorded_at = microseconds(self._clock())
        for use_case, rows in self._vectors.items():
            if rows and self._put(use_case, vectors_line(rows, recorded_at)):
                self._vectors[use_case] = 0

    def _put(self, use_case: str, line: bytes) -> bool:
        """Whether the queue took a line."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="request-log", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait((use_case, line))
        except queue.Full:
            return False
        return True

    def _write_all(self) -> None:
        """Write lines as they come, all that wait at once, until the queue says that it is over."""
        over = False
        while not over:
            waiting = [self._queue.get()]
            while len(waiting) < self.limits.waiting and not self._queue.empty():
                waiting.append(self._queue.get())
            over = None in waiting
            lines: dict[str, list[bytes]] = defaultdict(list)
            for use_case, line in filter(None, waiting):
                lines[use_case].append(line)
            for use_case, found in lines.items():
                self._append(use_case, found)
        for file in self._files.values():
            file.close()

    def _append(self, use_case: str, lines: list[bytes]) -> None:
        file = self._files.get(use_case)
        if file is None:
            file = self._files[use_case] = _LogFile(self.folder / use_case, self.limits, self._clock)
        try:
            file.append(lines)
        except OSError as error:
            self.outcomes[(use_case, "unwritten")] += len(lines)
            log.warning("%d sampled rows of %s cannot be written: %s", len(lines), use_case, error)


class _LogFile:
    """The file of a use case that is being written; the next one when it is full."""

    def __init__(self, folder: Path, limits: LogLimits, clock: Callable[[], datetime]) -> None:
        self._folder, self._limits, self._clock = folder, limits, clock
        self._handle: int | None = None
        self._size = self._opened = 0
        self._torn = False

    def append(self, lines: list[bytes]) -> None:
        """Add whole lines; after one that the disk took half of, they begin on a line of their own."""
        if self._handle is not None and os.fstat(self._handle).st_nlink == 0:
            self.close()  # somebody removed the file
        for line in lines:
            if self._handle is not None and self._size + len(line) > self._limits.file_bytes:
                self.close()
            handle = self._open() if self._handle is None else self._handle
            rest = memoryview(b"\n" + line if self._torn else line)
            self._torn = True
            while rest:
                written = os.write(handle, rest)
                self._size += written
                rest = rest[written:]
            self._torn = False

    def close(self) -> None:
        """End the file; the next line begins another."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._size, self._torn = None, 0, False

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._opened += 1
        name = f"{self._clock():%Y%m%dT%H%M%S%f}-{os.getpid()}-{self._opened:06d}{SUFFIX}"
        self._handle = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        for old in log_files(self._folder)[: -self._limits.files]:
            old.unlink(missing_ok=True)
        return self._handle


def draw(random: Random, rows: int, share: float, most: int) -> Sequence[int]:
    """Places of a sample: each row with the same chance, by the gaps between hits; at most so many."""
    if rows == 1:
        return (0,) if random.random() < share else ()
    if share >= 1:
        found: Sequence[int] = range(rows)
    else:
        hits, place, scale = [], -1, math.log1p(-share)
        while (place := place + 1 + int(math.log(1.0 - random.random()) / scale)) < rows:
            hits.append(place)
        found = hits
    return found if len(found) <= most else sorted(random.sample(found, most))


def kept_columns(features: FeatureSpec) -> list[str]:
    """What is kept of a row: keys, features that were looked up or computed, and what functions read of the request."""
    looked_up = (name for view in features.lookups for name in view.features)
    read = (column.name for item in features.on_demand for column in item.request)
    return list(dict.fromkeys([*features.entities, *read, *looked_up, *features.computed]))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _figure(prediction: Any) -> float:
    """One number: the prediction, or the place of the most probable class."""
    return float(prediction.argmax() if prediction.ndim else prediction)


def _is_token(value: Any) -> bool:
    return value is None or (isinstance(value, str) and _TOKEN.match(value) is not None)
