"""A connection to PostgreSQL that waits for an answer only so long: a server that hangs keeps its sockets open."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

_Value = TypeVar("_Value")


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing for too long, and the connection is closed. A retry helps once the server goes on."""


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up, and closes itself, once the server was silent for `silence_s` seconds."""

    silence_s = 60.0

    def wait(self, gen: PQGen[_Value], *args: Any, **kwargs: Any) -> _Value:
        """What a step of the protocol gives, in the time there is.

        Raises:
            NoAnswerError: the server was silent for too long.
        """
        try:
            return super().wait(_heard(gen, self.silence_s), *args, **kwargs)
        except NoAnswerError:
            self.close()
            raise


def _heard(gen: PQGen[_Value], silence_s: float) -> PQGen[_Value]:
    """The same steps; an error where nothing happened on the socket for too long."""
    try:
        state = next(gen)
        end = time.monotonic() + silence_s
        while True:
            ready = yield state
            if ready:
                end = time.monotonic() + silence_s
            elif time.monotonic() > end:
                raise NoAnswerError(f"no answer within {silence_s:g} s")
            state = gen.send(ready)
    except StopIteration as done:
        value: _Value = done.value
        return value
