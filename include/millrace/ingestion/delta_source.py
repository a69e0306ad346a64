"""The source of kind `delta`: a Delta table that somebody else writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import digest_of
from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import UNASSIGNED, Connection, DeclaredSource, missing_column
from millrace.ingestion.conform import Fault
from millrace.ingestion.connection import scrub, storage_options
from millrace.ingestion.stream import MAX_ROWS, Loose, StreamReading, note_undeclared
from millrace.partition import Partition
from millrace.spec.source import DeltaSourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSource(DeclaredSource[DeltaSourceSpec]):
    """One version of a table, file by file in the order of their names.

    Rows without a value in `filter_column` are set aside with the domain's first partition.

    Attributes:
        root: folder that relative paths start at.
    """

    root: Path

    def fingerprint(self, partition: Partition) -> str:
        """Table, version and partition: a version never changes.

        Raises:
            SourceError: there is no such table or version.
            SourceUnavailableError: its storage does not answer.
        """
        with self._pass(partition).told():
            table = self._pass(partition).open()
            identity = [self.spec.uri, str(table.metadata().id), table.version()]
        return digest_of([*identity, partition.key if self.spec.filter_column else ""])

    def read(self, partition: Partition) -> StreamReading:
        """One pass over the rows of a partition, all of the version that is the newest as it begins.

        Raises:
            SourceError: there is no such connection.
        """
        return StreamReading(
            spec=self.spec,
            partition=partition,
            first=self.first,
            last=self.last,
            where=self.origin,
            stream=self._pass(partition).stream,
        )

    def _pass(self, partition: Partition) -> _Pass:
        name = self.spec.connection
        return _Pass(
            spec=self.spec,
            root=self.root,
            connection=None if name is None else self.connections(name),
            partition=partition,
            nulls=self.first is None or self.first == partition.key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One pass over the table; `nulls` where rows of no partition are set aside with it."""

    spec: DeltaSourceSpec
    root: Path
    connection: Connection | None
    partition: Partition
    nulls: bool

    def open(self) -> Any:
        """The `deltalake.DeltaTable` at the version that is read."""
        from deltalake import DeltaTable

        uri = self.spec.uri
        if ".." in PurePosixPath(uri).parts:
            raise SourceError(
                "the path climbs out of its folder with '..'", where=uri, remedy="write the path without '..'"
            )
        place = uri if "://" in uri else str(self.root / uri)
        options = None if self.connection is None else storage_options(self.connection)
        return DeltaTable(place, version=self.spec.version, storage_options=options)

    def stream(self, notes: list[str]) -> Iterator[Loose]:
        """The rows as the table has them; memory stays within two batches and a row group."""
        column = self.spec.filter_column
        with self.told():
            dataset = self.open().to_pyarrow_dataset()
            names = dataset.schema.names
            for name in [*self.spec.columns, *([column] if column else [])]:
                if name not in names:
                    raise missing_column(name, names, where=self.spec.uri)
            note_undeclared(self.spec, names, notes)
            only = None if column is None else self._only(dataset.schema.field(column))
            fragments = sorted(dataset.get_fragments(filter=only), key=lambda item: str(item.path))
            for fragment in fragments:
                scanner = fragment.scanner(
                    schema=dataset.schema,
                    filter=only,
                    batch_size=MAX_ROWS,
                    batch_readahead=1,
                    fragment_readahead=1,
                    use_threads=False,
                )
                for batch in scanner.to_batches():
                    if batch.num_rows:
                        yield self._loose(batch)

    def _only(self, field: pa.Field) -> pc.Expression:
        try:
            key = pc.cast(pa.scalar(self.partition.key), field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                f"column {field.name!r} is {field.type}, which holds no key such as {self.partition.key!r}",
                where=f"{self.spec.uri}, column {field.name}",
                remedy="name a column that holds the partition's key, or use `partition_columns`",
            ) from None
        same = pc.field(field.name) == key
        return same | pc.field(field.name).is_null() if self.nulls else same

    def _loose(self, batch: pa.RecordBatch) -> Loose:
        column = self.spec.filter_column
        if column is None:
            return Loose(batch=batch)
        empty = batch.column(column).is_null().to_numpy(zero_copy_only=False)
        return Loose(batch=batch, known=[(empty, Fault("no_partition", column, "no value", UNASSIGNED))])

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say in our words what deltalake and Arrow say, without secrets."""
        from deltalake.exceptions import DeltaError, TableNotFoundError

        local = "://" not in self.spec.uri or self.spec.uri.startswith("file://")
        try:
            yield
        except TableNotFoundError:
            raise SourceError(
                "there is no Delta table", where=self.spec.uri, remedy="correct `uri` of the source, or write the table"
            ) from None
        except FileNotFoundError:
            raise SourceUnavailableError(
                "a file of the version was removed while it was read, as a vacuum does",
                where=self.spec.uri,
                remedy="run the task again; have the table keep its files longer",
            ) from None
        except (DeltaError, pa.ArrowInvalid) as error:
            raise self._failed(SourceError, error, "correct `uri` or `version` of the source") from None
        except OSError as error:
            if local:
                raise self._failed(SourceError, error, "check the rights of the table's files") from None
            raise self._failed(SourceUnavailableError, error, "run the task again once its storage is well") from None

    def _failed(self, kind: type[SourceError], error: Exception, remedy: str) -> SourceError:
        told = scrub(" ".join(str(error).split())[:400], self.connection)
        return kind(f"the table cannot be read: {told}", where=self.spec.uri, remedy=remedy)
