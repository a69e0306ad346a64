"""Batches as a source has them, made what its spec declares; what does not fit is set aside, record by record."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion.base import REJECTS, UNASSIGNED, check_columns
from millrace.ingestion.cast import NO_TEXT, Cast, Mask, cast_column, sound_text
from millrace.ingestion.placement import place
from millrace.lake.schema import arrow_schema
from millrace.partition import Partition
from millrace.spec.source import SourceSpec


class Fault(NamedTuple):
    """Why a record is set aside, in the words of `REJECTS`."""

    reason: str
    column: str | None
    detail: str
    partition_key: str


def conform(
    batch: pa.RecordBatch,
    spec: SourceSpec,
    partition: Partition,
    *,
    where: str,
    first_record: int,
    first: str | None = None,
    last: str | None = None,
    file: str | None = None,
    records: Sequence[Any] | None = None,
    keep: Mask | None = None,
    known: Sequence[tuple[Mask, Fault]] = (),
) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """The rows of a partition in the declared columns and types, and the records that do not fit.

    Rows of other partitions of the domain are left out: they are read with their own partition.

    Args:
        batch: rows as the source has them, with at least the declared columns.
        spec: the source.
        partition: the partition asked for.
        where: place of the batch, for messages.
        first_record: number of the batch's first record, counted from 1.
        first: key of the domain's first partition; records before it are `outside`.
        last: key of its last one; records after it are `outside`.
        file: the file the records are from, if any.
        records: what the rows were made of, one each, where `raw` shall show that and not the columns of the batch.
        keep: rows that are looked at; all by default.
        known: faults found before, with the rows that have them.

    Returns:
        Rows, and records as `REJECTS` (None where all fit): `line` is the record's number, `raw` the canonical JSON of
        all its fields.

    Raises:
        SourceError: a declared column is missing or of a type that can never become the declared one, or times carry
            no zone and the spec gives none.
    """
    schema = arrow_schema(spec.columns)
    check_columns(schema.names, batch.schema.names, where=where)
    work = _Work(batch, spec, where)
    asked = np.ones(batch.num_rows, dtype=bool) if keep is None else keep
    for mask, fault in known:
        work.blame(mask & asked, fault)
        asked = asked & ~mask
    work.narrow(asked)
    if spec.partition_columns:
        work.narrow(work.assign(partition, first, last))
    work.fit(schema, partition.key)
    shown = (batch if records is None else records, work.faults)
    return _columns(work, schema), _rejects(*shown, spec.max_record_bytes, first_record, file)


class _Work:
    """What is known of one batch so far; `batch` shrinks to the rows of the asked partition."""

    def __init__(self, batch: pa.RecordBatch, spec: SourceSpec, where: str) -> None:
        self.batch = batch
        self.broken: dict[str, Mask] = {}
        self.spec = spec
        self.where = where
        self.rows = np.arange(batch.num_rows)
        self.casts: dict[str, Cast] = {}
        self.faults: dict[int, Fault] = {}
        self.unfit: Mask = np.zeros(batch.num_rows, dtype=bool)
        for name in spec.columns:
            text = sound_text(batch.column(name))
            for mask, _ in text.faults:
                self.broken[name] = mask
                self.batch = self.batch.set_column(batch.schema.get_field_index(name), name, text.values)

    def narrow(self, mask: Mask) -> None:
        """Go on with some of the rows."""
        if not mask.all():
            self.batch, self.rows = self.batch.filter(pa.array(mask)), self.rows[mask]
        self.unfit = np.zeros(self.batch.num_rows, dtype=bool)

    def assign(self, partition: Partition, first: str | None, last: str | None) -> Mask:
        """Rows of the asked partition; those that belong nowhere become faults."""
        schema = arrow_schema(self.spec.columns)
        casts = {name: self.cast(schema.field(name)) for name in self.spec.partition_columns}
        for name, item in casts.items():
            for mask, detail in item.faults:
                self.blame(mask, Fault("no_partition", name, detail, UNASSIGNED))
            empty = item.values.is_null().to_numpy(zero_copy_only=False)
            self.blame(empty, Fault("no_partition", name, "no value in a partition column", UNASSIGNED))
        found = place({name: item.values for name, item in casts.items()}, self.spec, partition, first, last)
        column = next(iter(casts)) if len(casts) == 1 else None
        self.blame(found.unreadable, Fault("no_partition", column, "its columns name no partition", UNASSIGNED))
        self.blame(found.outside, Fault("outside", column, "a partition outside the domain's bounds", UNASSIGNED))
        return found.asked

    def fit(self, schema: pa.Schema, key: str) -> None:
        """Cast all columns; rows with a value that does not fit, or that are too long, become faults."""
        oversized = _oversized(self.batch, self.spec.max_record_bytes)
        self.blame(oversized, Fault("oversized", None, f"longer than {self.spec.max_record_bytes} bytes", key))
        for name, mask in self.broken.items():
            self.blame(mask[self.rows], Fault("encoding", name, NO_TEXT, key))
        for item in schema:
            cast = self.casts[item.name] = self.cast(item)
            for mask, detail in cast.faults:
                self.blame(mask, Fault("type", item.name, detail, key))

    def cast(self, field: pa.Field) -> Cast:
        """A column in its declared type."""
        return cast_column(
            self.batch.column(field.name),
            field,
            null_values=self.spec.null_values,
            clock=self.spec.clock,
            where=self.where,
        )

    def blame(self, mask: Mask, fault: Fault) -> None:
        """Record a fault of rows; the first one of a row stands."""
        if mask.any():
            self.unfit |= mask
            for row in self.rows[mask].tolist():
                self.faults.setdefault(row, fault)


def _columns(work: _Work, schema: pa.Schema) -> pa.RecordBatch:
    found = pa.RecordBatch.from_arrays([work.casts[name].values for name in schema.names], schema=schema)
    return found.filter(pa.array(~work.unfit)) if work.unfit.any() else found


def _oversized(batch: pa.RecordBatch, limit: int) -> Mask:
    """Rows whose texts and bytes alone are longer than `limit`; looked at only where the batch is."""
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    if batch.nbytes > limit:
        for column in batch.columns:
            if any(
                test(column.type)
                for test in (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
            ):
                sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
            elif pa.types.is_nested(column.type):
                sizes += np.fromiter((len(record_json(item.as_py())) for item in column), np.int64, len(column))
    over: Mask = sizes > limit
    return over


def _rejects(
    source: pa.RecordBatch | Sequence[Any], faults: dict[int, Fault], limit: int, first_record: int, file: str | None
) -> pa.RecordBatch | None:
    if not faults:
        return None
    found = [
        reject(faults[row], _record(source, row), line=first_record + row, limit=limit, file=file)
        for row in sorted(faults)
    ]
    return pa.RecordBatch.from_pylist(found, schema=REJECTS)


def _record(source: pa.RecordBatch | Sequence[Any], row: int) -> Any:
    if not isinstance(source, pa.RecordBatch):
        return source[row]
    values = [_in_python(column[row]) for column in source.columns]
    return dict(zip(source.schema.names, values, strict=True))


def _in_python(value: pa.Scalar) -> Any:
    """As Python has it; its times end at microseconds, and what is no text is shown as bytes."""
    if pa.types.is_timestamp(value.type) and value.type.unit == "ns":
        return pc.cast(value, pa.string()).as_py()
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return bytes(error.object).decode("utf-8", "backslashreplace")


def reject(fault: Fault, record: Any, *, line: int, limit: int, file: str | None = None) -> dict[str, Any]:
    """One record as a row of `REJECTS`; without its text where that is longer than `limit`."""
    raw = record_json(record)
    fits = len(raw) <= limit
    return {
        "partition_key": fault.partition_key,
        "reason": fault.reason if fits else "oversized",
        "column": fault.column,
        "detail": fault.detail if fits else f"longer than {limit} bytes",
        "file": file,
        "line": line,
        "length": len(raw),
        "raw": raw.decode() if fits else None,
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def record_json(record: Any) -> bytes:
    """Canonical JSON of a record's fields: sorted keys; what JSON does not know (bytes, decimals) as text."""
    told = _told(record)
    try:
        return orjson.dumps(told, default=_text, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # half a surrogate pair, which JSON can only escape
        return json.dumps(told, default=_text, sort_keys=True, separators=(",", ":")).encode()


def _told(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _told(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    return value


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)
