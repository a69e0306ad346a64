"""A text file in blocks of whole records, and the records that are too long to be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from millrace.ingestion.text_file import TextFile

BLOCK_BYTES = 1 << 22
_HEAD_BYTES = 1 << 16
_PATIENCE = 4
"""A quoted field that spans lines is followed this many times `max_record_bytes` before its quote counts as stray."""


class Extent(NamedTuple):
    """A record in a text: `start` to `end` without what ends its line, `next` the start of the following one."""

    start: int
    end: int
    next: int
    sound: bool


class Cutter(Protocol):
    """Knows where records end."""

    def cut(self, text: bytes, *, final: bool) -> tuple[int, bool]:
        """How many bytes of a text, which begins with a record, are whole records; whether all look sound.

        0 where the first record does not end in it. `final` tells that the file ends with it.
        """
        ...

    def records(self, text: bytes, *, final: bool = True) -> Iterator[Extent]:
        """The records of such a text; of one that is not final, those that surely end in it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Whole records.

    Attributes:
        offset: of the first byte in its file.
        text: their bytes.
        sound: whether the cutter found nothing odd in them.
    """

    offset: int
    text: bytes
    sound: bool

    @property
    def next(self) -> int:
        """Offset of what follows."""
        return self.offset + len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversized:
    """A record longer than what is read.

    Attributes:
        offset: of its first byte in its file.
        length: without the end of its line.
        next: offset of what follows.
        head: its first bytes.
    """

    offset: int
    length: int
    next: int
    head: bytes


def cut_file(file: TextFile, cutter: Cutter, *, start: int, max_record_bytes: int) -> Iterator[Block | Oversized]:
    """The records of a file from an offset to its end. A block holds no record longer than `max_record_bytes`."""
    size, position = min(BLOCK_BYTES, max_record_bytes), start
    while position < file.size:
        text = file.read(position, size)
        length, sound = cutter.cut(text, final=position + len(text) == file.size)
        item = (
            Block(offset=position, text=text[:length], sound=sound)
            if length
            else _long_record(file, cutter, position, max_record_bytes)
        )
        yield item
        position = item.next


def _long_record(file: TextFile, cutter: Cutter, position: int, limit: int) -> Block | Oversized:
    """The record at an offset, which does not end in a block."""
    size, longest = min(BLOCK_BYTES, limit), limit * _PATIENCE
    while size < longest:
        size = min(size * 4, longest)
        text = file.read(position, size)
        found = next(cutter.records(text, final=position + len(text) == file.size), None)
        if found is not None:
            length, following = found.end, found.next
            break
    else:
        length, following = _line(file, position)
    if length <= limit:
        return Block(offset=position, text=file.read(position, following), sound=False)
    head = file.read(position, min(length, _HEAD_BYTES))
    return Oversized(offset=position, length=length, next=position + following, head=head)


def _line(file: TextFile, position: int) -> tuple[int, int]:
    """Length of the line at an offset, without and with what ends it."""
    seen = 0
    for piece in file.chunks(position, file.size):
        if (found := piece.find(b"\n")) >= 0:
            length = seen + found
            returned = length > 0 and file.read(position + length - 1, 1) == b"\r"
            return length - returned, length + 1
        seen += len(piece)
    return seen, seen


def pieces(text: bytes, cutter: Cutter, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Whole records cut into smaller blocks: offset in `text`, the records, whether they look sound."""
    position = 0
    while position < len(text):
        part = text[position : position + size]
        length, sound = cutter.cut(part, final=position + len(part) == len(text))
        if not length:
            rest = text[position:]
            found = next(cutter.records(rest), None)
            length, sound = len(rest) if found is None else found.next, False
        yield position, text[position : position + length], sound
        position += length
