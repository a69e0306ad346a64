"""The process that judges trials in another environment, and who waits for which of its words."""

from __future__ import annotations

import itertools
import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from millrace.errors import TrainingError
from millrace.training.isolation.worker_process import (
    Place,
    end_worker,
    ended_early,
    error_of,
    kill_worker,
    lines_of,
    start_worker,
)
from millrace.training.run import StopFitError

log = logging.getLogger(__name__)
_POLL_S = 0.2
GONE: dict[str, Any] = {"gone": True}
"""What whoever waits is told last, once the process has ended."""
Told = dict[str, Any]


class JudgeProcess:
    """The worker of one search. Several trials may be under way; each has a number and an inbox."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._worker = start_worker("millrace.training.tuning.judge_worker", [str(place.folder)], place)
        self._numbers, self._speaking = itertools.count(), threading.Lock()
        self._inboxes: dict[int, queue.SimpleQueue[Told]] = {}
        self._own: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self.gone = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def await_ready(self, stop: Callable[[], bool]) -> None:
        """Wait until its folds are encoded."""
        try:
            while True:
                if stop():
                    raise StopFitError("the search was asked to end")
                if (told := take(self._own)) is None:
                    continue
                if "failed" in told:
                    raise error_of(told["failed"])
                if told is GONE:
                    raise self.why()
                return
        except BaseException:
            self.close()
            raise

    def open(self) -> tuple[int, queue.SimpleQueue[Told]]:
        """Number and inbox of another trial."""
        number, inbox = next(self._numbers), queue.SimpleQueue[Told]()
        self._inboxes[number] = inbox
        if self.gone:
            inbox.put(GONE)
        return number, inbox

    def forget(self, number: int) -> None:
        """Nobody waits for this trial any more."""
        self._inboxes.pop(number, None)

    def say(self, document: Mapping[str, Any]) -> None:
        """Tell the worker; nothing where it is gone, which its inboxes tell."""
        assert self._worker.stdin is not None
        with self._speaking:
            try:
                self._worker.stdin.write(json.dumps(document).encode() + b"\n")
                self._worker.stdin.flush()
            except (OSError, ValueError):
                log.debug("the worker %d is gone", self._worker.pid)

    def why(self) -> TrainingError:
        """The error of a worker that is gone."""
        return ended_early(self._worker, self._place)

    def close(self) -> None:
        """End it."""
        self.gone = True
        kill_worker(self._worker)
        self._reader.join()
        end_worker(self._worker)

    def _read(self) -> None:
        try:
            for line in lines_of(self._worker):
                self._pass_on(line)
        finally:
            self.gone = True
            for waiting in (self._own, *list(self._inboxes.values())):
                waiting.put(GONE)

    def _pass_on(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            log.info("worker: %s", line.decode("utf-8", "replace").rstrip())
        elif "trial" not in told:
            self._own.put(told)
        elif (inbox := self._inboxes.get(told["trial"])) is not None:
            inbox.put(told)


def take(inbox: queue.SimpleQueue[Told]) -> Told | None:
    """The next word, or None after a moment without one."""
    try:
        return inbox.get(timeout=_POLL_S)
    except queue.Empty:
        return None
