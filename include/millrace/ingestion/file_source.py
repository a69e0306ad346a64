"""The source of kind `file`: CSV, JSON lines and Parquet, local or in a storage, packed or not."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa

from millrace.artifact import digest_of
from millrace.errors import SourceError, SourceUnavailableError, SpecError
from millrace.ingestion.base import DeclaredSource
from millrace.ingestion.csv_grammar import Grammar
from millrace.ingestion.csv_reader import read_header
from millrace.ingestion.encoding import canonical_encoding, transcode
from millrace.ingestion.jsonl_reader import read_lines
from millrace.ingestion.location import SourceFile, locate
from millrace.ingestion.parquet_reader import ParquetReader
from millrace.ingestion.spool import Spool
from millrace.ingestion.stream import note_undeclared
from millrace.ingestion.text_file import TextFile
from millrace.ingestion.text_format import Task
from millrace.ingestion.text_reader import TextReader
from millrace.ingestion.unpack import PACKED, local_file
from millrace.partition import Partition
from millrace.spec.source import FileSourceSpec

Format = Literal["csv", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_RESTS_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource(DeclaredSource[FileSourceSpec]):
    """Files read one after the other, by name.

    Attributes:
        root: folder that relative paths start at.
        staging: folder for what is fetched, unpacked or put into UTF-8 before it is read.
    """

    root: Path
    staging: Path

    def fingerprint(self, partition: Partition) -> str | None:
        """Names, sizes, times and inodes of local files, or what a storage tells; None where a file is still warm.

        A file may change twice within the tick of a clock, so one that changed in the last two seconds has none.
        """
        stamps = [_stamp(file) for file in self.files(partition)]
        return None if not stamps or None in stamps else digest_of(stamps)

    def places(self, partition: Partition) -> list[str]:
        """The URI of each file."""
        return [file.name for file in self.files(partition)]

    def files(self, partition: Partition) -> list[SourceFile]:
        """The files of a partition, by name.

        Raises:
            SourceError: there is none where one is named, or its place cannot be read.
            SourceUnavailableError: the storage does not answer.
        """
        connection = self.connections(self.spec.connection) if self.spec.connection else None
        return locate(self.spec.uri, self.root, partition=partition.key, connection=connection)

    def read(self, partition: Partition) -> FileReading:
        """Start one pass over the rows of a partition.

        Raises:
            SpecError: no such encoding or delimiter.
        """
        return FileReading(
            source=self,
            task=Task(spec=self.spec, partition=partition, first=self.first, last=self.last),
            encoding=canonical_encoding(self.spec.encoding),
            grammar=Grammar(self.spec.delimiter),
        )


@dataclass(slots=True, kw_only=True)
class FileReading:
    """One pass over the files of a partition.

    Attributes:
        source: whose files.
        task: what is asked for.
        encoding: of text files.
        grammar: of CSV.
    """

    source: FileSource
    task: Task
    encoding: str
    grammar: Grammar
    _spool: Spool = field(default_factory=Spool, init=False)
    _undeclared: dict[str, None] = field(default_factory=dict, init=False)
    _notes: list[str] = field(default_factory=list, init=False)
    _keys: bool = field(default=False, init=False)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the partition in the order of the files; batches without rows are left out.

        Raises:
            SourceError: a file is absent, unreadable, or has not what `columns` declares.
            SourceUnavailableError: its storage does not answer.
        """
        files = self.source.files(self.task.partition)
        if not files:
            self._no_files()
        for file in files:
            try:
                yield from self._file(file)
            except FileNotFoundError as error:
                raise SourceUnavailableError(
                    "the file was taken away while it was read", where=file.place, remedy="try again once it is back"
                ) from error
            except OSError as error:
                raise SourceError(
                    f"cannot be read: {error.strerror or error}",
                    where=file.place,
                    remedy="check its rights, or deliver the file again",
                ) from error
        note_undeclared(self.task.spec, list(self._undeclared), self._notes, keys=self._keys)

    def _no_files(self) -> None:
        told = f"no such file for partition {self.task.partition.key}"
        if not self.task.spec.may_be_empty:
            raise SourceError(
                told,
                where=self.source.origin,
                remedy="run the task again once the file has landed, or set may_be_empty: true",
            )
        self._notes.append(told)

    def _file(self, file: SourceFile) -> Iterator[pa.RecordBatch]:
        spec = self.source.spec
        kind = format_of(file.name, spec)
        self._keys = self._keys or kind == "jsonl"
        if spec.header and kind != "csv":
            raise SourceError(
                f"`header` is for CSV, and this is {kind}", where=file.place, remedy="take `header` out of the source"
            )
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=self.source.staging)))
            path = opened.enter_context(local_file(file, folder, max_unpacked_bytes=spec.max_unpacked_bytes))
            if kind == "parquet":
                reader = ParquetReader(path=path, name=file.place, task=self.task, label=file.name, spool=self._spool)
                yield from reader.batches()
                self._undeclared.update(dict.fromkeys(reader.undeclared))
            else:
                yield from self._text(self._opened(path, folder, file.place, opened), kind, file.name)

    def _opened(self, path: Path, folder: Path, where: str, opened: ExitStack) -> TextFile:
        if self.encoding == "utf_8":
            return opened.enter_context(TextFile(path, where))
        copy = folder / "utf8"
        original = transcode(path, copy, self.encoding, name=where)
        return opened.enter_context(TextFile(copy, where, original))

    def _text(self, text: TextFile, kind: Format, label: str) -> Iterator[pa.RecordBatch]:
        format_ = read_header(text, self.task, self.grammar) if kind == "csv" else read_lines(text, self.task)
        yield from TextReader(file=text, format=format_, task=self.task, label=label, spool=self._spool).batches()
        self._undeclared.update(dict.fromkeys(format_.undeclared))

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """The records that could not be read."""
        return self._spool.read()

    def notes(self) -> list[str]:
        """Fields that are not declared, and a partition without files."""
        return list(self._notes)


def format_of(name: str, spec: FileSourceSpec) -> Format:
    """The format of a file, told by the spec or by its name; an archive that does not tell holds CSV.

    Raises:
        SpecError: neither tells.
    """
    if spec.format != "auto":
        return spec.format
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    packed = bool(endings) and endings[-1] in PACKED
    inner = endings[-2:-1] if packed else endings[-1:]
    if inner and inner[0] in _FORMATS:
        return _FORMATS[inner[0]]
    if packed:
        return "csv"
    raise SpecError(
        f"the name does not tell the format: {PurePosixPath(name).name}",
        where=name,
        remedy="set `format` of the source to csv, jsonl or parquet",
    )


def _stamp(file: SourceFile) -> list[object] | None:
    if file.storage is not None:
        told = file.storage.stamp(file.path)
        return None if told is None else [file.name, *told]
    try:
        found = Path(file.path).stat()
    except OSError:
        return None
    if max(found.st_mtime, found.st_ctime) > time.time() - _RESTS_S:
        return None
    return [file.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
