"""The pages of a service: how one leads to the next, and the records in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from millrace.errors import SourceError
from millrace.ingestion.base import Connection, missing_column, told_fields
from millrace.ingestion.columnar import to_batch
from millrace.ingestion.conform import Fault
from millrace.ingestion.httpx_session import Answer, Session, open_session, shown
from millrace.ingestion.stream import MAX_ROWS, Loose, note_undeclared
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import HttpSourceSpec

_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPass:
    """One pass over all pages.

    Attributes:
        spec: the source.
        connection: host and credentials, if any.
        partition: the partition asked for.
        url: of the first page, filled in.
        sleep: waits some seconds.
    """

    spec: HttpSourceSpec
    connection: Connection | None
    partition: Partition
    url: str
    sleep: Callable[[float], None]

    def stream(self, notes: list[str]) -> Iterator[Loose]:
        """The records, page by page. A field that no record of any page has is an error, one that some lack is null.

        Raises:
            SourceError: the service refuses, or a page is not what the spec says.
            SourceUnavailableError: the service does not answer.
        """
        seen: dict[str, None] = {}
        where, records = "", 0
        with open_session(self.spec, self.connection, sleep=self.sleep) as session:
            for number, (answer, page) in enumerate(self._pages(session), start=self.spec.first_page):
                where = f"{shown(answer.url)}, page {number}"
                items = self._records(page, where)
                records += sum(isinstance(item, dict) for item in items)
                for start in range(0, len(items), MAX_ROWS):
                    yield self._loose(items[start : start + MAX_ROWS], seen)
        note_undeclared(self.spec, list(seen), notes, keys=True)
        for name in self.spec.columns if records else ():
            if name not in seen:
                raise missing_column(name, told_fields(self.spec, seen), where=where)

    def _pages(self, session: Session) -> Iterator[tuple[Answer, Any]]:
        url = first = session.address(self.url)
        counter = self.spec.page_param if not self.spec.next else None
        if counter is not None:
            url = first.copy_set_param(counter, self.spec.first_page)
        asked = set()
        last = ""
        for number in range(self.spec.first_page, self.spec.first_page + self.spec.max_pages):
            asked.add(str(url))
            answer = session.get(url)
            page = _parse(answer, f"{shown(answer.url)}, page {number}")
            if counter is not None and not self._records(page, shown(answer.url)):
                return
            yield answer, page
            digest = hashlib.sha256(answer.body).hexdigest()
            if counter is not None and digest == last:
                raise _circle(answer, number, f"does the service know the parameter {counter!r}?")
            last = digest
            following = self._next(session, first, answer, page, number)
            if following is None:
                return
            if str(following) in asked:
                raise _circle(answer, number, "mend the service, or `next` of the source")
            url = following
        raise SourceError(
            f"there are more than {self.spec.max_pages} pages",
            where=shown(first),
            remedy="raise `max_pages`, or ask for larger pages",
        )

    def _next(self, session: Session, first: httpx.URL, answer: Answer, page: Any, number: int) -> httpx.URL | None:
        spec = self.spec
        if not spec.next:
            return None if spec.page_param is None else first.copy_set_param(spec.page_param, number + 1)
        found = answer.following if spec.next == "link" else _at(page, spec.next)
        if found is _ABSENT or found is None or found == "":
            return None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise SourceError(
                f"{spec.next!r} holds no address or cursor",
                where=f"{shown(answer.url)}, page {number}",
                remedy="correct `next` of the source",
            )
        if spec.cursor_param is not None and spec.next != "link":
            return first.copy_set_param(spec.cursor_param, str(found))
        return session.follow(answer.url, str(found))

    def _records(self, page: Any, where: str) -> list[Any]:
        found = _at(page, self.spec.records) if self.spec.records and page is not None else page
        if found is None:
            return []
        if not isinstance(found, list):
            place = f"at {self.spec.records!r}" if self.spec.records else "in the page itself"
            raise SourceError(
                f"there is no list of records {place}",
                where=where,
                remedy="correct `records` of the source: the path of the list in a page",
            )
        return found

    def _loose(self, items: list[Any], seen: dict[str, None]) -> Loose:
        records = [item if isinstance(item, dict) else {} for item in items]
        for record in records:
            seen.update(dict.fromkeys(record))
        odd = np.array([not isinstance(item, dict) for item in items], dtype=bool)
        fault = Fault("parse", None, "no JSON object", self.partition.key)
        batch = to_batch(records, arrow_schema(self.spec.columns), decimal=True)
        return Loose(batch=batch, records=items, known=[(odd, fault)])


def _parse(answer: Answer, where: str) -> Any:
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise SourceError(
            f"the page is not JSON: {told}",
            where=where,
            remedy="correct `url` of the source, or mend the service",
        ) from None


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _at(page: Any, path: str) -> Any:
    """What lies at a dotted path; `_ABSENT` where there is no such path."""
    for part in path.split("."):
        page = page.get(part, _ABSENT) if isinstance(page, dict) else _ABSENT
    return page


def _circle(answer: Answer, number: int, remedy: str) -> SourceError:
    return SourceError(f"page {number} leads in a circle", where=shown(answer.url), remedy=remedy)
