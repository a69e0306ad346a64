"""One Delta table: replace a partition atomically, read a snapshot, find what is there.

Writes carry a content digest in the commit, so that unchanged input commits nothing and a reference can be
given back for it. The Delta runtime must not be *used* in a process that forks afterwards; importing is fine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import LakeError, LakeUnavailableError
from millrace.lake import addition, column, commits, file
from millrace.lake.commits import PARTITION, Write
from millrace.lake.digest import content_digest
from millrace.lake.replacement import Replacement
from millrace.lake.restart import restart
from millrace.lake.staging import StagedFile

log = logging.getLogger(__name__)
_KEEP_HISTORY = {"delta.logRetentionDuration": "interval 36500 days", "delta.enableExpiredLogCleanup": "false"}
"""Digests, notes and snapshots are read from the log for ever; Delta would drop what is a month old."""
_REFUSALS = ("os error", "Generic ")
"""What deltalake's messages say where the storage under it failed: an errno, or an object store's own error."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Delta table by its name under a lake.

    Attributes:
        lake: path or URI of the lake.
        name: name of the table, slashes allowed (`flights/clean/flights`).
    """

    lake: str
    name: str

    @property
    def uri(self) -> str:
        """Where the table lies."""
        return f"{self.lake.rstrip('/')}/{self.name}"

    def exists(self) -> bool:
        """True once something was committed.

        Raises:
            LakeUnavailableError: the storage does not answer.
        """
        from deltalake import DeltaTable

        try:
            return bool(DeltaTable.is_deltatable(self.uri))
        except OSError as error:
            raise LakeUnavailableError(
                f"table {self.name!r} cannot be looked for: {_last_words(error)}",
                where=self.uri,
                remedy="is the storage up, and are its address and credentials right? Then run the task again",
            ) from error

    def open(self, version: int | None = None) -> Any:
        """The `deltalake.DeltaTable` at a version (latest by default).

        Raises:
            LakeError: there is no such table or version.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(self.uri, version=version)
        except (TableNotFoundError, DeltaError) as error:
            raise LakeError(
                f"no snapshot {'' if version is None else version} of table {self.name!r}",
                where=self.uri,
                remedy="run the stage that writes it first, or correct the version",
            ) from error

    def version(self) -> int:
        """Latest version."""
        return int(self.open().version())

    def columns(self, version: int | None = None) -> dict[str, str]:
        """Column → Delta type of a snapshot; a type of several parts as JSON."""
        fields = orjson.loads(self.open(version).schema().to_json())["fields"]
        kinds = {field["name"]: field["type"] for field in fields}
        return {name: kind if isinstance(kind, str) else orjson.dumps(kind).decode() for name, kind in kinds.items()}

    def read(
        self,
        *,
        version: int | None = None,
        partitions: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Rows of a snapshot, of the named partitions only where given, in the order they were written per file."""
        import pyarrow.dataset as ds

        table = self.open(version)
        wanted = None if partitions is None else ds.field(PARTITION).isin(pa.array(partitions, pa.string()))
        return table.to_pyarrow_table(filters=wanted, columns=None if columns is None else list(columns))

    def partitions(self, version: int | None = None) -> list[str]:
        """Keys present, sorted."""
        if version is None and not self.exists():
            return []
        found = {item[PARTITION] for item in self.open(version).partitions()}
        return sorted(found)

    def files(self, *, version: int | None = None, partitions: Sequence[str] | None = None) -> list[str]:
        """Absolute URIs of the Parquet files of a snapshot, for engines that scan files."""
        wanted = None if partitions is None else [(PARTITION, "in", list(partitions))]
        return list(self.open(version).file_uris(wanted))

    def fetch(self, into: Path, *, version: int | None = None, partitions: Sequence[str] | None = None) -> list[Path]:
        """Local Parquet files of a snapshot, in a fixed order, without the partition column.

        Args:
            into: folder for copies of the files of an object store.
            version: snapshot; the latest by default.
            partitions: keys; all by default.
        """
        return file.fetch(self.uri, sorted(self.files(version=version, partitions=partitions)), into)

    def find(self, digest: str, partition: str = "") -> DatasetRef | None:
        """The reference of the newest write of a partition, where its content has this digest."""
        found = self.note(partition)
        return found[0] if found is not None and found[0].digest == digest else None

    def note(self, partition: str = "") -> tuple[DatasetRef, dict[str, str]] | None:
        """The newest write of a partition with what its writer noted; None where there is none."""
        if not self.exists():
            return None
        commit = commits.newest(self.open(), partition)
        return None if commit is None else commits.read(self.name, commit)

    def newest(self) -> dict[str, DatasetRef]:
        """Partition → reference of its newest write; empty where the table is missing. One pass over the history."""
        if not self.exists():
            return {}
        found: dict[str, DatasetRef] = {}
        for commit in commits.of_partitions(self.open()):
            if commits.partition_of(commit) not in found:
                found[commits.partition_of(commit)] = commits.read(self.name, commit)[0]
        return found

    def writes(self, version: int | None = None) -> Iterator[Write]:
        """The writes of partitions up to a version (the latest by default), newest first; none of a missing table."""
        if version is not None or self.exists():
            yield from (commits.write_of(self.name, commit) for commit in commits.of_partitions(self.open(version)))

    def replace(
        self,
        rows: pa.Table,
        *,
        partition: str = "",
        digest: str | None = None,
        note: Mapping[str, str] | None = None,
        evolve: bool = False,
        after: int | None = None,
    ) -> DatasetRef:
        """Replace one partition (or the whole unpartitioned table) in one commit; equal content commits nothing.

        Args:
            rows: the new content, without the partition column (it is added).
            partition: key; "" for a table that has no partitions.
            digest: digest of the content where the caller has one; else taken of the rows.
            note: what `note` gives back for this write.
            evolve: whether columns may be added; otherwise any difference is refused.
            after: version of the write of this partition that the content was made from (-1 where there was none); a
                write in between is then a conflict instead of being replaced.

        Raises:
            LakeError: the columns are others than the table's.
            LakeConflictError: other writers won every attempt, or one came after `after`.
        """
        digest = digest or content_digest(rows)
        if (known := self.find(digest, partition)) is not None:
            log.info("%s %s: unchanged, nothing committed", self.name, partition)
            return known
        keyed = _with_key(rows, partition) if partition else rows
        self._ensure(keyed.schema, partitioned=bool(partition), evolve=evolve)
        change = Replacement(
            table=self, partition=partition, digest=digest, rows=rows.num_rows, note=note or {}, after=after
        )
        return change.by_rows(keyed)

    def replace_file(
        self,
        staged: StagedFile,
        *,
        partition: str = "",
        note: Mapping[str, str] | None = None,
        evolve: bool = False,
        dropped: Collection[str] = (),
        after: int | None = None,
    ) -> DatasetRef:
        """Replace one partition by a staged Parquet file, which moves into the table; equal content commits nothing.

        Args:
            staged: the file, without the partition column.
            partition: key; "" for a table that has no partitions.
            note: what `note` gives back for this write.
            evolve: whether columns may be added; otherwise any difference is refused.
            dropped: columns of the table that the file need not have; its rows hold null there.
            after: as in `replace`.

        Raises:
            LakeError: the columns are others than the table's.
            LakeConflictError: other writers won every attempt, or one came after `after`.
        """
        if (known := self.find(staged.digest, partition)) is not None:
            log.info("%s %s: unchanged, nothing committed", self.name, partition)
            return known
        schema = staged.schema.append(pa.field(PARTITION, pa.string())) if partition else staged.schema
        self._ensure(schema, partitioned=bool(partition), evolve=evolve, dropped=dropped)
        change = Replacement(
            table=self, partition=partition, digest=staged.digest, rows=staged.rows, note=note or {}, after=after
        )
        return change.by_stream(staged) if file.is_remote(self.uri) else change.by_move(staged)

    def append(self, rows: pa.Table, *, partition: str, marker: str) -> DatasetRef:
        """Append rows under a marker once: a second append with the same marker commits nothing.

        The marker is Delta's own transaction identifier (application id). Delta would let two appends of one marker
        through when they meet, so each commit must follow the very version its marker was missing in.
        """
        keyed = _with_key(rows, partition)
        self._ensure(keyed.schema, partitioned=True)
        return addition.append(self, keyed, partition=partition, marker=marker)

    def prepare(self, schema: pa.Schema, *, partitioned: bool, dropped: Collection[str] = ()) -> None:
        """Let the table have the columns of rows to come, so that writing these cannot fail for their sake.

        Args:
            schema: columns of the rows, without the partition column.
            partitioned: whether the table is written by partitions.
            dropped: columns that the table may have and the rows not.

        Raises:
            LakeError: a column is missing or has another type than in the table.
        """
        keyed = schema.append(pa.field(PARTITION, pa.string())) if partitioned else schema
        self._ensure(keyed, partitioned=partitioned, evolve=True, dropped=dropped)

    def restart(self, schema: pa.Schema, *, partitioned: bool) -> bool:
        """Empty the table and give it other columns, where it has not these; earlier versions stay readable.

        For tables that can be made again of others. One that is not there is left so.

        Args:
            schema: columns, without the partition column.
            partitioned: whether the table is written by partitions.

        Returns:
            Whether anything was done.

        Raises:
            LakeConflictError: other writers won every attempt.
        """
        keyed = schema.append(pa.field(PARTITION, pa.string())) if partitioned else schema
        return restart(self, keyed, partitioned=partitioned) if self.exists() else False

    def _ensure(
        self, schema: pa.Schema, *, partitioned: bool, evolve: bool = False, dropped: Collection[str] = ()
    ) -> None:
        """Create the table without rows where there is none; add columns where that is allowed, refuse other changes.

        Two writers whose overwrite *is* the creation do not conflict for Delta: both add their files, and every row
        stands twice. Against a table that exists an overwrite conflicts as it should, given a predicate that says
        what it reads ("true" for the whole table).
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if self.exists():
            column.settle(self.open(), schema, evolve=evolve, name=self.name, uri=self.uri, dropped=dropped)
            return
        with self.writing():
            if not file.is_remote(self.uri):
                file.local(self.uri).mkdir(parents=True, exist_ok=True)
            try:
                DeltaTable.create(
                    self.uri,
                    schema,
                    mode="ignore",
                    partition_by=[PARTITION] if partitioned else None,
                    configuration=_KEEP_HISTORY,
                )
            except DeltaError:
                if not self.exists():  # another writer created it in between: that is all we want
                    raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in our words that the storage refused; Delta's own errors, such as a lost commit, pass through."""
        from deltalake.exceptions import CommitFailedError

        try:
            yield
        except CommitFailedError:
            raise
        except Exception as error:
            told = str(error)
            if not (isinstance(error, OSError) or any(sign in told for sign in _REFUSALS)):
                raise
            raise LakeUnavailableError(
                f"table {self.name!r} cannot be written: {told.splitlines()[0]}",
                where=self.uri,
                remedy="free space or mend the rights there, then run the task again; nothing was committed",
            ) from error


def _last_words(error: Exception) -> str:
    """The innermost cause of a storage's error, which tells it in many lines and colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │╰╭─▶├▸") for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), str(error))[:200]


def _with_key(rows: pa.Table, partition: str) -> pa.Table:
    return rows.append_column(PARTITION, pa.repeat(pa.scalar(partition, pa.string()), rows.num_rows))
