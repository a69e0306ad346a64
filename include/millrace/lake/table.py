"""One Delta table: replace a partition atomically, read a snapshot, find what is there.

Writes carry a content digest in the commit, so that unchanged input commits nothing and a reference can be
given back for it. The Delta runtime must not be *used* in a process that forks afterwards; importing is fine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import LakeConflictError, LakeError, LakeUnavailableError

log = logging.getLogger(__name__)
PARTITION = "partition"
_ATTEMPTS = 8
_REFUSALS = ("os error", "Generic ")
"""What deltalake's messages say where the storage under it failed: an errno, or an object store's own error."""


def content_digest(table: pa.Table) -> str:
    """sha256 over schema and rows in their order; independent of how the rows are chunked.

    Note: compute on rows in a fixed order; the digest is one of content *and* order.
    """
    sha = hashlib.sha256(str(table.schema.remove_metadata()).encode())
    for column in table.columns:
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        sha.update(np.packbits(values.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        # What lies under a null is undefined, and a slice carries its parent's buffers: hash the values alone.
        present = pa.concat_arrays([values.drop_null()])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, pa.schema([("c", present.type)])) as writer:
            writer.write_batch(pa.record_batch([present], names=["c"]))
        sha.update(sink.getvalue())
    return sha.hexdigest()


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
        """True once something was committed."""
        from deltalake import DeltaTable

        return bool(DeltaTable.is_deltatable(self.uri))

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

    def find(self, digest: str, partition: str = "") -> DatasetRef | None:
        """The reference of the newest write of a partition, where its content has this digest."""
        if not self.exists():
            return None
        found = self._newest_write(partition)
        return found if found is not None and found.digest == digest else None

    def newest(self) -> dict[str, DatasetRef]:
        """Partition → reference of its newest write; empty where the table is missing. One pass over the history."""
        if not self.exists():
            return {}
        found: dict[str, DatasetRef] = {}
        for commit in _history(self.open()):
            partition = commit.get("millrace.partition")
            if partition is None or partition in found or "millrace.digest" not in commit:
                continue
            found[partition] = DatasetRef(
                table=self.name,
                version=int(commit["version"]),
                partition=partition,
                rows=int(commit.get("millrace.rows", 0)),
                digest=str(commit["millrace.digest"]),
                changed=False,
            )
        return found

    def replace(self, rows: pa.Table, *, partition: str = "", digest: str | None = None) -> DatasetRef:
        """Replace one partition (or the whole unpartitioned table) in one commit; equal content commits nothing.

        Args:
            rows: the new content, without the partition column (it is added).
            partition: key; "" for a table that has no partitions.
            digest: digest of the content where the caller has one; else taken of the rows.

        Raises:
            LakeConflictError: other writers won every attempt.
        """
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        digest = digest or content_digest(rows)
        if (known := self.find(digest, partition)) is not None:
            log.info("%s %s: unchanged, nothing committed", self.name, partition)
            return known
        if partition:
            key = pa.array([partition], pa.string()).take(pa.array([0] * rows.num_rows, pa.int64()))
            rows = rows.append_column(PARTITION, key)
        properties = CommitProperties(
            custom_metadata={
                "millrace.partition": partition,
                "millrace.digest": digest,
                "millrace.rows": str(rows.num_rows),
            }
        )
        self._ensure(rows.schema, partitioned=bool(partition))
        for attempt in range(_ATTEMPTS):
            try:
                with self._writing():
                    write_deltalake(
                        self.uri,
                        rows,
                        mode="overwrite",
                        partition_by=[PARTITION] if partition else None,
                        predicate=f"{PARTITION} = '{partition}'" if partition else "true",
                        commit_properties=properties,
                    )
                break
            except CommitFailedError:
                time.sleep(0.05 * 2**attempt)
                if (known := self.find(digest, partition)) is not None:
                    return known
        else:
            raise LakeConflictError(
                f"partition {partition!r} of {self.name!r} lost {_ATTEMPTS} commits to other writers",
                where=self.uri,
                remedy="run the task again once the other writer is done",
            )
        written = self._newest_write(partition)
        if written is None:  # pragma: no cover - our own commit is in the history just written
            raise LakeError("a commit of ours is not in the table's history", where=self.uri)
        log.info("%s %s: %d rows committed as version %d", self.name, partition, rows.num_rows, written.version)
        return DatasetRef(
            table=self.name, version=written.version, partition=partition, rows=rows.num_rows, digest=digest
        )

    def append(self, rows: pa.Table, *, partition: str, marker: str) -> DatasetRef:
        """Append rows under a marker once: a second append with the same marker commits nothing.

        The marker is Delta's own transaction identifier (application id). Delta would let two appends of one marker
        through when they meet, so each commit must follow the very version its marker was missing in.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError

        key = pa.array([partition], pa.string()).take(pa.array([0] * rows.num_rows, pa.int64()))
        keyed = rows.append_column(PARTITION, key)
        self._ensure(keyed.schema, partitioned=True)
        properties = CommitProperties(
            custom_metadata={"millrace.partition": partition, "millrace.digest": marker},
            app_transactions=[Transaction(app_id=marker, version=1)],
            max_commit_retries=0,
        )
        for attempt in range(_ATTEMPTS):
            table = self.open()
            ref = DatasetRef(
                table=self.name,
                version=int(table.version()),
                partition=partition,
                rows=rows.num_rows,
                digest=marker,
                changed=False,
            )
            if table.transaction_version(marker) is not None:
                return ref
            try:
                with self._writing():
                    write_deltalake(table, keyed, mode="append", commit_properties=properties)
            except CommitFailedError:
                time.sleep(0.05 * 2**attempt)
            else:
                return dataclasses.replace(ref, version=ref.version + 1, changed=True)
        raise LakeConflictError(
            f"{_ATTEMPTS} commits to {self.name!r} lost to other writers",
            where=self.uri,
            remedy="run the task again once the other writer is done",
        )

    def _ensure(self, schema: pa.Schema, *, partitioned: bool) -> None:
        """Create the table without rows where there is none; one with other columns is refused.

        Two writers whose overwrite *is* the creation do not conflict for Delta: both add their files, and every row
        stands twice. Against a table that exists an overwrite conflicts as it should, given a predicate that says
        what it reads ("true" for the whole table).
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if self.exists():
            self._require_columns(schema)
            return
        with self._writing():
            if not str(self.uri).startswith(("s3://", "gs://", "az://")):
                Path(self.uri).mkdir(parents=True, exist_ok=True)
            try:
                DeltaTable.create(self.uri, schema, mode="ignore", partition_by=[PARTITION] if partitioned else None)
            except DeltaError:
                if not self.exists():  # another writer created it in between: that is all we want
                    raise

    def _require_columns(self, schema: pa.Schema) -> None:
        """Delta would turn 4.5 into 4 for a table of whole numbers, and say nothing."""
        from deltalake import Schema

        stored = {field.name: field.type for field in self.open().schema().fields}
        given = {field.name: field.type for field in Schema.from_arrow(schema).fields}
        faults = [f"{name!r} is new" for name in given if name not in stored]
        faults += [f"{name!r} is missing" for name in stored if name not in given]
        faults += [
            f"{name!r} is {_type(stored[name])} there and {_type(kind)} here"
            for name, kind in given.items()
            if name in stored and stored[name] != kind
        ]
        if faults:
            raise LakeError(
                f"table {self.name!r} has other columns than what is to be written: {', '.join(faults)}",
                where=self.uri,
                remedy="take the change of columns back; or remove the table's folder, and run the stage that writes "
                "it for every partition again",
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
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

    def _newest_write(self, partition: str) -> DatasetRef | None:
        for commit in _history(self.open()):
            if commit.get("millrace.partition") == partition and "millrace.digest" in commit:
                return DatasetRef(
                    table=self.name,
                    version=int(commit["version"]),
                    partition=partition,
                    rows=int(commit.get("millrace.rows", 0)),
                    digest=str(commit["millrace.digest"]),
                    changed=False,
                )
        return None


def _type(kind: Any) -> str:
    return str(getattr(kind, "type", kind))


def _history(table: Any) -> Iterable[dict[str, Any]]:
    commits: list[dict[str, Any]] = table.history()
    return commits
