"""Training rows in the lake, read a batch at a time: of a snapshot, in the order of time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa

from millrace.lake import Table
from millrace.lake.file import is_remote, local
from millrace.training.data.rows import BATCH_ROWS, KNOWN_AT, PARTITION, digest_rows, known_by

_AT, _KEY = "event_timestamp", "key"
_BATCH_BYTES, _LEAST_BATCH = 4 << 20, 1_024
"""What a batch of wide rows takes, about, and how many rows it has at least."""
_GROUP_BYTES = 8 << 20
"""What a group of rows takes that is read as a whole."""


@dataclass(frozen=True, slots=True)
class _File:
    """What the footer of a file tells; its rows are in the order of time, as they were written.

    Attributes:
        path: where it is.
        rows: how many.
        first: earliest instant.
        last: latest instant.
        known: when the last label was known; None where the footer does not tell, or a row has none.
    """

    path: str
    rows: int
    first: datetime
    last: datetime
    known: datetime | None

    @classmethod
    def of(cls, fragment: Any) -> _File:
        """Reads the footer."""
        at, known = _bounds(fragment, _AT), _bounds(fragment, KNOWN_AT)
        first, last = at or (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
        return cls(fragment.path, fragment.metadata.num_rows, first, last, known[1] if known else None)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The files of a partition in the order of time.

    Attributes:
        partition: its key.
        paths: its files.
        rows: how many of their rows have a label known in time.
        whole: whether that is all of them.
        ordered: whether the files, one after the other, are in the order of time.
    """

    partition: str
    paths: list[str]
    rows: int
    whole: bool
    ordered: bool


