"""Where records of CSV begin and end (RFC 4180, with the freedoms that spreadsheets take).

A quote opens a field only as its first character; elsewhere it is a character like any other. A quoted field must be
followed by a delimiter or the end of its record. Where it is not, only the line with the opening quote is given up and
reading goes on with the next line, so that one forgotten quote costs one record and not the rest of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from millrace.errors import SpecError
from millrace.ingestion.block import Extent

_QUOTE, _FEED, _RETURN = 0x22, 0x0A, 0x0D
_LINE = re.compile(rb"[^\r\n]*+(\r\n|\r|\n|\Z)")


class Grammar:
    """CSV with one delimiter.

    Args:
        delimiter: one character of ASCII.

    Raises:
        SpecError: it is none, or means something else already.
    """

    def __init__(self, delimiter: str) -> None:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise SpecError(
                f"delimiter {delimiter!r} cannot part fields", where="delimiter", remedy="use one such as , ; | or tab"
            )
        mark = re.escape(delimiter.encode())
        field = rb'"(?:[^"]++|"")*+"(?=[%s\r\n]|\Z)|[^"%s\r\n][^%s\r\n]*+|' % (mark, mark, mark)
        self.delimiter = ord(delimiter)
        self._mark = delimiter.encode()
        self._field = re.compile(rb"(%s)(?:%s|(\Z))" % (field, mark))
        self._record = re.compile(rb"(?:%s)(?:%s(?:%s))*+(\r\n|\r|\n|\Z)" % (field, mark, field))
        self._open = re.compile(rb'(?:(?:%s)%s)*+"(?:[^"]++|"")*+"?\Z' % (field, mark))

    def cut(self, text: bytes, *, final: bool) -> tuple[int, bool]:
        """How much of a text is whole records, and whether all of their quotes stand as they should.

        Args:
            text: begins with a record.
            final: whether the file ends with it.

        Returns:
            0 where the first record does not end in it.
        """
        end = len(text) if final else _last_line_end(text)
        if end == 0 or text.find(b'"', 0, end) < 0:
            return end, True
        codes = np.frombuffer(text, np.uint8, end)
        quotes = np.flatnonzero(codes == _QUOTE)
        if self._are_sound(codes, quotes):
            if quotes.size % 2 == 0:
                return end, True
            feeds = np.flatnonzero(codes[: quotes[-1]] == _FEED)
            outside = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
            if outside.size:
                return int(outside[-1]) + 1, True
        last = 0
        for extent in self.records(text, final=final):
            last = extent.next
        return last, False

    def _are_sound(self, codes: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether every quote opens a field, closes one, or is half of a doubled one."""
        allowed = np.zeros(256, dtype=bool)
        allowed[[self.delimiter, _FEED, _RETURN, _QUOTE]] = True
        opening, closing = quotes[0::2], quotes[1::2]
        before, after = codes[opening[opening > 0] - 1], codes[closing[closing + 1 < codes.size] + 1]
        return bool(allowed[before].all() and allowed[after].all())

    def records(self, text: bytes, *, final: bool = True) -> Iterator[Extent]:
        """The records of a text that begins with one; of one that is not final, those that surely end in it."""
        position, size = 0, len(text)
        while position < size:
            found = self._record.match(text, position)
            sound = found is not None
            if found is None:
                if not final and self._open.match(text, position):
                    return
                found = _LINE.match(text, position)
            if found is None or (not final and found.end() == size and not found[1].endswith(b"\n")):
                return
            yield Extent(position, found.start(1), found.end(), sound)
            position = found.end()

    def has_fields(self, record: bytes, number: int) -> bool:
        """Whether a sound record has that many fields."""
        if b'"' not in record:
            return record.count(self._mark) == number - 1
        return len(self.fields(record)) == number

    def fields(self, record: bytes) -> list[bytes]:
        """The fields of a sound record, without their quotes; of another, those before the fault."""
        found, position = [], 0
        while (field := self._field.match(record, position)) is not None:
            value = field[1]
            found.append(value[1:-1].replace(b'""', b'"') if value[:1] == b'"' else value)
            if field[2] is not None:
                break
            position = field.end()
        return found


def _last_line_end(text: bytes) -> int:
    """After the last line that surely ends in it; a carriage return at the very end may be half of a line's end."""
    return text.rfind(b"\n") + 1 or text.rfind(b"\r", 0, len(text) - 1) + 1
