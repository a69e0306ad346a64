"""Writing the online store in Redis: thousands of rows a call, the newer row chosen by the server itself.

Rows are upserted piece by piece and the mark moves with the last piece, so a writer that dies is made good by running
it again. Readers see the rows of a long increment before its mark; an increment of one piece, and a view that is
replaced, appear at one moment.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError, OnlineStoreConflictError, OnlineStoreUnavailableError
from millrace.online.address import show
from millrace.online.base import PackedRow, ViewState
from millrace.online.layout import ViewLayout
from millrace.online.packing import packed
from millrace.online.redis_client import LAYOUT, MARK, OWN_FIELDS, STAMP, VIEWS, WHOLE, RedisClient, view_key

if TYPE_CHECKING:
    import pyarrow as pa

_RETRIES = 6
_PAUSE_SECONDS = 0.1
_PIECE = 5_000
_ABANDONED_SECONDS = 3_600

_UPSERT = r"""
local held = redis.call('HGET', KEYS[1], '\255')
if not held or string.sub(held, 9) ~= ARGV[1] then return -1 end
local count = (#ARGV - 2) / 2
for first = 1, count, 1000 do
  local last = math.min(first + 999, count)
  local fields, newer = {}, {}
  for place = first, last do fields[#fields + 1] = ARGV[2 * place + 1] end
  local rows = redis.call('HMGET', KEYS[1], unpack(fields))
  for place = first, last do
    local field, row, old = ARGV[2 * place + 1], ARGV[2 * place + 2], rows[place - first + 1]
    local wins = true
    if old then
      local event, known = struct.unpack('>i8i8', row)
      local old_event, old_known = struct.unpack('>i8i8', old)
      wins = event > old_event or (event == old_event and known >= old_known)
    end
    if wins then
      newer[#newer + 1] = field
      newer[#newer + 1] = row
    end
  end
  if #newer > 0 then redis.call('HSET', KEYS[1], unpack(newer)) end
end
if ARGV[2] ~= '' and struct.unpack('>i8', ARGV[2]) > struct.unpack('>i8', held) then
  redis.call('HSET', KEYS[1], '\255', ARGV[2] .. ARGV[1])
end
return redis.call('HLEN', KEYS[1])
"""
_SWAP = r"""
local held = redis.call('HGET', KEYS[1], '\255') or ''
if held == ARGV[2] then return redis.call('HLEN', KEYS[1]) end
if held ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return -1 end
redis.call('UNLINK', KEYS[1])
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('SADD', KEYS[3], ARGV[3])
return redis.call('HLEN', KEYS[1])
"""


class RedisWriter:
    """Writes one Redis database.

    Args:
        url: its address.
        retries: how often a call is tried again where the server does not answer.
        piece: rows a call.
    """

    def __init__(self, url: str, *, retries: int = _RETRIES, piece: int = _PIECE) -> None:
        self.url = url
        self._client = RedisClient(url, retries=retries, pause=_PAUSE_SECONDS, connect_s=5.0, answer_s=30.0)
        self._piece = piece

    def declare(self, view: str, layout: ViewLayout) -> None:
        """Make an empty view where there is none; a view that exists keeps its rows and layout."""
        if self._stamp(view) is None:
            with contextlib.suppress(OnlineStoreConflictError):
                self._replace(view, layout, [], 0, b"")

    def write(
        self,
        view: str,
        layout: ViewLayout,
        batches: Iterable[pa.RecordBatch | Sequence[PackedRow]],
        *,
        high_water_mark: int,
        replace: bool = False,
    ) -> int:
        """Upsert rows and move the mark, as `OnlineWriter` says.

        Raises:
            OnlineStoreConflictError: another writer replaced the view meanwhile, or moved it while this one did.
        """
        stamp = self._stamp(view)
        pieces = packed(layout, batches, rows=self._piece)
        if replace or stamp is None or self._layout(view) != layout.to_json():
            return self._replace(view, layout, pieces, high_water_mark, stamp or b"")
        return self._upsert(view, view_key(view), stamp[WHOLE.size :], pieces, high_water_mark)

    def forget(self, view: str) -> None:
        """Remove a view and its rows."""
        self._client.ask(lambda client: client.unlink(view_key(view)))
        self._client.ask(lambda client: client.srem(VIEWS, view))

    def state(self, view: str) -> ViewState | None:
        """What the store holds of a view; None where there is no such view."""

        def ask(client: Any) -> list[Any]:
            with client.pipeline(transaction=True) as pipe:
                pipe.hmget(view_key(view), [MARK, LAYOUT])
                pipe.hlen(view_key(view))
                found: list[Any] = pipe.execute()
                return found

        (stamp, layout), fields = self._client.ask(ask)
        if stamp is None or layout is None:
            return None
        return ViewState(
            layout=ViewLayout.from_json(layout.decode()),
            high_water_mark=WHOLE.unpack_from(stamp)[0],
            rows=fields - OWN_FIELDS,
        )

    def close(self) -> None:
        """Let go of the connections; the next call makes new ones."""
        self._client.close()

    def _stamp(self, view: str) -> bytes | None:
        """Mark and generation of a view."""
        found: bytes | None = self._client.ask(lambda client: client.hget(view_key(view), MARK))
        return found

    def _layout(self, view: str) -> str:
        found = self._client.ask(lambda client: client.hget(view_key(view), LAYOUT))
        return (found or b"").decode()

    def _replace(
        self, view: str, layout: ViewLayout, pieces: Iterable[list[PackedRow]], mark: int, expected: bytes
    ) -> int:
        """Fill a hash aside and rename it, unless the view is no longer the one that was there at the start."""
        generation = secrets.token_bytes(16)
        stamp, aside = WHOLE.pack(mark) + generation, f"{view_key(view)}:{generation.hex()}"
        try:
            self._client.ask(
                lambda client: client.hset(aside, mapping={MARK: stamp, LAYOUT: layout.to_json().encode()})
            )
            self._upsert(view, aside, generation, self._kept(aside, pieces), mark)
            if (fields := self._run(_SWAP, [view_key(view), aside, VIEWS], [expected, stamp, view])) < 0:
                raise self._conflict(view)
        except OnlineStoreUnavailableError:
            raise
        except BaseException:
            with contextlib.suppress(MillraceError):
                self._client.ask(lambda client: client.unlink(aside))
            raise
        return fields - OWN_FIELDS

    def _kept(self, aside: str, pieces: Iterable[list[PackedRow]]) -> Iterator[list[PackedRow]]:
        """The same pieces; what was filled aside goes by itself some time after the last one."""
        self._client.ask(lambda client: client.expire(aside, _ABANDONED_SECONDS))
        for piece in pieces:
            self._client.ask(lambda client: client.expire(aside, _ABANDONED_SECONDS))
            yield piece

    def _upsert(self, view: str, key: str, generation: bytes, pieces: Iterable[list[PackedRow]], mark: int) -> int:
        """Rows of the hash afterwards; the mark moves with the last piece."""
        rest = iter(pieces)
        piece: list[PackedRow] | None = next(rest, [])
        fields = 0
        while piece is not None:
            following = next(rest, None)
            arguments = [generation, WHOLE.pack(mark) if following is None else b""]
            for field, event, known, row in piece:
                arguments += (field, STAMP.pack(event, known) + row)
            if (fields := self._run(_UPSERT, [key], arguments)) < 0:
                raise self._conflict(view)
            piece = following
        return fields - OWN_FIELDS

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> int:
        return int(self._client.ask(lambda client: client.register_script(script)(keys=keys, args=arguments)))

    def _conflict(self, view: str) -> OnlineStoreConflictError:
        return OnlineStoreConflictError(
            f"another writer changed view {view!r} of the online store meanwhile",
            where=show(self.url),
            remedy="run again when the other materialization is done",
        )
