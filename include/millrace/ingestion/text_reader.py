"""Text files as batches: blocks of records whole where all of them fit, and closer and closer where some do not.

A block is converted by Arrow in one go. Where it holds what is no record it is cut into smaller ones, and in the
smallest the records of the declared form are sifted out. Only records that stay doubtful are looked at one by one.
What becomes of a record depends on the record alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from millrace.errors import SourceError
from millrace.ingestion.base import REJECTS
from millrace.ingestion.block import Block, Extent, Oversized, cut_file, pieces
from millrace.ingestion.cast import Mask
from millrace.ingestion.close_reader import NoZoneFound, Suspect, look_closely, place_suspects
from millrace.ingestion.spool import Spool
from millrace.ingestion.text_file import TextFile
from millrace.ingestion.text_format import Converted, Found, Task, TextFormat

_CLOSE_BYTES = 1 << 16
_PARTS = 16
_THREADS = min(4, os.cpu_count() or 1)
_REJECTS_AT_ONCE = 1000
_TEXT_AT_ONCE = 16 << 20


class _Part(NamedTuple):
    """What came of one block."""

    batches: list[pa.RecordBatch]
    faults: list[Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReader:
    """Reads one text file once.

    Attributes:
        file: open.
        format: of its records.
        task: what is asked for.
        label: what the file is called in rejects.
        spool: takes the rejects.
    """

    file: TextFile
    format: TextFormat
    task: Task
    label: str
    spool: Spool

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the partition in the order of the file.

        Raises:
            SourceError: its times carry no zone and the spec gives none, or a declared column is nowhere in it.
        """
        for part in self._parts():
            self._reject(part.faults)
            yield from part.batches
        self.format.check()

    def _parts(self) -> Iterator[_Part]:
        """What came of the blocks, in their order; several threads work on them."""
        limit = self.task.spec.max_record_bytes
        items = cut_file(self.file, self.format, start=self.format.start, max_record_bytes=limit)
        running: deque[Future[_Part]] = deque()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="read") as pool:
            try:
                for item in items:
                    running.append(pool.submit(self._work, item))
                    if len(running) > _THREADS:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            except NoZoneFound as error:
                raise self._no_zone(error) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _work(self, item: Block | Oversized) -> _Part:
        part = _Part([], [])
        if isinstance(item, Oversized):
            fault = ("oversized", None, f"longer than {self.task.spec.max_record_bytes} bytes")
            suspect = Suspect(item.offset, item.length, self.format.glance(item.head), fault)
            part.faults.extend(place_suspects([suspect], self.task))
        else:
            self._read(item.text, item.offset, item.sound, part)
        return part

    def _read(self, text: bytes, offset: int, sound: bool, part: _Part) -> None:
        """Add the records of a text to `part`."""
        if sound and (found := self.format.convert(text)) is not None and self._take(found, text, offset, part):
            return
        if len(text) > _CLOSE_BYTES:
            smaller = list(pieces(text, self.format, max(_CLOSE_BYTES, len(text) // _PARTS)))
            if len(smaller) > 1:
                for start, piece, piece_sound in smaller:
                    self._read(piece, offset + start, piece_sound, part)
                return
        self._sift(text, offset, part)

    def _take(self, found: Converted, text: bytes, offset: int, part: _Part) -> bool:
        """Take the rows of a text whose records are all of the declared form; False where some are not.

        A record with a value that does not fit, or of no partition of the domain, is looked at closely.
        """
        odd, keep = self._judge(found)
        looked: list[Extent] = []
        if odd.any():
            extents = [item for item in self.format.records(text) if item.end > item.start]
            if len(extents) != len(odd):
                return False
            looked = [extents[row] for row in np.flatnonzero(odd)]
        self._add(found.batch if keep.all() else found.batch.filter(pa.array(keep)), part)
        self._look(text, looked, offset, part, _zoned(found))
        return True

    def _judge(self, found: Converted) -> tuple[Mask, Mask]:
        """Which rows need a closer look, and which are rows of the asked partition."""
        odd = np.zeros(found.batch.num_rows, dtype=bool) if found.misfits is None else found.misfits
        placed = self.task.place({name: found.batch[name] for name in self.task.spec.partition_columns})
        if placed is None:
            return odd, ~odd
        odd = odd | placed.unreadable | placed.outside
        return odd, placed.asked & ~odd

    def _sift(self, text: bytes, offset: int, part: _Part) -> None:
        """Take the records of a text that are of the declared form together, and look at the others one by one."""
        plain: list[Extent] = []
        doubtful: list[Extent] = []
        for item in self.format.records(text):
            record = text[item.start : item.end]
            if record:
                (doubtful if self.format.is_doubtful(record, sound=item.sound) else plain).append(item)
        joined = b"".join(text[item.start : item.end] + b"\n" for item in plain)
        found = self.format.convert(joined) if plain else None
        if found is None or found.batch.num_rows != len(plain):
            self._look(text, sorted([*plain, *doubtful]), offset, part)
            return
        odd, keep = self._judge(found)
        self._add(found.batch.filter(pa.array(keep)), part)
        looked = [plain[row] for row in np.flatnonzero(odd)]
        self._look(text, sorted([*looked, *doubtful]), offset, part, _zoned(found))

    def _look(self, text: bytes, extents: list[Extent], offset: int, part: _Part, zoned: Sequence[str] = ()) -> None:
        """Look at records one by one."""
        if not extents:
            return
        records = (
            (offset + item.start, item.end - item.start, record)
            for item in extents
            if (record := self.format.look(text[item.start : item.end], sound=item.sound)) is not None
        )
        batch, faults = look_closely(records, self.task, zoned)
        part.faults.extend(sorted(faults))
        self._add(batch, part)

    def _add(self, batch: pa.RecordBatch, part: _Part) -> None:
        if batch.num_rows:
            part.batches.append(batch)

    def _reject(self, faults: list[Found]) -> None:
        """Put records aside, with their line and text."""
        waiting: list[dict[str, Any]] = []
        size = 0
        for found in faults:
            waiting.append(row := self._row(found))
            size += len(row["raw"] or "")
            if len(waiting) >= _REJECTS_AT_ONCE or size >= _TEXT_AT_ONCE:
                self.spool.write(pa.RecordBatch.from_pylist(waiting, schema=REJECTS))
                waiting, size = [], 0
        if waiting:
            self.spool.write(pa.RecordBatch.from_pylist(waiting, schema=REJECTS))

    def _row(self, found: Found) -> dict[str, Any]:
        fault = found.fault
        line = self.file.line_of(found.offset)
        offset, length = self.file.extent(found.offset, found.length)
        if fault.reason == "oversized":
            raw, sha256 = None, self.file.sha256(offset, length)
        else:
            raw, sha256 = self.file.delivered(offset, length)
        return {
            **fault._asdict(),
            "file": self.label,
            "line": line,
            "offset": offset,
            "length": length,
            "header": self.format.header,
            "raw": raw,
            "sha256": sha256,
        }

    def _no_zone(self, error: NoZoneFound) -> SourceError:
        return SourceError(
            f"column {error.column!r} holds times without a zone, which is ambiguous",
            where=f"{self.file.name}, line {self.file.line_of(error.offset)}, column {error.column}",
            remedy="declare the source's `timezone`, or deliver the times with a zone (2013-01-01T00:00:00Z)",
        )


def _zoned(found: Converted) -> list[str]:
    """Columns of times of which some carry a zone, or need none."""
    names = [item.name for item in found.batch.schema if pa.types.is_timestamp(item.type)]
    return [name for name in names if found.batch[name].null_count < found.batch.num_rows]
