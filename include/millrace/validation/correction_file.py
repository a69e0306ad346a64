"""A file of corrections: CSV or JSON lines, each line about one quarantined row, held against the declared columns."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from millrace.errors import SourceError, SpecError
from millrace.spec.source import SourceSpec

_WHOLE = re.compile(r"[+-]?\d+")
_BITS = {"int16": 16, "int32": 32, "int64": 64}
_LARGEST = {"float32": 3.4028234663852886e38, "float64": math.inf}


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One line of a file of corrections.

    Attributes:
        line: where it stands, from 1.
        row_id: the quarantined row it is about.
        fields: column → value, as the file has it.
    """

    line: int
    row_id: str
    fields: Mapping[str, Any]


def read_corrections(path: Path, spec: SourceSpec) -> list[Correction]:
    """Read a CSV file or JSON lines with `row_id` and some or all declared columns.

    Raises:
        SourceError: it cannot be read, a line is not of that form, or a row stands twice.
        SpecError: a column is not declared, or never stored.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot be read: {error}", where=str(path), remedy="give a file in UTF-8") from error
    lines = _json_lines(text, path) if path.suffix in (".jsonl", ".ndjson", ".json") else _csv_lines(text, path)
    found: dict[str, Correction] = {}
    for line, fields in lines:
        where = f"{path}, line {line}"
        row_id = fields.pop("row_id", None)
        if not isinstance(row_id, str) or not row_id:
            raise SourceError("no `row_id`", where=where, remedy="give the id that `millrace quarantine list` shows")
        if row_id in found:
            raise SourceError(
                f"row {row_id} stands twice", where=f"{where} and {found[row_id].line}", remedy="leave one of them out"
            )
        for column in fields:
            _require_column(column, spec, f"{where}, column {column}")
        found[row_id] = Correction(line=line, row_id=row_id, fields=fields)
    return list(found.values())


def fit_value(value: Any, column: str, spec: SourceSpec, where: str) -> Any:
    """A value of a file as its declared column holds it.

    Raises:
        SourceError: it does not fit.
    """
    kind = spec.columns[column]
    if value is None or (isinstance(value, str) and value in spec.null_values):
        return None
    try:
        if kind == "string":
            return _text(value)
        if kind == "bool":
            return {"true": True, "false": False}[str(value).strip().lower()]
        if kind == "timestamp":
            return _moment(value, spec)
        return _whole(value, _BITS[kind]) if kind in _BITS else _number(value, _LARGEST[kind])
    except (ValueError, KeyError, TypeError) as error:
        told = "a value" if column in spec.pii else repr(value)
        hint = f": {error}" if isinstance(error, ValueError) and column not in spec.pii else ""
        raise SourceError(f"{told} is no {kind}{hint}", where=where, remedy="correct the value") from None


def _require_column(column: str, spec: SourceSpec, where: str) -> None:
    if column not in spec.columns:
        raise SpecError(
            f"column {column!r} is not declared", where=where, remedy=f"there are: {', '.join(spec.raw_columns)}"
        )
    if spec.pii.get(column) == "drop":
        raise SpecError(f"column {column!r} is never stored", where=where, remedy="leave the column out")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any, bits: int) -> int:
    if isinstance(value, bool) or not _WHOLE.fullmatch(str(value).strip()):
        raise TypeError
    number = int(value)
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise ValueError(f"it has more than {bits} bits")
    return number


def _number(value: Any, largest: float) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number) or abs(number) > largest:
        raise ValueError("it is not a finite number")
    return number


def _moment(value: Any, spec: SourceSpec) -> datetime:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value.strip())
    if moment.tzinfo is None:
        if spec.timezone is None:
            raise ValueError("it names no zone")
        return moment.replace(tzinfo=ZoneInfo(spec.timezone))
    return moment


def _csv_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = list(reader.fieldnames or [])
        if "row_id" not in names or len(set(names)) != len(names):
            raise SourceError(
                "the first line must name `row_id` and each column once", where=f"{path}, line 1", remedy="add it"
            )
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(
                    f"not {len(names)} fields", where=f"{path}, line {reader.line_num}", remedy="correct the line"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise SourceError(
            f"no CSV: {error}", where=f"{path}, line {reader.reader.line_num}", remedy="correct the line"
        ) from error


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SourceError(f"no JSON: {error}", where=f"{path}, line {number}", remedy="correct the line") from error
        if not isinstance(fields, dict):
            raise SourceError("no JSON object", where=f"{path}, line {number}", remedy="write one object a line")
        yield number, fields
