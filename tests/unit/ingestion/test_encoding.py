from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ingestion.reading import read

from millrace.errors import SourceError, SpecError
from millrace.ingestion import encoding


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["utf-16", "utf-16-be", "utf-32", "shift_jis", "gb18030", "euc_kr", "big5", "utf-8-sig", "cp037"]),
    st.lists(st.booleans(), max_size=60),
    st.integers(3, 40),
)
def test_text_of_an_encoding_is_read_and_faults_stand_where_they_were_delivered(
    tmp_path: Path, name: str, faults: list[bool], piece: int
) -> None:
    word = "日" if name not in ("cp037", "euc_kr") else "é" if name == "cp037" else "한"
    lines = ["a,b", *(f"{'x' if fault else number},{word * 3}" for number, fault in enumerate(faults))]
    content = "\n".join(lines).encode(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PIECE_BYTES", piece)
        found = read(tmp_path, "a.csv", content, encoding=name)
    assert [row["a"] for row in found.rows] == [number for number, fault in enumerate(faults) if not fault]
    assert len(found.rejects) == sum(faults)
    assert all(row["b"] == word * 3 for row in found.rows)
    exact = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(name, name)
    for reject in found.rejects:
        raw = content[reject["offset"] : reject["offset"] + reject["length"]]
        assert raw.decode(exact) == reject["raw"] == lines[reject["line"] - 1]
        assert reject["sha256"] == hashlib.sha256(raw).hexdigest()


def test_bytes_that_are_not_in_the_encoding_cost_their_record_and_keep_their_values(tmp_path: Path) -> None:
    content = b"a,b\n1,\xe9\n2,\x81\n3,z\n"
    found = read(tmp_path, "a.csv", content, encoding="cp1252")
    assert found.rows == [{"a": 1, "b": "é"}, {"a": 3, "b": "z"}]
    assert [(row["line"], row["reason"], row["raw"]) for row in found.rejects] == [(3, "encoding", "2,\\x81")]
    assert found.rejects[0]["sha256"] == hashlib.sha256(b"2,\x81").hexdigest()
    ascii_only = read(tmp_path, "a.csv", content, encoding="ascii")
    assert ascii_only.reasons == [(2, "encoding"), (3, "encoding")]


def test_a_file_of_mixed_encodings_gives_up_its_foreign_records_alone(tmp_path: Path) -> None:
    good, foreign = "1,é\n".encode(), "2,é\n".encode("cp1252")
    found = read(tmp_path, "a.csv", b"a,b\n" + (good * 2000 + foreign) * 20)
    assert (len(found.rows), len(found.rejects)) == (40_000, 20)
    assert {row["raw"] for row in found.rejects} == {"2,\\xe9"}


def test_half_a_character_at_the_end_is_a_fault_of_the_last_record(tmp_path: Path) -> None:
    content = "a,b\n1,x\n2,y".encode("utf-16") + b"\x3d"
    assert read(tmp_path, "a.csv", content, encoding="utf-16").reasons == [(3, "encoding")]


def test_utf_16_without_a_mark_asks_for_the_order_of_bytes(tmp_path: Path) -> None:
    content = "a,b\n1,x\n".encode("utf-16-be")
    with pytest.raises(SourceError, match="declare utf-16-le or utf-16-be"):
        read(tmp_path, "a.csv", content, encoding="utf-16")
    assert len(read(tmp_path, "a.csv", content, encoding="utf-16-be").rows) == 1


@pytest.mark.parametrize("name", ["klingon", "hex", "utf-7", "idna", "iso2022_jp"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="no encoding of text"):
        read(tmp_path, "a.csv", "a,b\n", encoding=name)
