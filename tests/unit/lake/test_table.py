from __future__ import annotations

from pathlib import Path

import deltalake
import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError

from millrace.artifact import DatasetRef
from millrace.errors import LakeConflictError, LakeError, LakeUnavailableError
from millrace.lake import Table
from millrace.lake.staging import StagedFile, StagedWriter

ROWS = pa.table({"a": [1, 2]})
FULL = "Failed to parse parquet: Generic LocalFileSystem error: No space left on device (os error 28)"


def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path / "lake"), "shop/raw/orders")


@pytest.mark.parametrize("error", [DeltaError(FULL), OSError(28, "No space left on device")])
def test_storage_that_refuses_is_a_sentence_and_what_was_committed_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition="2013-01")

    def refuse(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(deltalake, "write_deltalake", refuse)
        for write in (
            lambda: orders.replace(ROWS, partition="2013-02"),
            lambda: orders.append(ROWS, partition="2013-02", marker="m"),
        ):
            with pytest.raises(LakeUnavailableError, match=r"shop/raw/orders.* cannot be written.*No space") as caught:
                write()
            assert caught.value.retryable
            assert caught.value.where == orders.uri
    assert orders.partitions() == ["2013-01"]
    assert orders.replace(ROWS, partition="2013-02").rows == 2


def test_a_place_that_is_no_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(LakeUnavailableError, match="cannot be written"):
        table(tmp_path).replace(ROWS, partition="2013-01")


def test_a_lost_commit_is_no_refusal_of_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition="2013-01")

    def lose(*_: object, **__: object) -> None:
        raise CommitFailedError("Generic: version 2 is there already")

    monkeypatch.setattr(deltalake, "write_deltalake", lose)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(LakeConflictError):
        orders.replace(ROWS, partition="2013-02")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (pa.table({"a": [4.5]}), "'a' is long there and double here"),
        (pa.table({"a": [1], "b": [2]}), "'b' is new"),
        (pa.table({"b": [2]}), "'b' is new, 'a' is missing"),
    ],
)
@pytest.mark.parametrize("partition", ["", "2013-01"])
def test_other_columns_are_refused_rather_than_cast(tmp_path: Path, rows: pa.Table, told: str, partition: str) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition=partition)
    with pytest.raises(LakeError, match=told) as caught:
        orders.replace(rows, partition=partition)
    assert "remove the table's folder" in caught.value.remedy
    assert orders.version() == 1
    assert orders.read(columns=["a"]) == ROWS


def test_equal_columns_in_another_order_are_no_others(tmp_path: Path) -> None:
    orders = table(tmp_path)
    moment = pa.array([0], pa.timestamp("us", "UTC"))
    orders.replace(pa.table({"a": [1], "t": moment, "s": ["x"]}), partition="2013-01")
    rows = pa.table({"s": pa.array(["y"], pa.large_string()), "t": moment, "a": [2]})
    orders.replace(rows, partition="2013-01")
    assert orders.read(columns=["s", "a"]).to_pylist() == [{"s": "y", "a": 2}]


def test_a_storage_that_does_not_answer_is_a_sentence_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(LakeUnavailableError, match="cannot be looked for") as caught:
        Table("s3://lake", "orders").note("2020-01")
    assert caught.value.retryable
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


def staged(folder: Path, rows: pa.Table) -> StagedFile:
    with StagedWriter(folder / "staged.parquet", rows.schema) as writer:
        for batch in rows.to_batches():
            writer.write(batch)
        return writer.close()


def test_a_file_stays_that_a_commit_names_though_the_look_after_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition="2013-01")
    looked = Table.find

    def fail_after_the_commit(self: Table, digest: str, partition: str = "") -> DatasetRef | None:
        if self.version() > 1:
            raise LakeUnavailableError("gone")
        return looked(self, digest, partition)

    with monkeypatch.context() as patched:
        patched.setattr(Table, "find", fail_after_the_commit)
        with pytest.raises(LakeUnavailableError, match="gone"):
            orders.replace_file(staged(tmp_path, ROWS.slice(1)), partition="2013-01")
    assert orders.read()["a"].to_pylist() == [2]


def test_a_file_stays_that_was_committed_though_the_library_said_it_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition="2013-01")
    commit = deltalake.DeltaTable.create_write_transaction

    def say_lost(*words: object, **more: object) -> None:
        commit(*words, **more)
        raise CommitFailedError("lost, or so it seemed")

    with monkeypatch.context() as patched:
        patched.setattr(deltalake.DeltaTable, "create_write_transaction", say_lost)
        orders.replace_file(staged(tmp_path, ROWS.slice(1)), partition="2013-01")
    assert orders.read()["a"].to_pylist() == [2]


def test_a_file_that_no_commit_names_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = table(tmp_path)
    orders.replace(ROWS, partition="2013-01")
    files = set((tmp_path / "lake").rglob("*.parquet"))

    def lose(*_: object, **__: object) -> None:
        raise CommitFailedError("lost")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", lose)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(LakeConflictError):
        orders.replace_file(staged(tmp_path, ROWS.slice(1)), partition="2013-01")
    assert set((tmp_path / "lake").rglob("*.parquet")) == files