@dataclass(frozen=True, kw_only=True)
class LakeRows:
    """Rows of a training set's snapshot whose label was known in time. It pickles: other processes read for themselves.

    Attributes:
        table: the training set.
        version: snapshot.
        columns: columns in their order, `partition` among them.
        known_until: ISO instant that labels must be known by.
        chosen: keys of the partitions to read; all where None.
    """

    table: Table
    version: int
    columns: tuple[str, ...]
    known_until: str
    chosen: tuple[str, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Fields alone: what was read of the lake stays with the process that read it."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def schema(self) -> pa.Schema:
        """As of the protocol."""
        return pa.schema([self._kinds.field(name) for name in self.columns])

    @property
    def num_rows(self) -> int:
        """As of the protocol."""
        return sum(piece.rows for piece in self._pieces)

    @property
    def sizes(self) -> dict[str, int]:
        """As of the protocol."""
        return {piece.partition: piece.rows for piece in self._pieces if piece.rows}

    @property
    def partitions(self) -> list[str]:
        """As of the protocol."""
        return list(self.sizes)

    @cached_property
    def digest(self) -> str:
        """As of the protocol; one pass over all columns."""
        return digest_rows(self)

    def batches(self, columns: Sequence[str] | None = None, *, coded: bool = False) -> Iterator[pa.RecordBatch]:
        """As of the protocol. A partition whose files overlap in time is read and sorted as a whole."""
        names = list(self.columns if columns is None else columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        for piece in self._pieces:
            if piece.ordered:
                yield from self._read(piece, names, coded=coded)
            else:
                more = list(dict.fromkeys([*names, _AT, _KEY]))
                rows = pa.Table.from_batches(self._read(piece, more))
                rows = rows.sort_by([(_AT, "ascending"), (_KEY, "ascending")]).select(names).cast(schema)
                yield from rows.to_batches(max_chunksize=BATCH_ROWS)

    def only(self, partitions: Sequence[str], *, known_until: str | None = None) -> LakeRows:
        """As of the protocol; a later instant than its own is not given."""
        limit = (
            self.known_until if known_until is None else min(known_until, self.known_until, key=datetime.fromisoformat)
        )
        kept = [key for key in partitions if self.chosen is None or key in self.chosen]
        return replace(self, chosen=tuple(kept), known_until=limit)

    @cached_property
    def _snapshot(self) -> Any:
        return self.table.open(self.version)

    @cached_property
    def _kinds(self) -> pa.Schema:
        return pa.schema(self._snapshot.schema().to_arrow())

    @cached_property
    def _dataset(self) -> Any:
        return self._snapshot.to_pyarrow_dataset(filesystem=self._files)

    @cached_property
    def _files(self) -> Any:
        """The folder of a local table: read directly, it takes less memory than through the lake's own file system."""
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        if is_remote(self.table.uri):
            return None
        return SubTreeFileSystem(str(local(self.table.uri)), LocalFileSystem(use_mmap=True))

    @cached_property
    def _pieces(self) -> list[_Piece]:
        import pyarrow.dataset as ds

        found: dict[str, list[Any]] = {}
        for fragment in self._dataset.get_fragments():
            key = str(ds.get_partition_keys(fragment.partition_expression)[PARTITION])
            if self.chosen is None or key in self.chosen:
                found.setdefault(key, []).append(fragment)
        return [self._piece(key, found[key]) for key in sorted(found)]

    def _piece(self, key: str, fragments: list[Any]) -> _Piece:
        """Looks through the footers of a partition's files, and at the instants of labels where these do not tell."""
        limit = datetime.fromisoformat(self.known_until)
        files = [_File.of(fragment) for fragment in fragments if fragment.metadata.num_rows]
        files.sort(key=lambda file: (file.first, file.path))
        whole = all(file.known is not None and file.known <= limit for file in files)
        ordered = all(before.last < after.first for before, after in itertools.pairwise(files))
        paths, rows = [file.path for file in files], sum(file.rows for file in files)
        if not whole:
            looked = _Piece(key, paths, rows, whole=False, ordered=ordered)
            known = sum(batch.num_rows for batch in self._read(looked, [KNOWN_AT]))
            whole, rows = known == rows, known
        return _Piece(key, paths, rows, whole=whole, ordered=ordered)

    def _read(self, piece: _Piece, names: list[str], *, coded: bool = False) -> Iterator[pa.RecordBatch]:
        """Batch by batch: a scan of the dataset would hold whole groups of rows."""
        files = self._dataset.filesystem
        needed = dict.fromkeys(names if piece.whole else [*names, KNOWN_AT])
        for path in piece.paths:
            with files.open_input_file(path) as source, self._parquet(source, coded=coded) as parquet:
                present = set(parquet.schema_arrow.names)
                there = [name for name in needed if name in present] or [KNOWN_AT]
                for group in range(parquet.num_row_groups):
                    for batch in _batches(parquet, group, there):
                        known = batch if piece.whole else batch.filter(known_by(batch[KNOWN_AT], self.known_until))
                        if known.num_rows:
                            yield self._named(known, names, piece.partition)

    def _parquet(self, source: Any, *, coded: bool) -> Any:
        """A file; with `coded`, its text comes as codes, which Parquet has already."""
        from pyarrow.parquet import ParquetFile, read_metadata

        metadata = read_metadata(source)
        texts = {field.name for field in self.schema if coded and pa.types.is_string(field.type)}
        coded_there = sorted(texts.intersection(metadata.schema.names))
        return ParquetFile(source, metadata=metadata, read_dictionary=coded_there, pre_buffer=is_remote(self.table.uri))

    def _named(self, batch: pa.RecordBatch, names: list[str], partition: str) -> pa.RecordBatch:
        """The columns asked for, of the types of the table; a file that lacks one has no value in it."""
        columns, present = [], dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in names:
            kind = self.schema.field(name).type
            if name == PARTITION:
                column = pa.repeat(pa.scalar(partition).cast(kind), batch.num_rows)
            elif name in present:
                column = present[name]
            else:
                column = pa.nulls(batch.num_rows, kind)
            plain = column.type == kind or pa.types.is_dictionary(column.type)
            columns.append(column if plain else column.cast(kind))
        return pa.RecordBatch.from_arrays(columns, names)


def _batches(parquet: Any, group: int, names: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a group: at once where they are few, since then all cores read, else a batch after the other."""
    rows, width = parquet.metadata.row_group(group).num_rows, 8 * len(names)
    if rows * width <= _GROUP_BYTES:
        yield from parquet.read_row_group(group, columns=names).to_batches(max_chunksize=BATCH_ROWS)
    else:
        size = max(_LEAST_BATCH, min(BATCH_ROWS, _BATCH_BYTES // width))
        yield from parquet.iter_batches(size, row_groups=[group], columns=names)


def _bounds(fragment: Any, name: str) -> tuple[datetime, datetime] | None:
    """Least and greatest value of a column by the footer; None where it does not tell, or a value is missing."""
    metadata = fragment.metadata
    place = metadata.schema.names.index(name)
    told = [metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups)]
    if any(item is None or not item.has_min_max or item.null_count for item in told):
        return None
    return min(item.min for item in told), max(item.max for item in told)
