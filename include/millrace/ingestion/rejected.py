"""The table of records that never became rows: what was set aside at ingest, for validation to put into quarantine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion.base import REJECTS, UNASSIGNED
from millrace.ingestion.conform import record_json
from millrace.lake.staging import StagedFile, StagedWriter
from millrace.privacy import conceal

SCHEMA = pa.schema([field for field in REJECTS if field.name != "partition_key"])
LATE = "late"


@dataclass(slots=True)
class RejectedFiles:
    """Writes the records set aside in one reading, those of the partition and those of none apart.

    Attributes:
        folder: for the two files.
        key: the installation's key where the source has personal columns, so that raw text is encrypted; else None.
        moving: whether the reading saw this partition alone; then all records are the partition's.
        late: records written with reason `late`.
    """

    folder: Path
    key: bytes | None
    moving: bool
    late: int = 0
    _here: StagedWriter | None = None
    _nowhere: StagedWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Take records in the form of `REJECTS`."""
        nowhere = pc.equal(batch["partition_key"], UNASSIGNED)
        plain = self._concealed(batch.drop_columns(["partition_key"]))
        self.late += pc.sum(pc.equal(batch["reason"], LATE)).as_py() or 0
        if self._here is None or self._nowhere is None:
            self._here = StagedWriter(self.folder / "rejected.parquet", SCHEMA)
            self._nowhere = StagedWriter(self.folder / "unassigned.parquet", SCHEMA)
        if self.moving:
            self._here.write(plain)
            return
        self._here.write(plain.filter(pc.invert(nowhere)))
        self._nowhere.write(plain.filter(nowhere))

    def close(self) -> tuple[StagedFile, StagedFile] | None:
        """The finished files: of the partition, and of none; None where nothing was set aside."""
        if self._here is None or self._nowhere is None:
            return None
        return self._here.close(), self._nowhere.close()

    def _concealed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        key = self.key
        if key is None:
            return batch
        for name in ("raw", "sha256"):  # the bare hash of a short text could be guessed
            told = [None if text is None else conceal(text, key) for text in batch[name].to_pylist()]
            batch = batch.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), pa.array(told, pa.string()))
        return batch


def empty(folder: Path, name: str) -> StagedFile:
    """A file of no records: takes the place of those that were there before."""
    return StagedWriter(folder / f"{name}.parquet", SCHEMA).close()


def late_records(rows: Iterator[pa.RecordBatch], partition: str) -> Iterator[pa.RecordBatch]:
    """Late rows of the raw table as records set aside, each as JSON of its fields."""
    for batch in rows:
        raw = [record_json(row).decode() for row in batch.to_pylist()]
        yield pa.RecordBatch.from_pylist(
            [
                {
                    "partition_key": partition,
                    "reason": LATE,
                    "detail": "appeared after the partition was closed",
                    "length": len(text.encode()),
                    "raw": text,
                }
                for text in raw
            ],
            schema=REJECTS,
        )
