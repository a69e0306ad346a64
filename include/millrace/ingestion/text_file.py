"""A text file as UTF-8 bytes at offsets, and what those are in the file as it was delivered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from millrace.errors import SourceUnavailableError

_CHUNK_BYTES = 1 << 20


class Original(Protocol):
    """The delivered bytes behind a UTF-8 copy."""

    def extent(self, offset: int, length: int) -> tuple[int, int]:
        """Offset and length there of a part of the copy."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the delivered file."""
        ...

    def decode(self, delivered: bytes) -> str:
        """Such bytes as text; those that are none stand as `\\xff`."""
        ...


@dataclass(slots=True)
class TextFile:
    """An open file of UTF-8 text. Its size is that at the moment of opening.

    Attributes:
        path: the file.
        name: what it is called in messages.
        original: the delivered bytes, where the file is a copy of them in UTF-8.
    """

    path: Path
    name: str
    original: Original | None = None
    size: int = field(init=False)
    _descriptor: int = field(init=False)
    _counted: tuple[int, int, bool] = (0, 1, False)

    def __post_init__(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """That many bytes from an offset, fewer only at the end.

        Raises:
            SourceUnavailableError: the file became shorter since it was opened.
        """
        wanted = max(0, min(size, self.size - offset))
        found = os.pread(self._descriptor, wanted, offset)
        while len(found) < wanted:
            more = os.pread(self._descriptor, wanted - len(found), offset + len(found))
            if not more:
                raise SourceUnavailableError(
                    f"the file became shorter while it was read: {self.size} bytes were there",
                    where=self.name,
                    remedy="deliver files under another name and rename them once they are complete",
                )
            found += more
        return found

    def chunks(self, offset: int, end: int) -> Iterator[bytes]:
        """The bytes between two offsets, in pieces."""
        while offset < end:
            yield (piece := self.read(offset, min(_CHUNK_BYTES, end - offset)))
            offset += len(piece)

    def line_of(self, offset: int) -> int:
        """Number of the line that begins at or before an offset, counted from 1. Offsets must not decrease."""
        counted, line, returned = self._counted
        for piece in self.chunks(counted, offset):
            line += piece.count(b"\n")
            if returned or b"\r" in piece:
                line += piece.count(b"\r") - piece.count(b"\r\n") - (returned and piece[:1] == b"\n")
                returned = piece.endswith(b"\r")
        self._counted = (offset, line, returned)
        return line

    def extent(self, offset: int, length: int) -> tuple[int, int]:
        """Offset and length in the file as delivered."""
        return (offset, length) if self.original is None else self.original.extent(offset, length)

    def delivered(self, offset: int, length: int) -> tuple[str, str]:
        """A part of the delivered file as text, where bytes that are none stand as `\\xff`, and the sha256 of it."""
        if self.original is None:
            found = self.read(offset, length)
            return found.decode("utf-8", errors="backslashreplace"), hashlib.sha256(found).hexdigest()
        found = self.original.read(offset, length)
        return self.original.decode(found), hashlib.sha256(found).hexdigest()

    def sha256(self, offset: int, length: int) -> str:
        """Of a part of the delivered file that may be larger than memory."""
        digest = hashlib.sha256()
        read = self.read if self.original is None else self.original.read
        for start in range(offset, offset + length, _CHUNK_BYTES):
            digest.update(read(start, min(_CHUNK_BYTES, offset + length - start)))
        return digest.hexdigest()
