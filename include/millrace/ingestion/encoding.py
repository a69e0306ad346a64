"""Text of any declared encoding as a copy in UTF-8 that knows where each byte came from.

A byte that is no text goes into the copy as half of a surrogate pair, which UTF-8 forbids: so the record is found at
fault when it is read, and the length of what the copy was made of can still be told.
"""

from __future__ import annotations

import bisect
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from millrace.errors import SourceError, SourceUnavailableError, SpecError

_PIECE_BYTES = 1 << 18
_KEEP = "millrace.keep"
_BASE = 0xDC00
_KEPT = re.compile("[\udc00-\udcff]")
_NO_TEXT = re.compile(r"utf_7|hz|iso2022_.*|idna|punycode|(raw_)?unicode_escape|undefined|mbcs|oem")
_MARKS = {
    "utf_16": [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")],
    "utf_32": [(codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")],
}


def canonical_encoding(name: str) -> str:
    """The name by which Python knows an encoding, such as `utf_8` or `cp1252`.

    Raises:
        SpecError: it knows none of that name, or one in which bytes do not stand for characters one after the other.
    """
    try:
        found = codecs.lookup(name)
        known = found.name.replace("-", "_")
        if not getattr(found, "_is_text_encoding", True) or _NO_TEXT.fullmatch(known):
            raise LookupError(name)
    except (LookupError, ValueError) as error:
        raise SpecError(
            f"no encoding of text {name!r}", where="encoding", remedy="use one such as utf-8, cp1252 or utf-16"
        ) from error
    return {"utf_8_sig": "utf_8", "utf8": "utf_8"}.get(known, known)


@dataclass(slots=True, kw_only=True)
class Transcoded:
    """A delivered file and its copy in UTF-8.

    Attributes:
        path: the delivered file.
        encoding: its encoding, byte order included.
    """

    path: Path
    encoding: str
    _copy: Path
    _starts: list[int] = field(default_factory=list)
    _sources: list[int] = field(default_factory=list)
    _last: tuple[int, int] = (-1, 0)

    def extent(self, offset: int, length: int) -> tuple[int, int]:
        """Offset and length in the delivered file of a part of the copy."""
        start = self._source(offset)
        return start, self._source(offset + length) - start

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the delivered file."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def decode(self, delivered: bytes) -> str:
        """Such bytes as text; those that are none stand as `\\xff`."""
        return delivered.decode(self.encoding, errors="backslashreplace")

    def _source(self, offset: int) -> int:
        index = bisect.bisect_right(self._starts, offset) - 1
        start, source = self._starts[index], self._sources[index]
        if start <= self._last[0] <= offset:
            start, source = self._last
        with self._copy.open("rb") as file:
            file.seek(start)
            part = file.read(offset - start)
        text, kept = _KEPT.subn("", part.decode("utf-8", "surrogatepass"))
        source += kept + len(text.encode(self.encoding))
        self._last = (offset, source)
        return source


def transcode(path: Path, copy: Path, encoding: str, *, name: str) -> Transcoded:
    """Copy a text file into UTF-8, piece by piece.

    Args:
        path: the delivered file.
        copy: to be written.
        encoding: as `canonical_encoding` gave it.
        name: of the file, for messages.

    Raises:
        SourceError: UTF-16 or UTF-32 without a mark that tells the order of bytes.
        SourceUnavailableError: the copy cannot be written.
    """
    with path.open("rb") as file:
        start, encoding = _order(file.read(4), encoding, name)
        file.seek(start)
        found = Transcoded(path=path, encoding=encoding, _copy=copy)
        written = 0
        try:
            with copy.open("wb") as target:
                for consumed, text in _decoded(iter(lambda: file.read(_PIECE_BYTES), b""), encoding):
                    found._starts.append(written)
                    found._sources.append(start + consumed)
                    written += target.write(text.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise SourceUnavailableError(
                f"no copy of the file in UTF-8 can be made: {error.strerror or error}",
                where=name,
                remedy="free space for staging or mend the rights there, then run the task again",
            ) from error
    return found


def _decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[tuple[int, str]]:
    """Text of pieces, each with the number of bytes that the text before it was made of."""
    decoder = codecs.getincrementaldecoder(encoding)(errors=_KEEP)
    consumed, read = 0, 0
    for piece in pieces:
        text = decoder.decode(piece)
        read += len(piece)
        yield consumed, text
        consumed = read - len(decoder.getstate()[0])
    yield consumed, decoder.decode(b"", final=True)


def _order(head: bytes, encoding: str, name: str) -> tuple[int, str]:
    """Where the text begins, and its encoding with the order of bytes."""
    if encoding not in _MARKS:
        return 0, encoding
    for mark, exact in _MARKS[encoding]:
        if head.startswith(mark):
            return len(mark), exact
    raise SourceError(
        f"{encoding.replace('_', '-')} without a mark of byte order at its beginning",
        where=name,
        remedy=f"declare {_MARKS[encoding][0][1]} or {_MARKS[encoding][1][1]} as the source's `encoding`",
    )


def _keep(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no text, each as half a surrogate pair."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(_BASE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_KEEP, _keep)
