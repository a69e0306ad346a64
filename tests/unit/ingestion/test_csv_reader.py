from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from millrace.errors import SourceError
from millrace.ingestion.csv_reader import read_csv

SCHEMA = pa.schema([("a", pa.int32()), ("b", pa.string()), ("t", pa.timestamp("us", "UTC"))])
GOOD = "1,x,2013-01-01T00:00:00Z\n"


def read(path: Path, schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_batches(read_csv(path, schema, ["", "NA"]), schema=schema)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_only_declared_columns_are_read_in_declared_order(tmp_path: Path) -> None:
    path = write(tmp_path, "b,unknown,t,a\nx,not a number,2013-01-01T05:00:00+05:00,7\n")
    assert read(path).schema == SCHEMA
    assert read(path)["a"].to_pylist() == [7]
    assert read(path)["t"].to_pylist()[0].isoformat() == "2013-01-01T00:00:00+00:00"


def test_null_texts_are_null_in_every_type(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a,b,t\nNA,NA,NA\n,,\n")).to_pylist() == [{"a": None, "b": None, "t": None}] * 2


def test_mark_of_byte_order_carriage_returns_and_quoted_line_breaks_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + f'a,b,t\r\n{GOOD.strip()}\r\n2,"y\r\nz",NA\r\n'.encode())
    assert read(path)["b"].to_pylist() == ["x", "y\r\nz"]


@pytest.mark.parametrize(
    ("bad", "column", "told"),
    [
        ("one,x,NA\n", "a", "invalid value 'one'"),
        ("1.5,x,NA\n", "a", "invalid value '1.5'"),
        ("3000000000,x,NA\n", "a", "invalid value '3000000000'"),
        ("1,x,yesterday\n", "t", "invalid value 'yesterday'"),
        ("1,x,2013-01-01T00:00:00\n", "t", "expected a zone offset"),
        (b"1,\xff\xfe,NA\n", "b", "invalid UTF8 data"),
    ],
)
def test_a_value_of_the_wrong_type_names_file_column_and_line(
    tmp_path: Path, bad: str | bytes, column: str, told: str
) -> None:
    bad = bad if isinstance(bad, bytes) else bad.encode()
    path = write(tmp_path, f'a,b,t\n{GOOD}\n1,"two\nlines",NA\n'.encode() + bad + GOOD.encode())
    with pytest.raises(SourceError, match=told) as caught:
        read(path)
    assert caught.value.where == f"{path}, line 6, column {column}"
    assert caught.value.remedy


@pytest.mark.parametrize("bad", ["1,x\n", "1,x,NA,more\n"])
def test_a_ragged_row_names_its_line(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path, f"a,b,t\n{GOOD}{bad}{GOOD}")
    with pytest.raises(SourceError, match="cannot read a row: Expected 3 columns") as caught:
        read(path)
    assert caught.value.where == f"{path}, line 3"


def test_a_fault_deep_in_the_file_still_knows_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,t\n" + GOOD * 300_000 + "bad,x,NA\n")
    with pytest.raises(SourceError) as caught:
        read(path)
    assert caught.value.where == f"{path}, line 300002, column a"


def test_a_missing_or_doubled_column_names_file_and_column(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="column 't' is missing in the header: a, b") as caught:
        read(write(tmp_path, "a,b\n1,x\n"))
    assert caught.value.where.endswith("a.csv, line 1, column t")
    with pytest.raises(SourceError, match="column 'a' stands 2 times"):
        read(write(tmp_path, "a,a,b,t\n1,1,x,NA\n"))


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match="the file is empty"):
        read(write(tmp_path, text))


def test_a_file_of_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a,b,t\n")).num_rows == 0


def test_a_record_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a,b,t\n1,")
        for _ in range(64):
            file.write(b"y" * (1 << 20))
    before = pa.total_allocated_bytes()
    with pytest.raises(SourceError, match="cannot read a row"):
        read(path)
    assert pa.total_allocated_bytes() - before < 32 << 20


def test_an_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "a,b,t\n")
        archive.writestr("b.csv", "a,b,t\n")
    with pytest.raises(SourceError, match="holds 2 files where one is expected"):
        read(path)


@pytest.mark.parametrize(
    ("local", "central", "value", "told"),
    [(6, 8, 1, "encrypted, password required"), (8, 10, 97, "compression method is not supported")],
)
def test_an_archive_that_python_cannot_open_is_refused(
    tmp_path: Path, local: int, central: int, value: int, told: str
) -> None:
    path = tmp_path / "a.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "a,b,t\n" + GOOD)
    content = bytearray(path.read_bytes())
    content[local] = value
    content[content.find(b"PK\x01\x02") + central] = value
    path.write_bytes(content)
    with pytest.raises(SourceError, match=told):
        read(path)
