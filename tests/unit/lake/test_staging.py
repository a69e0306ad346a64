from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from millrace.lake.digest import content_digest
from millrace.lake.staging import ROW_GROUP, StagedWriter, staging
from millrace.settings import Settings


def test_batches_of_any_size_become_row_groups_of_one_size(tmp_path: Path) -> None:
    rows = pa.table({"a": range(2 * ROW_GROUP + 5)})
    with StagedWriter(tmp_path / "x.parquet", rows.schema) as writer:
        for batch in rows.to_batches(max_chunksize=7_777):
            writer.write(batch)
        staged = writer.close()
    file = parquet.ParquetFile(staged.path)
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [ROW_GROUP, ROW_GROUP, 5]
    assert file.read().equals(rows)
    assert (staged.rows, staged.digest) == (rows.num_rows, content_digest(rows))


def test_a_file_that_was_not_finished_is_taken_away(tmp_path: Path) -> None:
    rows = pa.table({"a": [1]})
    with pytest.raises(ZeroDivisionError), StagedWriter(tmp_path / "x.parquet", rows.schema) as writer:
        writer.write(rows.to_batches()[0])
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_gone_afterwards_and_what_a_killed_process_left_goes_after_a_day(settings: Settings) -> None:
    root = settings.var / "staging"
    with staging(settings) as folder:
        (folder / "x").write_text("x")
    assert not folder.exists()
    for name, hours in (("killed yesterday", 25), ("at work", 23)):
        (root / name).mkdir()
        (root / name / "rows").write_text("x")
        then = time.time() - hours * 3600
        os.utime(root / name, (then, then))
    with staging(settings):
        pass
    assert [path.name for path in root.iterdir()] == ["at work"]
