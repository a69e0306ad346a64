"""CSV: whole blocks by Arrow's reader, strict about types; single records by the same rules and a few more."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError
from millrace.ingestion.base import missing_column
from millrace.ingestion.block import Extent
from millrace.ingestion.cast import Mask
from millrace.ingestion.csv_grammar import Grammar
from millrace.ingestion.text_file import TextFile
from millrace.ingestion.text_format import ENCODING_FAULT, Converted, Record, Task, is_utf8
from millrace.ingestion.value import FALSE, TRUE, convert, is_doubtful
from millrace.lake.schema import TIMESTAMP
from millrace.spec.clock import Clock
from millrace.spec.source import FileSourceSpec, SourceSpec

HEADER_BYTES = 1 << 20
_COLUMN = re.compile(r"CSV column #(\d+).*zone offset", re.DOTALL)
_NAIVE = pa.timestamp("us")


def read_header(file: TextFile, task: Task, grammar: Grammar) -> CsvFormat:
    """The format of a CSV file by its first line; blank lines before it and a mark of byte order are skipped.

    Raises:
        SourceError: there is none, or a declared column does not stand in it once.
    """
    text = file.read(0, HEADER_BYTES)
    marked = len(codecs.BOM_UTF8) if text.startswith(codecs.BOM_UTF8) else 0
    extents = grammar.records(text[marked:], final=len(text) == file.size)
    found = next((item for item in extents if item.end > item.start), None)
    if found is None:
        what = "the file is empty" if not text[marked:].strip() else f"no header line in {HEADER_BYTES} bytes"
        raise SourceError(what, where=file.name, remedy="deliver the file again, with its header line")
    line = text[marked + found.start : marked + found.end]
    found_names = [name.decode("utf-8", errors="backslashreplace") for name in grammar.fields(line)]
    names = _columns_of(found_names, task.spec)
    for column in task.spec.columns:
        if (times := names.count(column)) > 1:
            raise SourceError(
                f"column {column!r} stands {times} times in the header: {', '.join(found_names[:30])}",
                where=f"{file.name}, line {file.line_of(marked + found.start)}, column {column}",
                remedy=f"deliver the file with one column {column!r}",
            )
        if not times:
            raise _missing(column, found_names, where=f"{file.name}, line {file.line_of(marked + found.start)}")
    return CsvFormat(task=task, grammar=grammar, line=line, names=names, start=marked + found.next)


def _columns_of(texts: Sequence[str], spec: SourceSpec) -> list[str]:
    """The columns that stand for the texts of a header; a text that is none stays as it is."""
    named = spec.header if isinstance(spec, FileSourceSpec) else {}
    columns = {text: column for column, text in named.items()}
    hidden = set(named) - set(columns)
    return [columns.get(text, f"{text} (header)" if text in hidden else text) for text in texts]


def _missing(column: str, present: list[str], *, where: str) -> SourceError:
    """The error of a column that is not in the header, with the text there that looks like it."""
    error = missing_column(column, present, where=where)
    plain = {re.sub(r"\W+", "_", text.strip()).lower(): text for text in present}
    if (alike := plain.get(column.lower())) is None:
        return error
    return SourceError(error.what, where=where, remedy=f'add `header: {{{column}: "{alike}"}}` to the source')


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """Records of one CSV file.

    Attributes:
        task: what is asked for.
        grammar: where records begin and end.
        line: the header line.
        names: the fields it names.
        start: offset of the first record.
    """

    task: Task
    grammar: Grammar
    line: bytes
    names: Sequence[str]
    start: int
    _naive: set[str] = field(init=False, default_factory=set)
    _nulls: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_nulls", frozenset(self.task.spec.null_values))

    @property
    def header(self) -> str:
        """The header line."""
        return self.line.decode("utf-8", errors="backslashreplace")

    @property
    def undeclared(self) -> list[str]:
        """Fields that no declared column is read from."""
        return [name for name in self.names if name not in self.task.spec.columns]

    def cut(self, text: bytes, *, final: bool) -> tuple[int, bool]:
        """How many bytes are whole records, and whether their quotes stand as they should."""
        return self.grammar.cut(text, final=final)

    def records(self, text: bytes, *, final: bool = True) -> Iterator[Extent]:
        """The records of a text."""
        return self.grammar.records(text, final=final)

    def convert(self, text: bytes) -> Converted | None:
        """All records of a text; None where the fields are not those of the header, or bytes are no text."""
        if self._has_header(text) or not is_utf8(text):
            return None
        kinds: dict[str, pa.DataType] = {item.name: item.type for item in self.task.schema}
        kinds |= dict.fromkeys(self._naive, _NAIVE)
        while True:
            try:
                table = self._parse(text, kinds)
                break
            except pa.ArrowInvalid as error:
                column = _COLUMN.search(str(error))
                name = self.names[int(column[1])] if column else ""
                if self.task.spec.clock is None or kinds.get(name) != TIMESTAMP:
                    return self._convert_texts(text)
                kinds[name] = _NAIVE
        columns = [self._finish(table[name], kinds[name]) for name in self.task.schema.names]
        if any(column is None for column in columns) or self._has_hexadecimal(text):
            return self._convert_texts(text)
        self._naive.update(name for name, kind in kinds.items() if kind == _NAIVE)
        return Converted(pa.RecordBatch.from_arrays(columns, schema=self.task.schema))

    def _has_header(self, text: bytes) -> bool:
        """Whether the header line stands in a text as a line of its own."""
        at, size = text.find(self.line), len(self.line)
        while at >= 0:
            before, after = text[max(0, at - 3) : at], text[at + size : at + size + 1]
            begins = before[-1:] in b"\r\n" or before == codecs.BOM_UTF8
            if begins and after in (b"", b"\r", b"\n"):
                return True
            at = text.find(self.line, at + 1)
        return False

    def _parse(self, text: bytes, kinds: Mapping[str, pa.DataType]) -> pa.Table:
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(
                use_threads=False,
                block_size=len(text) + 1,
                column_names=[name if name in kinds else f"#{index}" for index, name in enumerate(self.names)],
            ),
            parse_options=csv.ParseOptions(delimiter=chr(self.grammar.delimiter), newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                check_utf8=False,
                column_types=kinds,
                include_columns=list(kinds),
                null_values=self.task.spec.null_values,
                strings_can_be_null=True,
                true_values=_cased(TRUE),
                false_values=_cased(FALSE),
            ),
        )

    def _finish(self, values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array | None:
        """A column in its declared type; None where Arrow read what is none, such as 1e400 as infinity."""
        column = values.combine_chunks()
        if kind == _NAIVE:
            try:
                column = pc.cast(_in_zone(column, self.task.spec.clock), TIMESTAMP)
            except (pa.ArrowInvalid, ValueError):
                return None
        return None if is_doubtful(column) else column

    def _has_hexadecimal(self, text: bytes) -> bool:
        """Whether a number may stand in hexadecimal, which Arrow reads, wrapping around where it is too large."""
        if not any(pa.types.is_integer(item.type) for item in self.task.schema):
            return False
        for mark in (b"x", b"X"):
            at = text.find(mark)
            while at > 0:
                if text[at - 1 : at] == b"0" and not text[max(0, at - 2) : at - 1].isalnum():
                    return True
                at = text.find(mark, at + 1)
        return False

    def _convert_texts(self, text: bytes) -> Converted | None:
        """The same by our own rules for single values, which are wider than Arrow's."""
        try:
            table = self._parse(text, dict.fromkeys(self.task.schema.names, pa.string()))
        except pa.ArrowInvalid:
            return None
        columns = []
        misfits: Mask | None = None
        for name, kind in self.task.spec.columns.items():
            column, odd = table[name].combine_chunks(), None
            if kind != "string":
                column, odd = convert(column, kind, self.task.spec.clock)
            columns.append(column)
            misfits = odd if misfits is None else misfits if odd is None else misfits | odd
        return Converted(pa.RecordBatch.from_arrays(columns, schema=self.task.schema), misfits)

    def is_doubtful(self, record: bytes, *, sound: bool) -> bool:
        """Whether it is no record of as many fields as the header names."""
        if not sound or not self.grammar.has_fields(record, len(self.names)) or not is_utf8(record):
            return True
        return record.removeprefix(codecs.BOM_UTF8) == self.line

    def look(self, record: bytes, *, sound: bool) -> Record | None:
        """One record; None for a blank line."""
        if not record:
            return None
        if record.removeprefix(codecs.BOM_UTF8) == self.line:
            return Record({}, ("parse", None, "the header stands again"))
        fields = self.grammar.fields(record)
        texts = self._texts(fields)
        if not is_utf8(record):
            return Record(texts, ENCODING_FAULT)
        if not sound:
            return Record(texts, ("parse", None, "a quoted field does not end where a field may end"))
        if len(fields) != len(self.names):
            return Record(texts, ("parse", None, f"{len(fields)} fields where the header has {len(self.names)}"))
        return Record(texts)

    def _texts(self, fields: Sequence[bytes]) -> dict[str, str | None]:
        texts = {
            name: value.decode("utf-8", errors="backslashreplace")
            for name, value in zip(self.names, fields, strict=False)
            if name in self.task.spec.columns
        }
        return {name: None if text in self._nulls else text for name, text in texts.items()}

    def glance(self, head: bytes) -> dict[str, str | None]:
        """The values of the fields that end in the first bytes of a record."""
        return self._texts(self.grammar.fields(head)[:-1])

    def check(self) -> None:
        """Nothing is left to be checked: the header told it all."""


def _in_zone(naive: pa.Array, clock: Clock | None) -> pa.Array:
    """Times as instants; Arrow refuses those that the clock does not settle."""
    if clock is None:
        raise ValueError("times without a zone")
    sides = {"earlier": "earliest", "later": "latest", "quarantine": "raise"}
    return pc.assume_timezone(naive, clock.zone.key, ambiguous=sides[clock.repeated])


def _cased(words: Sequence[str]) -> list[str]:
    return [form for word in words for form in {word, word.title(), word.upper()}]
