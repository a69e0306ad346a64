"""Training rows in the lake, read a batch at a time: of a snapshot, in the order of time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.lake import Table
from millrace.lake.file import is_remote, local
from millrace.training.rows import BATCH_ROWS, INSTANT, KNOWN_AT, PARTITION, digest_rows, known_by

_AT, _KEY = "event_timestamp", "key"
_READAHEAD = 1


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
        for run in self._runs():
            if run[0].ordered:
                paths = [path for piece in run for path in piece.paths]
                yield from self._scan(paths, names, whole=run[0].whole, coded=coded)
            else:
                more = list(dict.fromkeys([*names, _AT, _KEY]))
                rows = pa.Table.from_batches(self._scan(run[0].paths, more, whole=run[0].whole))
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
    def _coded_dataset(self) -> Any:
        """The same with text as codes: Parquet has them already."""
        from pyarrow.dataset import ParquetReadOptions

        texts = {field.name for field in self.schema if pa.types.is_string(field.type)} - {PARTITION}
        options = ParquetReadOptions(dictionary_columns=texts)
        return self._snapshot.to_pyarrow_dataset(filesystem=self._files, parquet_read_options=options)

    @cached_property
    def _files(self) -> Any:
        """The folder of a local table: read directly, it takes less memory than through the lake's own file system."""
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        if is_remote(self.table.uri):
            return None
        return SubTreeFileSystem(str(local(self.table.uri)), LocalFileSystem())

    @cached_property
    def _pieces(self) -> list[_Piece]:
        import pyarrow.dataset as ds

        found: dict[str, list[Any]] = {}
        for fragment in self._coded_dataset.get_fragments():
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
        paths = [file.path for file in files]
        rows = sum(file.rows for file in files)
        if not whole:
            read = _only(self._coded_dataset, paths).to_table([KNOWN_AT]).column(KNOWN_AT)
            known = int(pc.sum(known_by(read, self.known_until)).as_py() or 0)
            whole, rows = known == rows, known
        ordered = all(before.last < after.first for before, after in itertools.pairwise(files))
        return _Piece(key, paths, rows, whole=whole, ordered=ordered)

    def _runs(self) -> Iterator[list[_Piece]]:
        """Neighbours that can be read as one stream."""
        run: list[_Piece] = []
        for piece in (piece for piece in self._pieces if piece.rows):
            if run and not (run[-1].ordered and piece.ordered and run[-1].whole == piece.whole):
                yield run
                run = []
            run.append(piece)
        if run:
            yield run

    def _scan(
        self, paths: Sequence[str], names: list[str], *, whole: bool, coded: bool = False
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow.dataset as ds

        limit = pa.scalar(datetime.fromisoformat(self.known_until), INSTANT)
        found = _only(self._coded_dataset if coded else self._dataset, paths).to_batches(
            columns=names,
            filter=None if whole else ds.field(KNOWN_AT) <= limit,
            batch_size=BATCH_ROWS,
            batch_readahead=_READAHEAD,
            fragment_readahead=_READAHEAD,
            fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=self._files is None),
        )
        yield from (batch for batch in found if batch.num_rows)


def _only(dataset: Any, paths: Sequence[str]) -> Any:
    """A dataset of some files of another, in their order."""
    import pyarrow.dataset as ds

    fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
    chosen = [fragments[path] for path in paths]
    return ds.FileSystemDataset(chosen, dataset.schema, dataset.format, dataset.filesystem)


def _bounds(fragment: Any, name: str) -> tuple[datetime, datetime] | None:
    """Least and greatest value of a column by the footer; None where it does not tell, or a value is missing."""
    metadata = fragment.metadata
    place = metadata.schema.names.index(name)
    told = [metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups)]
    if any(item is None or not item.has_min_max or item.null_count for item in told):
        return None
    return min(item.min for item in told), max(item.max for item in told)
