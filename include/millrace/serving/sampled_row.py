"""One row that was asked by key, as the request log keeps it: a line of JSON, read back by whoever compares.

Between them stand lines that count rows which came as full vectors.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import orjson

log = logging.getLogger(__name__)
FOLDER = "requests"
SUFFIX = ".jsonl"
_DIGEST = re.compile(r"[0-9a-z]{64}\Z")
_FURTHEST = 2**55
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_VECTORS = b'{"vectors":'


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRow:
    """What the model saw of one entity, and as of when.

    Attributes:
        release: version of the release that answered.
        package: its package, which says what the columns mean.
        effective_at: the earliest of the marks, in microseconds since 1970.
        recorded_at: wall clock, in microseconds since 1970.
        marks: view → instant through which it was materialized when its values were read, likewise.
        columns: join keys, the row's columns that a function reads, and every feature that did not come with the
            request; a missing value is None.
        answer: id of the answer, with the row's place in it; "" in lines written before answers had one.
        prediction: what was answered; of several classes the place of the most probable one. None as above.
    """

    release: int
    package: str
    effective_at: int
    recorded_at: int
    marks: dict[str, int]
    columns: dict[str, Any]
    answer: str = ""
    prediction: float | None = None

    def to_bytes(self) -> bytes:
        """One line; floats keep their shortest exact form, NaN is null."""
        return orjson.dumps(self, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_bytes(cls, line: bytes) -> Self | None:
        """The row of a line; None where it is none, or not whole as the last one of a killed process may be."""
        try:
            plain = orjson.loads(line)
            row = cls(**plain)
        except (orjson.JSONDecodeError, TypeError):
            return None
        return row if row._is_sound() else None

    def _is_sound(self) -> bool:
        """Whether its values are of their types: what lies on a disk may have been written by anybody."""
        if not isinstance(self.marks, Mapping) or not isinstance(self.columns, Mapping):
            return False
        instants = [self.effective_at, self.recorded_at, *self.marks.values()]
        return (
            type(self.release) is int
            and isinstance(self.package, str)
            and _DIGEST.match(self.package) is not None
            and isinstance(self.answer, str)
            and isinstance(self.prediction, (int, float, type(None)))
            and all(type(value) is int and abs(value) <= _FURTHEST for value in instants)
            and all(isinstance(value, (str, int, float, bool, type(None))) for value in self.columns.values())
        )


def microseconds(moment: datetime) -> int:
    """An instant as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def instant(value: int) -> datetime:
    """The UTC instant so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=value)


def vectors_line(rows: int, recorded_at: int) -> bytes:
    """A line that says how many rows came as full vectors since the last one."""
    return orjson.dumps({"vectors": rows, "recorded_at": recorded_at}, option=orjson.OPT_APPEND_NEWLINE)


def count_vectors(serving_dir: Path, use_case: str) -> int:
    """Rows of a use case that came as full vectors, as far back as its log goes."""
    found = 0
    for path in log_files(serving_dir / FOLDER / use_case):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            found += sum(_vectors_of(line) for line in file if line.startswith(_VECTORS))
    return found


def _vectors_of(line: bytes) -> int:
    try:
        rows = orjson.loads(line)["vectors"]
    except orjson.JSONDecodeError:
        return 0
    return rows if type(rows) is int and rows > 0 else 0


def read_sampled(serving_dir: Path, use_case: str, *, holding: str = "") -> Iterator[SampledRow]:
    """The rows kept of a use case, in the order of files and lines; a file that goes meanwhile is passed over.

    Args:
        serving_dir: where the online service keeps its files.
        use_case: its name.
        holding: only lines that hold this text, which costs less than reading them all.
    """
    wanted = holding.encode()
    for path in log_files(serving_dir / FOLDER / use_case):
        torn = 0
        try:
            with path.open("rb") as file:
                for line in file:
                    if wanted not in line or line.startswith(_VECTORS):
                        continue
                    if (row := SampledRow.from_bytes(line)) is None:
                        torn += 1
                    else:
                        yield row
        except FileNotFoundError:
            continue
        if torn:
            log.warning("%s: %d lines are no sampled rows and are passed over", path, torn)


def log_files(folder: Path) -> list[Path]:
    """The files of a request log, the oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))
