"""The connection to Redis, the names of keys in it, and what its errors mean.

A view is one hash: a field an entity (its key's bytes) holding event_timestamp, known_at and the packed row, and two
fields that no key can be named like: the mark with the view's generation, and the layout. One HMGET therefore reads
rows and mark of one moment, and a view is replaced by renaming a hash that was filled aside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from millrace.errors import OnlineStoreUnavailableError, SettingsError
from millrace.online.address import show
from millrace.online.breaker import Breaker

MARK = b"\xff"
LAYOUT = b"\xfe"
OWN_FIELDS = 2
VIEWS = "millrace:views"
STAMP = struct.Struct(">qq")
WHOLE = struct.Struct(">q")
_Answer = TypeVar("_Answer")


def view_key(view: str) -> str:
    """Key of the hash that holds a view."""
    return f"millrace:{{{view}}}"


class RedisClient:
    """A connection pool, made when first asked; safe to share between threads.

    Args:
        url: address of the server.
        retries: how often a call is tried again where the server does not answer, each time after a longer pause.
        pause: seconds before the first retry.
        connect_s: how long a server may take to accept.
        answer_s: how long it may take to answer.
        breaker: where given, a call that got no answer in time is not tried again, and for a while no other is made.
    """

    def __init__(
        self,
        url: str,
        *,
        retries: int,
        pause: float,
        connect_s: float,
        answer_s: float,
        breaker: Breaker | None = None,
    ) -> None:
        self.url = url
        self._retries = retries
        self._pause = pause
        self._timeouts = {"socket_connect_timeout": connect_s, "socket_timeout": answer_s}
        self._breaker = breaker
        self._client: Any = None

    def ask(self, call: Callable[[Any], _Answer]) -> _Answer:
        """What a call on the client gives.

        Raises:
            OnlineStoreUnavailableError: no answer, however often it was tried.
            SettingsError: the server refuses who asks, or the address is none.
        """
        if self._breaker is None:
            return self._call(call)
        return self._breaker.call(partial(self._call, call), hung=_hung, refused=self._refused)

    def _refused(self, left_s: float) -> OnlineStoreUnavailableError:
        return OnlineStoreUnavailableError(
            f"Redis did not answer in time and is not asked again for {left_s:.1f} s",
            where=show(self.url),
            remedy="see that the server runs and is not overloaded, then ask again",
        )

    def _call(self, call: Callable[[Any], _Answer]) -> _Answer:
        import redis

        try:
            return call(self._connect())
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise SettingsError(
                f"Redis refuses the account: {error}",
                where=show(self.url),
                remedy="give an account that may read and write in MILLRACE_ONLINE_STORE",
            ) from error
        except redis.RedisError as error:
            hung = self._breaker is not None and isinstance(error, redis.TimeoutError)
            attempts = "" if hung else f" ({self._retries + 1} attempts)"
            raise OnlineStoreUnavailableError(
                f"Redis does not answer as it should{attempts}: {error}",
                where=show(self.url),
                remedy="see that the server runs, can be reached and has memory left, then run again",
            ) from error

    def close(self) -> None:
        """Let go of all connections; the next call makes new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self) -> Any:
        if self._client is None:
            self._client = self._make()
        return self._client

    def _make(self) -> Any:
        try:
            import redis
            from redis.backoff import ExponentialBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise SettingsError(
                "the online store is in Redis, whose client is not installed",
                where=show(self.url),
                remedy="pip install 'redis[hiredis]'",
            ) from error
        again: tuple[type[Exception], ...] = (redis.ConnectionError,)
        if self._breaker is None:
            again = (redis.ConnectionError, redis.TimeoutError, TimeoutError)
        try:
            return redis.Redis.from_url(
                self.url,
                retry=Retry(ExponentialBackoff(base=self._pause, cap=2.0), self._retries, again),
                **self._timeouts,
                health_check_interval=30,
            )
        except ValueError as error:
            raise SettingsError(
                f"not an address of Redis: {error}",
                where=show(self.url),
                remedy="use redis://host:port/db, rediss://… or unix://path?db=n",
            ) from error


def _hung(error: BaseException) -> bool:
    import redis

    return isinstance(error, OnlineStoreUnavailableError) and isinstance(error.__cause__, redis.TimeoutError)
