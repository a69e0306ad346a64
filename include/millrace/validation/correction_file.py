"""A file of corrections: CSV or JSON lines, each line about one quarantined row, held against the declared columns."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.errors import SourceError, SpecError
from millrace.spec.source import SourceSpec

_LIMIT = threading.Lock()


class Number(str):
    """A number of JSON as it was written."""

    __slots__ = ()


class _DoubledError(ValueError):
    """A field stands twice in an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One line of a file of corrections.

    Attributes:
        line: where it stands, from 1.
        row_id: the quarantined row it is about.
        fields: column → value, as the file has it: text, `Number`, truth value, null, or nested values.
    """

    line: int
    row_id: str
    fields: Mapping[str, Any]


def read_corrections(path: Path, spec: SourceSpec) -> list[Correction]:
    """Read a CSV file or JSON lines with `row_id` and some or all declared columns.

    No message repeats a value of the file where the source has personal columns.

    Raises:
        SourceError: it cannot be read, a line is not of that form, or a row stands twice.
        SpecError: a column is not declared, or never stored.
    """
    text = _text_of(path)
    limit = spec.max_record_bytes
    json_lines = path.suffix in (".jsonl", ".ndjson", ".json")
    lines = _json_lines(text, path, limit) if json_lines else _csv_lines(text, path, spec)
    found: dict[str, Correction] = {}
    for line, fields in lines:
        where = f"{path}, line {line}"
        for place, column in enumerate(fields, start=1):
            if column != "row_id":
                _require_column(column, spec, where, place)
        row_id = fields.pop("row_id", None)
        if type(row_id) is not str or not row_id:
            raise SourceError("no `row_id`", where=where, remedy="give the id that `millrace quarantine list` shows")
        if row_id in found:
            told = "a row" if spec.pii else f"row {row_id}"
            raise SourceError(
                f"{told} stands twice", where=f"{where} and {found[row_id].line}", remedy="leave one of them out"
            )
        found[row_id] = Correction(line=line, row_id=row_id, fields=fields)
    return list(found.values())


def _text_of(path: Path) -> str:
    why = ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"bytes from {error.start} on are no UTF-8 text"
    except OSError as error:
        why = str(error)
    raise SourceError(f"cannot be read: {why}", where=str(path), remedy="give a file in UTF-8")


def _require_column(column: str, spec: SourceSpec, where: str, place: int) -> None:
    if column not in spec.columns:
        told = f"field {place} has a name that is" if spec.pii else f"column {column!r} is"
        there = f"there are: {', '.join(spec.raw_columns)}"
        raise SpecError(f"{told} not declared", where=f"{where}, field {place}", remedy=there)
    if spec.pii.get(column) == "drop":
        raise SpecError(
            f"column {column!r} is never stored", where=f"{where}, column {column}", remedy="leave the column out"
        )


def _csv_lines(text: str, path: Path, spec: SourceSpec) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    while (row := _next_row(reader, path, spec.max_record_bytes)) is not None:
        where = f"{path}, line {reader.line_num}"
        if names is None:
            names = row
            _check_header(names, spec, where)
        elif row:
            if len(row) != len(names):
                raise SourceError(f"not {len(names)} fields", where=where, remedy="correct the line")
            yield reader.line_num, dict(zip(names, row, strict=True))
    if names is None:
        raise SourceError("the file is empty", where=f"{path}, line 1", remedy="name `row_id` and columns there")


def _check_header(names: list[str], spec: SourceSpec, where: str) -> None:
    if "row_id" not in names or len(set(names)) != len(names):
        raise SourceError("the first line must name `row_id` and each column once", where=where, remedy="add it")
    for place, column in enumerate(names, start=1):
        if spec.pii and column != "row_id" and column not in spec.columns:
            raise SpecError(
                f"the header names a column that is not declared, its field {place}",
                where=f"{where}, field {place}",
                remedy=f"there are: {', '.join(spec.raw_columns)}",
            )
        if column != "row_id":
            _require_column(column, spec, where, place)


def _next_row(reader: Any, path: Path, limit: int) -> list[str] | None:
    why = ""
    try:
        with _field_limit(limit):
            row: list[str] | None = next(reader, None)
            return row
    except csv.Error as error:
        why = str(error)
    raise SourceError(f"no CSV: {why}", where=f"{path}, line {reader.line_num}", remedy="correct the line")


@contextmanager
def _field_limit(limit: int) -> Iterator[None]:
    """The `csv` module reads fields of up to so many characters: it has one limit for the whole process."""
    with _LIMIT:
        before = csv.field_size_limit()
        csv.field_size_limit(max(before, limit))
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _json_lines(text: str, path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        if len(line) > limit:
            raise SourceError(f"longer than {limit} bytes", where=where, remedy="correct the line")
        fields, why = _parse(line)
        if why:
            raise SourceError(why, where=where, remedy="correct the line")
        if not isinstance(fields, dict):
            raise SourceError("no JSON object", where=where, remedy="write one object a line")
        yield number, fields


def _parse(line: str) -> tuple[Any, str]:
    """A line of JSON, and what is wrong with it."""
    try:
        return json.loads(
            line, parse_int=Number, parse_float=Number, parse_constant=Number, object_pairs_hook=_once
        ), ""
    except _DoubledError as error:
        return None, str(error)
    except json.JSONDecodeError as error:
        return None, f"no JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError):
        return None, "no JSON"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DoubledError("a field stands twice in an object")
    return found
