"""The past of a dataset: its partitions as one view, and the statistics of each and of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from millrace.artifact import iso
from millrace.lake.duck import quoted, text
from millrace.partition import Partition
from millrace.validation.profile import ColumnProfile, PartitionProfile, profile_table

VIEW = "past"
KEY, START, END = "partition#", "start#", "end#"
"""Columns of the view beside the data's own: no declared column can be called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of a dataset.

    Attributes:
        connection: DuckDB connection that holds the view `past`.
        stage: whether the rows are raw or clean ones.
        pooled: statistics of all rows.
        each: those of the partitions, the oldest first.
        partitions: key → partition; None for a static source.
        personal: columns of which no value may be told.
        given: columns whose value the partition's key gives, so that the past says nothing of them.
    """

    connection: Any
    stage: Literal["raw", "clean"]
    pooled: PartitionProfile
    each: Sequence[PartitionProfile]
    partitions: Mapping[str, Partition | None]
    personal: Set[str]
    given: Set[str]

    @property
    def rows(self) -> int:
        """Rows of all partitions."""
        return self.pooled.rows

    @property
    def timed(self) -> bool:
        """True where the partitions are stretches of time."""
        return all(partition is not None for partition in self.partitions.values())

    def of(self, column: str) -> list[ColumnProfile]:
        """The statistics of a column, partition by partition, empty ones left out."""
        return [profile.columns[column] for profile in self.each if profile.rows]

    def told(self, *kinds: str) -> list[str]:
        """Columns of these kinds whose values may be told, and tell something."""
        hidden = self.personal | self.given
        return [name for name, item in self.pooled.columns.items() if item.kind in kinds and name not in hidden]

    def count(self, conditions: Sequence[str]) -> list[int]:
        """Rows of all partitions on which each condition is true."""
        if not conditions:
            return []
        counted = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in conditions)
        return [int(value) for value in self.connection.execute(f"SELECT {counted} FROM {VIEW}").fetchone()]

    def count_each(self, conditions: Sequence[str]) -> list[tuple[int, ...]]:
        """Rows, and those on which each condition is true, partition by partition."""
        counted = "".join(f", count(*) FILTER (WHERE {condition})" for condition in conditions)
        sql = f"SELECT count(*){counted} FROM {VIEW} GROUP BY {quoted(KEY)} ORDER BY {quoted(KEY)}"
        return list(self.connection.execute(sql).fetchall())


def look_back(
    connection: Any,
    tables: Mapping[str, str],
    columns: Sequence[str],
    *,
    partitions: Mapping[str, Partition | None],
    stage: Literal["raw", "clean"],
    personal: Set[str] = frozenset(),
    given: Set[str] = frozenset(),
) -> Past:
    """Profile partitions.

    Args:
        connection: a `duckdb.DuckDBPyConnection`.
        tables: key of a partition → table or view with its rows, the oldest first; columns may be missing in some.
        columns: those to profile; each is in one of the tables.
        partitions: key → partition; None for a static source.
        stage: whether the rows are raw or clean ones.
        personal: columns of which no value may be told.
        given: columns whose value the partition's key gives.
    """
    parts = [f"SELECT *, {_marks(key, partitions[key])} FROM {quoted(table)}" for key, table in tables.items()]
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {VIEW} AS {' UNION ALL BY NAME '.join(parts)}")
    view = connection.table(VIEW)
    types = {name: str(kind) for name, kind in zip(view.columns, view.types, strict=True) if name in columns}
    each = []
    for key, table in tables.items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW part AS {_alike(connection, table, types)}")
        each.append(PartitionProfile.of(key, profile_table(connection, "part", columns, pii=personal)))
    return Past(
        connection=connection,
        stage=stage,
        pooled=PartitionProfile.of("", profile_table(connection, VIEW, columns, pii=personal)),
        each=each,
        partitions=partitions,
        personal=personal,
        given=given,
    )


def _alike(connection: Any, table: str, types: Mapping[str, str]) -> str:
    """The rows of one partition with the columns and types of all."""
    present = connection.table(table).columns
    columns = (
        f"CAST({quoted(name) if name in present else 'NULL'} AS {kind}) AS {quoted(name)}"
        for name, kind in types.items()
    )
    return f"SELECT {', '.join(columns)} FROM {quoted(table)}"


def _marks(key: str, partition: Partition | None) -> str:
    start, end = (text(iso(partition.start)), text(iso(partition.end))) if partition else ("NULL", "NULL")
    return (
        f"{text(key)} AS {quoted(KEY)}, CAST({start} AS TIMESTAMPTZ) AS {quoted(START)}, "
        f"CAST({end} AS TIMESTAMPTZ) AS {quoted(END)}"
    )
