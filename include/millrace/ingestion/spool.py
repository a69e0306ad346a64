"""Records set aside in a reading, kept until they are asked for: in memory while they are few, then on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from millrace.ingestion.base import REJECTS

_IN_MEMORY = 32 << 20


class Spool:
    """Takes batches of `REJECTS` and gives them back in their order.

    What does not fit into memory goes to a file without a name, which is gone with the process.
    """

    def __init__(self, *, in_memory: int = _IN_MEMORY) -> None:
        self._limit = in_memory
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: Any = None
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch."""
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > self._limit:
            self._spill()

    def read(self) -> Iterator[pa.RecordBatch]:
        """Everything written so far; nothing more can be written then."""
        if self._writer is not None:
            self._spill()
            self._writer.close()
            self._writer = None
        if self._file is not None:
            self._file.seek(0)
            with pa.ipc.open_stream(self._file) as stored:
                yield from stored
        yield from self._waiting

    def _spill(self) -> None:
        if self._writer is None:
            self._file = tempfile.TemporaryFile(prefix="millrace-rejects-")  # noqa: SIM115 - lives as long as the spool
            self._writer = pa.ipc.new_stream(self._file, REJECTS)
        for batch in self._waiting:
            self._writer.write_batch(batch)
        self._waiting, self._bytes = [], 0
