"""Rows on their way into the lake: written to a Parquet file beside it, digested as they pass, then moved in whole."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from millrace.errors import LakeUnavailableError
from millrace.lake.digest import ContentDigest
from millrace.settings import Settings

ROW_GROUP = 122_880
_KEPT_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A finished Parquet file that is not in the lake yet.

    Attributes:
        path: where it lies.
        schema: its columns.
        rows: how many rows it holds.
        digest: of their content and order.
    """

    path: Path
    schema: pa.Schema
    rows: int
    digest: str


@dataclass(slots=True)
class StagedWriter:
    """Writes batches as row groups of even size; memory stays within one of them.

    Attributes:
        path: the file to write.
        schema: columns of every batch.
        rows: rows written so far.
    """

    path: Path
    schema: pa.Schema
    rows: int = 0
    _digest: ContentDigest = field(init=False)
    _writer: Any = field(init=False)
    _waiting: list[pa.RecordBatch] = field(init=False, default_factory=list)
    _waiting_rows: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        from pyarrow import parquet

        self._digest = ContentDigest(self.schema)
        self._writer = parquet.ParquetWriter(self.path, self.schema, compression="snappy")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._writer.close()
            self.path.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the next rows.

        Raises:
            LakeUnavailableError: the disk takes no more.
        """
        if not batch.num_rows:
            return
        self._digest.update(batch)
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= ROW_GROUP:
            self._flush(self._waiting_rows - self._waiting_rows % ROW_GROUP)

    def close(self) -> StagedFile:
        """Finish the file.

        Raises:
            LakeUnavailableError: the disk takes no more.
        """
        self._flush(self._waiting_rows)
        try:
            self._writer.close()
        except OSError as error:
            raise _full(self.path, error) from error
        return StagedFile(path=self.path, schema=self.schema, rows=self.rows, digest=self._digest.hexdigest())

    def _flush(self, rows: int) -> None:
        if not rows:
            return
        table = pa.Table.from_batches(self._waiting, self.schema)
        try:
            self._writer.write_table(table.slice(0, rows), row_group_size=ROW_GROUP)
        except OSError as error:
            raise _full(self.path, error) from error
        self._waiting = table.slice(rows).to_batches()
        self._waiting_rows -= rows


@contextmanager
def staging(settings: Settings) -> Iterator[Path]:
    """A folder of one's own under `<var>/staging`, removed at the end; what a killed process left goes after a day."""
    root = settings.var / "staging"
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        try:
            old = time.time() - folder.stat().st_mtime > _KEPT_S
        except FileNotFoundError:  # its owner has just removed it
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)


def _full(path: Path, error: OSError) -> LakeUnavailableError:
    return LakeUnavailableError(
        f"rows cannot be staged: {error.strerror or error}",
        where=str(path.parent),
        remedy="free space or mend the rights there, then run the task again; nothing was committed",
    )
