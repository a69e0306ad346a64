"""One reading of files, as the tests of the readers want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from millrace.ingestion.base import Connection
from millrace.ingestion.file_source import FileSource
from millrace.partition import Partition
from millrace.spec import FileSourceSpec


class Outcome(NamedTuple):
    rows: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    notes: list[str]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Line and reason of each record set aside."""
        return [(reject["line"], reject["reason"]) for reject in self.rejects]


def no_connection(name: str) -> Connection:
    raise AssertionError(name)


def source(folder: Path, uri: str, **spec: Any) -> FileSource:
    staging = folder / "staging"
    staging.mkdir(exist_ok=True)
    values = {"uri": uri, "columns": {"a": "int32", "b": "string"}, "key": ["a"], **spec}
    return FileSource(
        spec=FileSourceSpec.model_validate(values),
        root=folder,
        staging=staging,
        connections=no_connection,
        first="2020-01",
        last="2020-12",
    )


def read(
    folder: Path, uri: str, content: bytes | str | None = None, *, partition: str = "2020-01", **spec: Any
) -> Outcome:
    """Write a file, where content is given, and read it; nothing may be left in the staging folder."""
    if content is not None:
        (folder / uri).write_bytes(content if isinstance(content, bytes) else content.encode())
    reading = source(folder, uri, **spec).read(Partition(partition))
    rows = [row for batch in reading.batches() for row in batch.to_pylist()]
    rejects = [row for batch in reading.rejects() for row in batch.to_pylist()]
    assert list((folder / "staging").iterdir()) == []
    return Outcome(rows, rejects, reading.notes())
