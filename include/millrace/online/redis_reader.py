"""Reading the online store in Redis: one HMGET a call, whatever the number of entities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from millrace.online.address import show
from millrace.online.breaker import Breaker
from millrace.online.layout import ViewLayout
from millrace.online.redis_client import LAYOUT, MARK, STAMP, VIEWS, WHOLE, RedisClient, view_key
from millrace.online.view import StoredRow, View, ViewReader

_RETRIES = 2
_PAUSE_SECONDS = 0.05
_WAIT_SECONDS = 0.5
_OPEN_SECONDS, _LONGEST_OPEN_SECONDS = 1.0, 8.0
_HEAD = STAMP.size


class RedisReader(ViewReader):
    """Reads one Redis database; connects when first asked.

    Args:
        url: its address.
        breaker: keeps callers from waiting, each in turn, for a server that hangs.
    """

    def __init__(self, url: str, *, breaker: Breaker | None = None) -> None:
        self.url = url
        self._client = RedisClient(
            url,
            retries=_RETRIES,
            pause=_PAUSE_SECONDS,
            connect_s=_WAIT_SECONDS,
            answer_s=_WAIT_SECONDS,
            breaker=breaker or Breaker(first_s=_OPEN_SECONDS, most_s=_LONGEST_OPEN_SECONDS),
        )
        self._views: dict[str, tuple[bytes, View]] = {}

    @property
    def where(self) -> str:
        """The server's address, without a password."""
        return show(self.url)

    def views(self) -> list[str]:
        """Names of the views in the store, sorted."""
        named = sorted(name.decode() for name in self._client.ask(lambda client: client.smembers(VIEWS)))

        def present(client: Any) -> list[bool]:
            with client.pipeline(transaction=False) as pipe:
                for name in named:
                    pipe.hexists(view_key(name), MARK)
                found: list[bool] = pipe.execute()
                return found

        return [name for name, there in zip(named, self._client.ask(present), strict=True) if there]

    def close(self) -> None:
        """Let go of the connections; the next read makes new ones."""
        self._client.close()
        self._views.clear()

    def _fetch(self, view: str, entities: Sequence[Sequence[Any]]) -> tuple[View, list[StoredRow | None]]:
        stamp, known = self._views.get(view) or self._load(view)
        while True:
            keys = [known.key(entity) for entity in entities]
            fields = [MARK if key is None else key for key in keys]
            fields.append(MARK)
            values = self._client.ask(partial(_values, view, fields))
            now = values.pop()
            if now == stamp:
                break
            if now is not None and now[WHOLE.size :] == stamp[WHOLE.size :]:
                known = self._keep(view, now, known.layout)[1]
                break
            stamp, known = self._load(view)
        stamps = STAMP.unpack_from
        rows: list[StoredRow | None] = [
            None if value is None or key is None else (stamps(value)[0], value[_HEAD:])
            for key, value in zip(keys, values, strict=True)
        ]
        return known, rows

    def _view(self, view: str) -> View:
        return self._load(view)[1]

    def _unlearn(self, view: str) -> None:
        self._views.pop(view, None)

    def _load(self, view: str) -> tuple[bytes, View]:
        stamp, layout = self._client.ask(lambda client: client.hmget(view_key(view), [MARK, LAYOUT]))
        if stamp is None or layout is None:
            self._views.pop(view, None)
            raise self._unknown(view, self.views())
        return self._keep(view, stamp, ViewLayout.from_json(layout.decode()))

    def _keep(self, view: str, stamp: bytes, layout: ViewLayout) -> tuple[bytes, View]:
        held = self._views.get(view)
        if held is None or held[0] != stamp:
            held = self._views[view] = (stamp, View.of(view, layout, WHOLE.unpack_from(stamp)[0]))
        return held


def _values(view: str, fields: list[bytes], client: Any) -> list[bytes | None]:
    found: list[bytes | None] = client.hmget(view_key(view), fields)
    return found
