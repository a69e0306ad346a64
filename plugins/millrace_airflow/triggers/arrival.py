"""New files of a source, seen from the triggerer."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from millrace.errors import MillraceError
from millrace.partition import Grain
from millrace.settings import settings
from millrace_airflow.connections import await_connection
from millrace_airflow.triggers.receipt import read_receipts

if TYPE_CHECKING:
    from millrace.ingestion.arrival import FoundFile

_NAMES_TOLD = 50
_PATIENCE_S = 300.0
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Told:
    """An event that no receipt was seen for yet."""

    names: tuple[str, ...]
    due: float


class FileArrivalTrigger(BaseEventTrigger):
    """Fires when files of a source are new or changed and have been written to their end.

    It lists names, sizes and times and opens no file. An event without a receipt from the arrivals DAG is told again,
    at growing intervals. What it told it remembers only as long as it runs: after a restart of the triggerer it tells
    all files once more, and the lake knows which of them are ingested already.

    Args:
        source: name of the source in the domain's spec.
        uri: where its files arrive.
        connection: Airflow connection that holds the credentials of the URI's storage.
        grain: what the partition keys in file names look like.
        poll_seconds: time between two listings.
        settle_seconds: how long a file must have stood still.
    """

    def __init__(
        self,
        *,
        source: str,
        uri: str,
        connection: str | None,
        grain: Grain,
        poll_seconds: float,
        settle_seconds: float,
    ) -> None:
        super().__init__()
        self.source = source
        self.uri = uri
        self.connection = connection
        self.grain = grain
        self.poll_seconds = poll_seconds
        self.settle_seconds = settle_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where the triggerer finds the class, and its arguments."""
        return (
            "millrace_airflow.triggers.arrival.FileArrivalTrigger",
            {
                "source": self.source,
                "uri": self.uri,
                "connection": self.connection,
                "grain": self.grain,
                "poll_seconds": self.poll_seconds,
                "settle_seconds": self.settle_seconds,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event a look that shows something new, for as long as the DAG is there and not paused."""
        from millrace.ingestion.arrival import ArrivalWatch

        watch = ArrivalWatch(settle_seconds=self.settle_seconds)
        told: dict[str, _Told] = {}
        patience, fault = _PATIENCE_S, ""
        while True:
            try:
                now = time.monotonic()
                if overdue := await self._overdue(told, now):
                    self.log.warning("%s: %d events did not come through, telling them again", self.uri, len(overdue))
                    watch.forget(name for event in overdue for name in event.names)
                    patience = min(2 * patience, _LONGEST_S)
                elif not told:
                    patience = _PATIENCE_S
                new = watch.look(await self._list(), now)
            except MillraceError as error:
                if str(error) != fault:
                    self.log.warning("%s\nlooking again every %g s", error, self.poll_seconds)
                fault = str(error)
            else:
                fault = ""
                if new:
                    payload = self._payload(new)
                    told[payload["number"]] = _Told(tuple(new), now + patience)
                    self.log.info("%s: %d new files, event %s", self.uri, len(new), payload["number"])
                    yield TriggerEvent(payload)
            await asyncio.sleep(self.poll_seconds)

    async def _overdue(self, told: dict[str, _Told], now: float) -> list[_Told]:
        """Take the events out of `told` that have a receipt, and those that are due; give back the latter."""
        if not told or self.asset_state_store is None:
            return []
        receipts = await read_receipts(self.asset_state_store)
        overdue = []
        for number, event in list(told.items()):
            if number in receipts:
                del told[number]
            elif now >= event.due:
                overdue.append(told.pop(number))
        return overdue

    async def _list(self) -> dict[str, FoundFile]:
        from millrace.ingestion.arrival import list_files

        connection = None if self.connection is None else await await_connection(self.connection)
        return await asyncio.to_thread(
            list_files, self.uri, grain=self.grain, root=settings().root, connection=connection
        )

    def _payload(self, new: Mapping[str, FoundFile]) -> dict[str, Any]:
        from millrace.ingestion.arrival import keys_of

        return {
            "number": secrets.token_hex(8),
            "source": self.source,
            "files": list(new)[:_NAMES_TOLD],
            "count": len(new),
            "partitions": keys_of(new),
        }
