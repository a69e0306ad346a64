"""What text sources share: how records stand in a text, what a reading is asked for, and a fault with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pyarrow as pa

from millrace.ingestion.block import Cutter
from millrace.ingestion.cast import Mask
from millrace.ingestion.conform import Fault
from millrace.ingestion.placement import Placement, place
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import SourceSpec

ENCODING_FAULT = ("encoding", None, "bytes that are not text in the declared encoding")


class Record(NamedTuple):
    """A record, looked at closely.

    Attributes:
        texts: declared column → value as text, null as None; of a faulty record, those that can be made out.
        fault: reason, column and detail.
    """

    texts: Mapping[str, str | None]
    fault: tuple[str, str | None, str] | None = None


class Converted(NamedTuple):
    """Records as rows, one a row.

    Attributes:
        batch: in the declared columns and types.
        misfits: rows with a value that does not fit; None where there is none.
    """

    batch: pa.RecordBatch
    misfits: Mask | None = None


class TextFormat(Cutter, Protocol):
    """How records stand in a text."""

    @property
    def start(self) -> int:
        """Offset of the first record."""
        ...

    @property
    def header(self) -> str | None:
        """The line that names the fields, where there is one."""
        ...

    def convert(self, text: bytes) -> Converted | None:
        """All records of a text in the declared columns and types; None where it holds what is no record."""
        ...

    def is_doubtful(self, record: bytes, *, sound: bool) -> bool:
        """Whether a record may not be of the declared form; its values are not looked at."""
        ...

    def look(self, record: bytes, *, sound: bool) -> Record | None:
        """One record; None where there is nothing in it."""
        ...

    def glance(self, head: bytes) -> Mapping[str, str | None]:
        """The values in the first bytes of a record that is too long."""
        ...

    def check(self) -> None:
        """Asked once the whole file was read.

        Raises:
            SourceError: the file has not what is declared.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one reading is asked for: a source, a partition of it, and the domain's first and last one."""

    spec: SourceSpec
    partition: Partition
    first: str | None = None
    last: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """The declared columns."""
        return arrow_schema(self.spec.columns)

    def place(self, columns: Mapping[str, pa.Array]) -> Placement | None:
        """Where rows belong by their columns; None where all belong to the partition asked for."""
        if not self.spec.partition_columns:
            return None
        named = {name: columns[name] for name in self.spec.partition_columns}
        return place(named, self.spec, self.partition, self.first, self.last)


class Found(NamedTuple):
    """A fault and where its record lies in the text."""

    offset: int
    length: int
    fault: Fault


def is_utf8(text: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
