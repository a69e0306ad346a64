"""JSON lines: whole blocks by Arrow's reader; single lines by Python's, which keeps each number as it was written."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion.base import missing_column, told_fields
from millrace.ingestion.block import Extent
from millrace.ingestion.stream import MAX_KEYS
from millrace.ingestion.text_file import TextFile
from millrace.ingestion.text_format import ENCODING_FAULT, Converted, Record, Task, is_utf8
from millrace.ingestion.value import convert, is_doubtful
from millrace.lake.schema import TIMESTAMP
from millrace.spec.base import ColumnType


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


class _DoubledError(ValueError):
    """A field stands twice in an object."""


def read_lines(file: TextFile, task: Task) -> JsonLines:
    """The format of a file of JSON lines; a mark of byte order is skipped."""
    marked = file.read(0, len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return JsonLines(task=task, name=file.name, start=len(codecs.BOM_UTF8) if marked else 0)


@dataclass(slots=True, kw_only=True)
class JsonLines:
    """One object a line. Fields that an object does not have are null, unless no object has them.

    Attributes:
        task: what is asked for.
        name: of the file, for messages.
        start: offset of the first record.
        undeclared: fields of objects that no declared column is read from.
    """

    task: Task
    name: str
    start: int
    undeclared: dict[str, None] = field(default_factory=dict)
    _seen: set[str] = field(init=False, default_factory=set)
    _any: bool = field(init=False, default=False)

    @property
    def header(self) -> None:
        """There is none."""
        return

    def cut(self, text: bytes, *, final: bool) -> tuple[int, bool]:
        """How many bytes are whole lines."""
        return (len(text) if final else text.rfind(b"\n") + 1), True

    def records(self, text: bytes, *, final: bool = True) -> Iterator[Extent]:
        """The lines of a text."""
        position = 0
        while position < len(text):
            found = text.find(b"\n", position)
            if found < 0 and not final:
                return
            end = len(text) if found < 0 else found
            after = end + (found >= 0)
            returned = end > position and text[end - 1 : end] == b"\r"
            yield Extent(position, end - returned, after, True)
            position = after

    def convert(self, text: bytes) -> Converted | None:
        """All lines of a text; None where one of them needs a closer look."""
        lines = [line for item in text.split(b"\n") if (line := item.strip())]
        whole = all(line[:1] == b"{" and line[-1:] == b"}" for line in lines)
        if not lines or not whole or not is_utf8(text):
            return None
        table = self._parse(text)
        if table is None or table.num_rows != len(lines):
            return None
        columns = []
        for name, kind in self.task.spec.columns.items():
            column = self._finish(table[name].combine_chunks(), kind)
            if column is None:
                return None
            columns.append(column)
        self._note(table, text)
        return Converted(pa.RecordBatch.from_arrays(columns, schema=self.task.schema))

    def is_doubtful(self, record: bytes, *, sound: bool) -> bool:
        """Every line is, once one of its neighbours was found to be no record."""
        return True

    def _parse(self, text: bytes) -> pa.Table | None:
        from pyarrow import json as arrow_json

        # Arrow's own reading of times takes those without a zone for UTC.
        kinds = [(item.name, pa.string() if item.type == TIMESTAMP else item.type) for item in self.task.schema]
        for unexpected in ("infer",) if self.undeclared else ("error", "infer"):
            try:
                return arrow_json.read_json(
                    pa.BufferReader(text),
                    read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                    parse_options=arrow_json.ParseOptions(
                        explicit_schema=pa.schema(kinds), unexpected_field_behavior=unexpected
                    ),
                )
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
                if "unexpected field" not in str(error):
                    return None
        return None

    def _finish(self, values: pa.Array, kind: ColumnType) -> pa.Array | None:
        if not pa.types.is_string(values.type):
            return None if is_doubtful(values) else values
        if self.task.spec.null_values:
            meant = pc.is_in(values, value_set=pa.array(self.task.spec.null_values, pa.string()))
            values = pc.if_else(meant, pa.scalar(None, pa.string()), values)
        if kind != "timestamp":
            return values
        times, misfits = convert(values, kind, self.task.spec.clock)
        return times if misfits is None else None

    def _note(self, table: pa.Table, text: bytes) -> None:
        """Remember which fields there are; one that is null throughout may stand there or not."""
        self._any = True
        for name in table.column_names:
            if name not in self.task.spec.columns:
                self._undeclare(name)
            elif name not in self._seen and (table[name].null_count < len(table) or json.dumps(name).encode() in text):
                self._seen.add(name)

    def _undeclare(self, name: str) -> None:
        if len(self.undeclared) < MAX_KEYS:
            self.undeclared.setdefault(name)

    def look(self, record: bytes, *, sound: bool) -> Record | None:
        """One line; None for a blank one."""
        if not record.strip():
            return None
        try:
            found = json.loads(
                record.decode("utf-8"),
                parse_int=_Number,
                parse_float=_Number,
                parse_constant=_Number,
                object_pairs_hook=_once,
            )
        except UnicodeDecodeError:
            return Record({}, ENCODING_FAULT)
        except _DoubledError as error:
            return Record({}, ("parse", None, str(error)))
        except (ValueError, RecursionError) as error:
            place = f" at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
            return Record({}, ("parse", None, f"no JSON{place}"))
        if not isinstance(found, dict):
            return Record({}, ("parse", None, "no object"))
        self._any = True
        self._seen.update(name for name in self.task.spec.columns if name in found)
        for name in found:
            if name not in self.task.spec.columns:
                self._undeclare(name)
        return self._texts(found)

    def _texts(self, found: Mapping[str, Any]) -> Record:
        texts: dict[str, str | None] = {}
        fault = None
        for name, kind in self.task.spec.columns.items():
            value = found.get(name)
            if value is None or (type(value) is str and value in self.task.spec.null_values):
                texts[name] = None
            elif (told := _misfit(value, kind)) is not None:
                fault = fault or ("type", name, told)
            else:
                texts[name] = value if isinstance(value, str) else str(value).lower()
        return Record(texts, fault)

    def glance(self, head: bytes) -> dict[str, str | None]:
        """Nothing: an object cannot be read by halves."""
        return {}

    def check(self) -> None:
        """Once the whole file was read.

        Raises:
            SourceError: no object of the file has a declared field.
        """
        for name in self.task.spec.columns:
            if self._any and name not in self._seen:
                present = told_fields(self.task.spec, [*sorted(self._seen), *self.undeclared])
                raise missing_column(name, present, where=self.name)


def _misfit(value: Any, kind: ColumnType) -> str | None:
    """Why a value of JSON is none of that type whatever it is; None where its text decides."""
    if isinstance(value, dict | list):
        return f"nested values where {kind} is declared"
    if isinstance(value, bool):
        return None if kind == "bool" else f"true or false where {kind} is declared"
    if isinstance(value, _Number):
        return f"a number where {kind} is declared" if kind in ("string", "timestamp") else None
    return None if value.isascii() or _is_whole(value) else "text with half of a character"


def _is_whole(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DoubledError("a field stands twice in an object")
    return found
