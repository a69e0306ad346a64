"""What our commits to a Delta table carry: partition, digest, rows, and notes of their writer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millrace.artifact import DatasetRef

PARTITION = "partition"
"""The column that tables are partitioned by."""

ATTEMPTS = 12
"""How often a commit is tried that loses to other writers."""

RESTART = "millrace.restart"
"""Mark of a commit that emptied the table and gave it other columns: what was written before it is not there."""

_NOTE = "millrace.note."


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One write of a partition.

    Attributes:
        ref: what was written.
        notes: what its writer noted.
        at: wall time of the commit.
    """

    ref: DatasetRef
    notes: Mapping[str, str]
    at: datetime


def properties(
    partition: str, digest: str, rows: int, note: Mapping[str, str] | None, *, retries: int | None = None
) -> Any:
    """The `deltalake.CommitProperties` of a write of a partition.

    Args:
        partition: its key.
        digest: of its content.
        rows: how many.
        note: what else the writer wants to find again.
        retries: how often the library itself may try again against other writers; its default where None.
    """
    from deltalake import CommitProperties

    told = {"millrace.partition": partition, "millrace.digest": digest, "millrace.rows": str(rows)}
    told |= {f"{_NOTE}{name}": value for name, value in (note or {}).items()}
    return CommitProperties(custom_metadata=told, max_commit_retries=retries)


def of_partitions(table: Any) -> Iterator[dict[str, Any]]:
    """The commits of an open table that wrote a partition, newest first, none from before a restart."""
    since = itertools.takewhile(lambda commit: RESTART not in commit, _history(table))
    return (commit for commit in since if "millrace.partition" in commit and "millrace.digest" in commit)


def _history(table: Any) -> Iterator[dict[str, Any]]:
    """The commits up to the version that is open, newest first, each with its own version.

    deltalake lists whatever the log holds by now and counts down from the open version: when another writer commits
    between opening and listing, each commit has the number of the one before it. Our logs are never cut, so that the
    length of the list says how many commits are too new.
    """
    history: list[dict[str, Any]] = table.history()
    newest = int(table.version())
    too_new = max(len(history) - (newest + 1), 0)
    return ({**commit, "version": newest - back} for back, commit in enumerate(history[too_new:]))


def newest(table: Any, partition: str) -> dict[str, Any] | None:
    """The newest commit of an open table that wrote a partition; None where there is none."""
    return next((commit for commit in of_partitions(table) if partition_of(commit) == partition), None)


def partition_of(commit: Mapping[str, Any]) -> str:
    """Key of the partition that a commit wrote."""
    return str(commit["millrace.partition"])


def write_of(table: str, commit: Mapping[str, Any]) -> Write:
    """What a commit says of the partition it wrote."""
    ref, notes = read(table, commit)
    return Write(ref=ref, notes=notes, at=datetime.fromtimestamp(int(commit["timestamp"]) / 1000, UTC))


def read(table: str, commit: Mapping[str, Any]) -> tuple[DatasetRef, dict[str, str]]:
    """The reference of what a commit wrote, and the notes on it."""
    ref = DatasetRef(
        table=table,
        version=int(commit["version"]),
        partition=partition_of(commit),
        rows=int(commit.get("millrace.rows", 0)),
        digest=str(commit["millrace.digest"]),
        changed=False,
    )
    return ref, {name.removeprefix(_NOTE): str(commit[name]) for name in commit if name.startswith(_NOTE)}
