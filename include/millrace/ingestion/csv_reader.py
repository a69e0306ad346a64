"""CSV as record batches: streamed, declared types only, each fault with column and line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from millrace.errors import SourceError

HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 22
_COLUMN = re.compile(r"CSV column #(\d+)")
_ROW = re.compile(r"Row #(\d+)")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked where its name ends in `.gz` or `.zip`.

    Raises:
        SourceError: the archive does not hold exactly one file.
    """
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as unpacked:
            yield cast("BinaryIO", unpacked)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [item.filename for item in archive.infolist() if not item.is_dir()]
            if len(members) != 1:
                raise SourceError(
                    f"the archive holds {len(members)} files where one is expected: {members[:5]}",
                    where=str(path),
                    remedy="pack one CSV file into it",
                )
            with _open_member(path, archive, members[0]) as member:
                yield member
    else:
        with path.open("rb") as stream:
            yield stream


def _open_member(path: Path, archive: zipfile.ZipFile, name: str) -> BinaryIO:
    try:
        return cast("BinaryIO", archive.open(name))
    except RuntimeError as error:  # a password is asked for, or Python does not know the compression
        raise SourceError(
            f"the archive cannot be opened: {error}", where=str(path), remedy="pack it with deflate and no password"
        ) from error


def read_csv(path: Path, schema: pa.Schema, null_values: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the declared columns. Memory stays within a few blocks, whatever the file holds.

    One thread: it is the faster way for a stream, and the only one in which faults know their row.

    Raises:
        SourceError: a declared column is missing or doubled, or a value or row cannot be read as declared.
    """
    from pyarrow import csv as arrow_csv

    header = _header(path)
    _check_header(path, header, schema)
    try:
        with open_bytes(path) as stream:
            yield from arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=schema,
                    include_columns=schema.names,
                    null_values=list(null_values),
                    strings_can_be_null=True,
                ),
            )
    except pa.ArrowInvalid as error:
        raise _explain(path, header, schema, str(error)) from error


def _header(path: Path) -> list[str]:
    with open_bytes(path) as stream:
        start = stream.read(HEADER_BYTES)
    if not start.strip():
        raise SourceError("the file is empty", where=str(path), remedy="deliver the file again, with its header line")
    text = start.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")
    found: list[str] = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
    return found


def _check_header(path: Path, header: Sequence[str], schema: pa.Schema) -> None:
    for column in schema.names:
        if (times := header.count(column)) != 1:
            what = f"column {column!r} is missing" if not times else f"column {column!r} stands {times} times"
            raise SourceError(
                f"{what} in the header: {', '.join(header[:30])}",
                where=f"{path}, line 1, column {column}",
                remedy=f"deliver the file with one column {column!r}, or correct `columns` of the source",
            )


def _explain(path: Path, header: Sequence[str], schema: pa.Schema, fault: str) -> SourceError:
    column, row = _COLUMN.search(fault), _ROW.search(fault)
    place = [str(path)]
    if row:
        place.append(f"line {_line_of(path, int(row[1]))}")
    told = fault[row.end() :].lstrip(": ") if row else fault
    if column is None:
        remedy = "mend that line (its fields are not those of the header), or deliver the file again"
        return SourceError(f"cannot read a row: {_short(told)}", where=", ".join(place), remedy=remedy)
    name = header[int(column[1])]
    place.append(f"column {name}")
    remedy = "mend the value in the source, or correct `columns` or `null_values` of the source's spec"
    if "zone offset" in told:
        remedy = "write the zone into the value (2013-01-01T00:00:00Z): a time without one is ambiguous"
    if "UTF8" in told:
        remedy = "deliver the file in UTF-8"
    return SourceError(
        f"a value of column {name!r} is not {schema.field(name).type}: {_short(told)}",
        where=", ".join(place),
        remedy=remedy,
    )


def _line_of(path: Path, record: int) -> int:
    """The line at which a record ends, counted as an editor does; the header is record 1, blank lines are none."""
    with open_bytes(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        reader = csv.reader(text)
        try:
            for row in reader:
                record -= bool(row)
                if not record:
                    break
        except csv.Error:
            pass  # a field over the csv module's limit: the line reached is the best answer there is
        return reader.line_num


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "…"
