"""One partition replaced in one commit, against any number of other writers."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import LakeConflictError, LakeError
from millrace.lake import commits, file
from millrace.lake.commits import ATTEMPTS, PARTITION
from millrace.lake.staging import StagedFile

log = logging.getLogger(__name__)


class Target(Protocol):
    """The table that is written to."""

    @property
    def name(self) -> str:
        """Its name under the lake."""
        ...

    @property
    def uri(self) -> str:
        """Where it lies."""
        ...

    def open(self, version: int | None = None) -> Any:
        """The `deltalake.DeltaTable` at a version."""
        ...

    def find(self, digest: str, partition: str = "") -> DatasetRef | None:
        """The newest write of a partition, where its content has this digest."""
        ...

    def note(self, partition: str = "") -> tuple[DatasetRef, dict[str, str]] | None:
        """The newest write of a partition with what its writer noted."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Errors of the storage in our words."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What takes the place of a partition ("" for a table without partitions).

    Attributes:
        table: a table that is there and has the columns.
        partition: key.
        digest: of the new content.
        rows: how many rows it has.
        note: what its writer wants to find again.
        after: version of the write of this partition that the content was made from (-1 where there was none); a write
            in between is then a conflict. None where it does not matter.
    """

    table: Target
    partition: str
    digest: str
    rows: int
    note: Mapping[str, str]
    after: int | None

    def by_rows(self, rows: pa.Table | pa.RecordBatchReader) -> DatasetRef:
        """Let the library write rows that carry their partition's key."""
        return self._commit(lambda table: self._write(table, rows))

    def by_stream(self, staged: StagedFile) -> DatasetRef:
        """Let the library write a staged file to an object store, a batch at a time."""
        key = {PARTITION: self.partition} if self.partition else {}
        return self._commit(lambda table: self._write(table, file.stream(staged, key), partial=True))

    def by_move(self, staged: StagedFile) -> DatasetRef:
        """Move a staged file into a local table; it goes again where no commit came to name it."""
        size = staged.path.stat().st_size
        with self.table.writing():
            name = file.bring(self.table.uri, staged, folder=f"{PARTITION}={self.partition}" if self.partition else "")
        values: dict[str, str | None] = {PARTITION: self.partition} if self.partition else {}
        actions = [file.add_action(name, staged, values, size)] if staged.rows else []
        properties = commits.properties(self.partition, self.digest, self.rows, self.note, retries=0)
        named = False

        def commit(table: Any) -> None:
            nonlocal named
            table.create_write_transaction(
                actions,
                "overwrite",
                table.schema(),
                [PARTITION] if self.partition else None,
                [(PARTITION, "=", self.partition)] if self.partition else None,
                commit_properties=properties,
            )
            named = bool(actions)

        try:
            return self._commit(commit)
        finally:
            if not named:
                self._discard(name)

    def _write(self, table: Any, rows: pa.Table | pa.RecordBatchReader, *, partial: bool = False) -> None:
        from deltalake import write_deltalake

        write_deltalake(
            table,
            rows,
            mode="overwrite",
            schema_mode="merge" if partial else None,
            partition_by=[PARTITION] if self.partition else None,
            predicate=f"{PARTITION} = '{self.partition}'" if self.partition else "true",
            commit_properties=commits.properties(self.partition, self.digest, self.rows, self.note),
        )

    def _commit(self, commit: Callable[[Any], None]) -> DatasetRef:
        from deltalake.exceptions import CommitFailedError

        for attempt in range(ATTEMPTS):
            table = self.table.open()
            self._require_newest(table)
            try:
                with self.table.writing():
                    commit(table)
                break
            except CommitFailedError:
                time.sleep(random.uniform(0.5, 1) * min(0.05 * 2**attempt, 2))
                if (known := self.table.find(self.digest, self.partition)) is not None:
                    return known
        else:
            raise LakeConflictError(
                f"partition {self.partition!r} of {self.table.name!r} lost {ATTEMPTS} commits to other writers",
                where=self.table.uri,
                remedy="run the task again once the other writer is done",
            )
        written = self.table.find(self.digest, self.partition) or self._overtaken()
        log.info("%s %s: %d rows committed as version %d", self.table.name, self.partition, self.rows, written.version)
        return dataclasses.replace(written, changed=True)

    def _require_newest(self, table: Any) -> None:
        """Refuse to write over what was not seen: a commit on this very snapshot then conflicts with any later one."""
        if self.after is None:
            return
        commit = commits.newest(table, self.partition)
        newest = -1 if commit is None else int(commit["version"])
        if newest != self.after:
            raise LakeConflictError(
                f"partition {self.partition!r} of {self.table.name!r} was written by somebody else in between",
                where=f"{self.table.uri}, version {newest}",
                remedy="run the task again: it then starts from what is there now",
            )

    def _overtaken(self) -> DatasetRef:
        """Between our commit and this look another writer replaced the partition: its rows are what is there now."""
        found = self.table.note(self.partition)
        if found is None:  # pragma: no cover - our own commit is in the history just written
            raise LakeError("a commit of ours is not in the table's history", where=self.table.uri)
        return found[0]

    def _discard(self, name: str) -> None:
        """Take a file away again. A commit that failed may have gone through all the same: what is named stays."""
        try:
            named = any(uri.endswith(name) for uri in self.table.open().file_uris())
        except LakeError:
            named = True
        if not named:
            (file.local(self.table.uri) / name).unlink(missing_ok=True)
