"""What every source is: a stream of record batches of the declared types, and the records that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError, SpecError
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.base import ColumnType
from millrace.spec.source import SourceSpec

UNASSIGNED = "unassigned"
"""Key under which records stand of which nobody can tell the partition."""

REJECTS = pa.schema(
    [
        ("partition_key", pa.string()),
        ("reason", pa.string()),
        ("column", pa.string()),
        ("detail", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("header", pa.string()),
        ("raw", pa.string()),
        ("sha256", pa.string()),
    ]
)
"""A record that could not be read as declared.

`partition_key` is the asked partition's or `unassigned`. `reason` is one of `parse` (not a record of the declared
form), `encoding`, `type` (a value does not fit its column), `oversized`, `no_partition` (no or an unreadable value in
a partition column), `outside` (a partition before the domain's first or after its last). `column` is the first column
at fault, `detail` the fault in words and without the value. `line` counts from 1 as an editor does (the n-th record
where there are no lines), `offset` and `length` are bytes of the unpacked file. `header` is the CSV header line that
`raw` is read with. `raw` is the record as it came (JSON of its fields where it never was text); null where it is
longer than `max_record_bytes`. `sha256` is of its bytes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What an Airflow connection holds, without Airflow.

    Attributes:
        name: its id.
        kind: its type (`postgres`, `sqlite`, `aws`, `http` …).
        host: host, or path of an SQLite file.
        port: port.
        login: user or access key.
        password: password, token or secret key.
        schema: database.
        extra: further values.
    """

    name: str
    kind: str
    host: str = ""
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


Connections = Callable[[str], Connection]
"""Gives the connection of a name, or raises SourceError."""


class Reading(Protocol):
    """One pass over a partition of a source. Memory stays bounded, whatever the source holds."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the partition, in the order of the source, in the declared types (not yet tokenised).

        Raises:
            SourceError: the source has not what its spec declares; names place, column and remedy.
            SourceUnavailableError: it went away in between; a new reading starts from the beginning.
        """
        ...

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """The records that could not be read, as `REJECTS`; asked for after `batches` has ended."""
        ...

    def notes(self) -> list[str]:
        """What people should know, such as columns that are not declared; asked for after `batches` has ended."""
        ...


class Source(Protocol):
    """Where rows come from. Reading twice gives the same rows in the same order."""

    @property
    def schema(self) -> pa.Schema:
        """The declared columns; every batch has exactly these."""
        ...

    @property
    def origin(self) -> str:
        """Where it reads from, for messages and lineage; no secrets."""
        ...

    def places(self, partition: Partition) -> list[str]:
        """What exactly is read for a partition, such as its files, for lineage; without secrets."""
        ...

    def fingerprint(self, partition: Partition) -> str | None:
        """What names the bytes a reading would see, found out without reading them; None where that cannot be known.

        Equal fingerprints mean an equal reading: size, times and inode of files, an ETag, a table's version.
        """
        ...

    def read(self, partition: Partition) -> Reading:
        """Start one pass over the rows of a partition (all rows of a static source)."""
        ...


SpecT_co = TypeVar("SpecT_co", bound=SourceSpec, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredSource(Generic[SpecT_co]):
    """What sources of all kinds hold.

    Attributes:
        spec: the source as its domain declares it.
        connections: gives the connection of a name.
        first: key of the domain's first partition.
        last: key of its last one.
    """

    spec: SpecT_co
    connections: Connections
    first: str | None = None
    last: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """The declared columns."""
        return arrow_schema(self.spec.columns)

    @property
    def origin(self) -> str:
        """Where it reads from; no secrets."""
        return self.spec.origin

    def places(self, partition: Partition) -> list[str]:
        """The origin, with the partition's key in its place."""
        return [self.origin.replace("{partition}", partition.key)]


def partition_values(spec: SourceSpec, partition: Partition) -> dict[str, pa.Scalar]:
    """What the partition columns of a row of this partition hold, in their declared types.

    Raises:
        SpecError: a form gives no value of the declared type.
    """
    return form_values(
        {name: (form, spec.columns[name]) for name, form in spec.partition_columns.items()},
        partition,
    )


def form_values(forms: Mapping[str, tuple[str, ColumnType]], partition: Partition) -> dict[str, pa.Scalar]:
    """The first day of a partition in each column's strftime form and type.

    Raises:
        SpecError: a form gives no value of its type.
    """
    first_day = partition.start.astimezone(ZoneInfo(partition.timezone))
    types = arrow_schema({column: kind for column, (_, kind) in forms.items()})
    found = {}
    for column, (form, kind) in forms.items():
        text = first_day.strftime(form)
        try:
            found[column] = pc.cast(pa.scalar(text), types.field(column).type)
        except pa.ArrowInvalid as error:
            raise SpecError(
                f"partition column {column!r}: {form!r} gives {text!r}, which is no {kind}",
                where=f"partition_columns.{column}",
                remedy="correct the form, or the type of the column",
            ) from error
    return found


def check_columns(names: Iterable[str], present: list[str], *, where: str) -> None:
    """Whether each of some columns stands in a source once.

    Raises:
        SourceError: one is missing, or stands there several times.
    """
    for name in names:
        if (times := present.count(name)) == 0:
            raise missing_column(name, present, where=where)
        if times > 1:
            raise SourceError(
                f"column {name!r} stands {times} times",
                where=f"{where}, column {name}",
                remedy=f"deliver it with one column {name!r}",
            )


def told_fields(spec: SourceSpec, present: Iterable[str]) -> list[str]:
    """Fields of records as messages may name them: of a personal source, keys that nobody declared are only counted."""
    names = list(present)
    if not spec.pii:
        return names
    declared = [name for name in names if name in spec.columns]
    more = len(names) - len(declared)
    return [*declared, *([f"{more} that are not declared"] if more else [])]


def missing_column(column: str, present: list[str], *, where: str) -> SourceError:
    """The error of a declared column that a source does not have."""
    return SourceError(
        f"column {column!r} is missing; there are: {', '.join(present[:30])}",
        where=f"{where}, column {column}",
        remedy=f"deliver it with column {column!r}, or correct `columns` of the source",
    )
