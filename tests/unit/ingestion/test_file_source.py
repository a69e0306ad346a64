from __future__ import annotations

import os
import time
from pathlib import Path

import fsspec
import pytest
from tests.unit.ingestion.reading import read, source

from millrace.errors import SourceError, SourceUnavailableError, SpecError
from millrace.ingestion.file_source import format_of
from millrace.partition import Partition
from millrace.spec import FileSourceSpec

JANUARY = Partition("2020-01")


def rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files have lain there for a minute."""
    now = time.time
    monkeypatch.setattr("millrace.ingestion.file_source.time.time", lambda: now() + 60)


def test_a_file_that_rests_has_a_fingerprint_and_a_warm_one_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path, "a.csv", "a,b\n1,x\n")
    reader, changed = source(tmp_path, "a.csv"), (tmp_path / "a.csv").stat().st_ctime
    with monkeypatch.context() as patched:
        patched.setattr("millrace.ingestion.file_source.time.time", lambda: changed + 1)
        assert reader.fingerprint(JANUARY) is None
    rest(monkeypatch)
    before = reader.fingerprint(JANUARY)
    assert before is not None
    assert before == reader.fingerprint(JANUARY)


def test_another_content_of_the_same_size_and_time_has_another_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,x\n")
    rest(monkeypatch)
    before, times = source(tmp_path, "a.csv").fingerprint(JANUARY), path.stat()
    while path.stat().st_ctime_ns == times.st_ctime_ns:  # the file system's clock may be coarse
        path.write_text("a,b\n2,y\n")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source(tmp_path, "a.csv").fingerprint(JANUARY) != before


def test_one_file_more_is_another_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest(monkeypatch)
    (tmp_path / "a1.csv").write_text("a,b\n")
    before = source(tmp_path, "a*.csv").fingerprint(JANUARY)
    (tmp_path / "a2.csv").write_text("a,b\n")
    assert source(tmp_path, "a*.csv").fingerprint(JANUARY) != before


def test_files_of_a_pattern_are_read_by_name_each_with_its_own_header_and_offsets(tmp_path: Path) -> None:
    (tmp_path / "p2.csv").write_text("b,a,c\nx,3,1\ny,four,1\n")
    (tmp_path / "p1.csv").write_text("a,b\n1,x\ntwo,y\n")
    (tmp_path / ".p0.csv").write_text("half written")
    (tmp_path / "p3.csv").mkdir()
    found = read(tmp_path, "p*.csv")
    assert [row["a"] for row in found.rows] == [1, 3]
    assert [(row["file"], row["line"], row["offset"]) for row in found.rejects] == [("p1.csv", 3, 8), ("p2.csv", 3, 12)]
    assert found.notes == ["not declared, so not read: c"]


def test_a_partition_without_its_file_is_an_error_unless_it_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "p-2020-01.csv").write_text("a,b\n1,x\n")
    assert len(read(tmp_path, "p-{partition}.csv").rows) == 1
    with pytest.raises(SourceError, match="no such file for partition 2020-02"):
        read(tmp_path, "p-{partition}.csv", partition="2020-02")
    found = read(tmp_path, "p-{partition}.csv", partition="2020-02", may_be_empty=True)
    assert (found.rows, found.notes) == ([], ["no such file for partition 2020-02"])


def test_a_file_that_becomes_shorter_while_it_is_read_is_read_again_later(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"1,x\n" * 6_000_000)
    batches = source(tmp_path, "a.csv").read(JANUARY).batches()
    next(batches)
    os.truncate(tmp_path / "a.csv", 1000)
    with pytest.raises(SourceUnavailableError, match="became shorter"):
        list(batches)


def test_a_reading_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,x\n" * 4_000_000, 1))
    batches = source(tmp_path, "a.csv.gz").read(JANUARY).batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "staging").iterdir()) == []


def test_the_fingerprint_of_a_stored_file_is_what_its_storage_tells(tmp_path: Path) -> None:
    address = f"memory://{tmp_path.name}/a.csv"
    fsspec.filesystem("memory").pipe(address, b"a,b\n1,x\n")
    before = source(tmp_path, address).fingerprint(JANUARY)
    assert before is not None
    fsspec.filesystem("memory").pipe(address, b"a,b\n1,x\n")
    assert source(tmp_path, address).fingerprint(JANUARY) != before


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "csv"), ("a.CSV.GZ", "csv"), ("a.zip", "csv"), ("x.y.jsonl.zst", "jsonl"), ("a.pq", "parquet")],
)
def test_the_name_tells_the_format(name: str, kind: str) -> None:
    spec = FileSourceSpec(uri=name, columns={"a": "int32"}, key=["a"])
    assert format_of(name, spec) == kind
    assert format_of("a.unknown", spec.model_copy(update={"format": "jsonl"})) == "jsonl"
    with pytest.raises(SpecError, match="does not tell the format"):
        format_of("a.unknown", spec)
