"""Content-addressed documents."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace.document import load_document, store_document, write_atomically
from millrace.errors import DocumentError


def test_equal_values_are_one_document_whatever_their_order(tmp_path: Path) -> None:
    digest = store_document(tmp_path, {"a": 1, "b": [0.1, None]})
    assert store_document(tmp_path, {"b": [0.1, None], "a": 1}) == digest
    assert load_document(tmp_path, digest) == {"a": 1, "b": [0.1, None]}
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest}.json"]


def test_writers_at_once_leave_one_whole_document(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store_document(tmp_path, list(range(5000))), range(16)))
    assert len(digests) == 1
    assert load_document(tmp_path, digests.pop()) == list(range(5000))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    digest = store_document(tmp_path, [1, 2, 3])
    (tmp_path / f"{digest}.json").write_bytes(b"[1,2,4]")
    with pytest.raises(DocumentError, match=r"remedy"):
        load_document(tmp_path, digest)


def test_a_failed_write_leaves_what_was_there_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
