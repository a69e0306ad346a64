"""The source of kind `http`: pages of JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from millrace.artifact import digest_of, iso
from millrace.ingestion.base import Connection, DeclaredSource
from millrace.ingestion.stream import StreamReading
from millrace.partition import Partition
from millrace.spec.source import HttpSourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSource(DeclaredSource[HttpSourceSpec]):
    """Pages of JSON objects, in the order the service gives them.

    Credentials go to the host of the first page and to no other: neither a redirect nor the address of a next page
    leads away from it.

    Attributes:
        sleep: waits some seconds, between two attempts.
    """

    sleep: Callable[[float], None] = time.sleep

    @property
    def origin(self) -> str:
        """The URL as declared, without its query."""
        return self.spec.url.partition("?")[0]

    def fingerprint(self, partition: Partition) -> str | None:
        """The strong validator the service gives for the one page there is; None where it gives none.

        That of a first page says nothing of the pages after it, so that sources of several pages have none.

        Raises:
            SourceError: there is no such connection, or the URL is wrong.
        """
        if self.spec.next or self.spec.page_param is not None:
            return None
        from millrace.ingestion.httpx_session import open_session

        with open_session(self.spec, self._connection(), sleep=self.sleep) as session:
            url = session.address(self._filled(partition))
            validator = session.validator(url)
        return None if validator is None else digest_of([str(url), validator])

    def read(self, partition: Partition) -> StreamReading:
        """One pass over the rows of a partition.

        Raises:
            SourceError: there is no such connection.
        """
        from millrace.ingestion.httpx_page import HttpPass

        work = HttpPass(
            spec=self.spec,
            connection=self._connection(),
            partition=partition,
            url=self._filled(partition),
            sleep=self.sleep,
        )
        return StreamReading(
            spec=self.spec,
            partition=partition,
            first=self.first,
            last=self.last,
            where=self.origin,
            stream=work.stream,
        )

    def _connection(self) -> Connection | None:
        return None if self.spec.connection is None else self.connections(self.spec.connection)

    def _filled(self, partition: Partition) -> str:
        words = {"partition": partition.key, "start": iso(partition.start), "end": iso(partition.end)}
        url = self.spec.url
        for word, value in words.items():
            url = url.replace(f"{{{word}}}", quote(value, safe=""))
        return url
