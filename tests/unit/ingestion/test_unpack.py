from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from tests.unit.ingestion.reading import read

from millrace.errors import SourceError

TEXT = b"a,b\n1,x\n2,y\n"
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, "zstd", asbytes=True)
    return packed


def zipped(path: Path, *names: str) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, TEXT)
    return path.read_bytes()


def test_archives_of_one_or_several_parts_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a.csv.gz", gzip.compress(TEXT)).rows == ROWS
    assert read(tmp_path, "b.csv.gz", gzip.compress(TEXT[:8]) + gzip.compress(TEXT[8:])).rows == ROWS
    assert read(tmp_path, "a.csv.zst", zstd(TEXT)).rows == ROWS
    assert read(tmp_path, "b.csv.zst", zstd(TEXT[:8]) + zstd(TEXT[8:])).rows == ROWS
    assert read(tmp_path, "a.zip", zipped(tmp_path / "made", "folder/", "folder/../../rows.csv")).rows == ROWS


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.csv.zip"])
def test_what_is_no_such_archive_or_only_half_of_one_is_refused(tmp_path: Path, name: str) -> None:
    whole = {".gz": gzip.compress(TEXT * 99), ".zst": zstd(TEXT * 99), ".zip": zipped(tmp_path / "made", "a")}
    for content in (TEXT, whole[Path(name).suffix][:-9], b"", b"\0" * 50):
        with pytest.raises(SourceError, match=r"archive cannot be opened|the file is empty") as caught:
            read(tmp_path, name, content)
        assert str(tmp_path / name) in caught.value.where


def test_an_archive_of_several_files_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds 2 files where one is expected"):
        read(tmp_path, "a.csv.zip", zipped(tmp_path / "made", "a.csv", "b.csv"))
    with pytest.raises(SourceError, match="holds 0 files"):
        read(tmp_path, "a.csv.zip", zipped(tmp_path / "made"))


@pytest.mark.parametrize(
    ("local", "central", "value", "told"),
    [(6, 8, 1, "encrypted, password required"), (8, 10, 97, "compression method is not supported")],
)
def test_an_archive_that_python_cannot_open_is_refused(
    tmp_path: Path, local: int, central: int, value: int, told: str
) -> None:
    content = bytearray(zipped(tmp_path / "made", "a.csv"))
    content[local] = value
    content[content.find(b"PK\x01\x02") + central] = value
    with pytest.raises(SourceError, match=told):
        read(tmp_path, "a.csv.zip", bytes(content))


def test_a_bomb_is_refused_before_it_fills_the_disk_and_leaves_nothing(tmp_path: Path) -> None:
    bomb = zstd(b"\0" * (80 << 20))
    with pytest.raises(SourceError, match="unpacks to over 1000 times its size"):
        read(tmp_path, "a.csv.zst", bomb)
    assert list((tmp_path / "staging").iterdir()) == []


def test_the_declared_bound_is_kept(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    assert read(tmp_path, "a.csv.gz", packed, max_unpacked_bytes=len(TEXT)).rows == ROWS
    with pytest.raises(SourceError, match="larger than 11 bytes unpacked"):
        read(tmp_path, "a.csv.gz", packed, max_unpacked_bytes=len(TEXT) - 1)
    assert read(tmp_path, "a.csv", TEXT, max_unpacked_bytes=1).rows == ROWS, "a plain file is read where it lies"
