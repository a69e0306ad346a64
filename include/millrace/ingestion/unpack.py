"""Files as plain local ones: fetched and unpacked piece by piece, and never without bound."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.location import SourceFile

PACKED = (".gz", ".zst", ".zip")
_PIECE_BYTES = 1 << 20
_FREE_BYTES = 64 << 20
_GREATEST_RATIO = 1000
_BROKEN = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, pa.ArrowException)


@contextmanager
def local_file(file: SourceFile, folder: Path, *, max_unpacked_bytes: int) -> Iterator[Path]:
    """The plain bytes of a file: itself where it is local and not packed, else a copy for as long as it is needed.

    Args:
        file: what to read.
        folder: for copies.
        max_unpacked_bytes: greatest size of a copy.

    Raises:
        SourceError: not the archive its name says, not exactly one file in it, or unpacked it is too large.
        SourceUnavailableError: the storage stopped answering, or there is no space for a copy.
    """
    with ExitStack() as copies:
        path, limit = Path(file.path), max_unpacked_bytes
        if file.storage is not None:
            path = folder / "fetched"
            copies.callback(path.unlink, missing_ok=True)
            _pour(
                file.storage.pieces(file.path, _PIECE_BYTES), path, _Bound(name=file.place, packed=limit, limit=limit)
            )
        ending = Path(file.path).suffix.lower()
        if ending in PACKED:
            packed, path = path, folder / "unpacked"
            copies.callback(path.unlink, missing_ok=True)
            bound = _Bound(name=file.place, packed=packed.stat().st_size, limit=limit)
            _pour(_unpack(packed, ending, file.place), path, bound)
        yield path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """How large a copy may become.

    Attributes:
        name: of the file, for messages.
        packed: size of what it is made of.
        limit: greatest size.
    """

    name: str
    packed: int
    limit: int

    def check(self, size: int) -> None:
        """Refuse a size that is over the bound."""
        if size > self.limit:
            raise SourceError(
                f"the file is larger than {self.limit} bytes unpacked",
                where=self.name,
                remedy="deliver it in parts, or raise `max_unpacked_bytes` of the source",
            )
        if size > _FREE_BYTES and size > self.packed * _GREATEST_RATIO:
            raise SourceError(
                f"the archive of {self.packed} bytes unpacks to over {_GREATEST_RATIO} times its size",
                where=self.name,
                remedy="deliver the file unpacked, if it is meant to be so",
            )


def _pour(pieces: Iterator[bytes], target: Path, bound: _Bound) -> None:
    size = 0
    try:
        with target.open("wb") as copy:
            for piece in pieces:
                bound.check(size := size + len(piece))
                copy.write(piece)
    except OSError as error:
        raise SourceUnavailableError(
            f"no copy of the file can be made: {error.strerror or error}",
            where=bound.name,
            remedy="free space for staging or mend the rights there, then run the task again",
        ) from error


def _unpack(path: Path, ending: str, name: str) -> Iterator[bytes]:
    """The bytes in an archive."""
    try:
        if ending == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive, name)) as member:
                yield from _pieces(member)
        elif ending == ".gz":
            with gzip.open(path, "rb") as stream:
                yield from _pieces(stream)
        else:
            with pa.OSFile(str(path)) as packed, pa.CompressedInputStream(packed, "zstd") as stream:
                yield from _pieces(stream)
    except _BROKEN as error:
        raise SourceError(
            f"the archive cannot be opened: {error or type(error).__name__}",
            where=name,
            remedy=f"deliver the file again, as its name says ({ending}), without a password",
        ) from error


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _pieces(stream: _Stream) -> Iterator[bytes]:
    while piece := stream.read(_PIECE_BYTES):
        yield piece


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [item for item in archive.infolist() if not item.is_dir()]
    if len(members) != 1:
        raise SourceError(
            f"the archive holds {len(members)} files where one is expected: {[item.filename for item in members[:5]]}",
            where=name,
            remedy="pack one file into it",
        )
    return members[0]
