"""A circuit breaker: after a server failed to answer in time, callers fail at once for a while instead of waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


class Breaker:
    """Open for a pause after a timeout, twice as long after each further one; then one caller tries for all.

    Args:
        first_s: the first pause.
        most_s: the longest.
        clock: seconds that never run backwards.
    """

    def __init__(self, *, first_s: float, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_s, self._most_s, self._clock = first_s, most_s, clock
        self._lock = threading.Lock()
        self._pause_s = self._until = 0.0
        self._tried = False

    def call(
        self,
        ask: Callable[[], _Answer],
        *,
        hung: Callable[[BaseException], bool],
        refused: Callable[[float], Exception],
    ) -> _Answer:
        """What asking the server gives, where the caller may.

        Args:
            ask: asks it.
            hung: whether an error of `ask` means that no answer came in time.
            refused: the error for who may not ask, given the seconds that are left.
        """
        if left := self.admit():
            raise refused(left)
        try:
            found = ask()
        except BaseException as error:
            if hung(error):
                self.timed_out()
            else:
                self.answered()
            raise
        self.answered()
        return found

    def admit(self) -> float:
        """0 where the caller may ask the server, else for how many seconds it is left alone yet.

        A caller that is let in after a pause is the only one until it says how that went.
        """
        if not self._pause_s:
            return 0.0
        with self._lock:
            if not self._pause_s:
                return 0.0
            if (left := self._until - self._clock()) > 0:
                return left
            if self._tried:
                return self._first_s
            self._tried = True
            return 0.0

    def answered(self) -> None:
        """The server answered, if only with an error: everybody may ask."""
        if self._pause_s:
            with self._lock:
                self._pause_s, self._tried = 0.0, False

    def timed_out(self) -> None:
        """The server did not answer in time: nobody asks before the pause is over.

        Calls that were under way when the pause began, and time out in it, do not make it longer.
        """
        with self._lock:
            now = self._clock()
            if self._pause_s and now < self._until:
                return
            self._pause_s = min(self._pause_s * 2, self._most_s) if self._pause_s else self._first_s
            self._until, self._tried = now + self._pause_s, False
