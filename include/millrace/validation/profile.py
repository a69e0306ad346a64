"""The statistics of a partition, column by column, kept with every clean partition for those that come after it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from millrace.artifact import DatasetRef, digest_of
from millrace.lake import Table, duck
from millrace.lake.digest import content_digest
from millrace.lake.staging import staging
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec
from millrace.spec.cleanup import DeriveStep, PythonStep, RenameStep
from millrace.validation.duckdb_profile import QUANTILES, Kind, measure_columns

log = logging.getLogger(__name__)
_CLEAN = "clean"
"""Note of a commit: digest of the clean rows that the statistics are of."""
SCHEMA = pa.schema(
    [
        ("column", pa.string()),
        ("kind", pa.string()),
        ("rows", pa.int64()),
        ("nulls", pa.int64()),
        ("distinct", pa.int64()),
        ("distinct_exact", pa.bool_()),
        ("sampled", pa.bool_()),
        ("min", pa.string()),
        ("max", pa.string()),
        ("min_number", pa.float64()),
        ("max_number", pa.float64()),
        ("mean", pa.float64()),
        ("stddev", pa.float64()),
        *((name, pa.float64()) for name in QUANTILES),
        ("min_length", pa.int64()),
        ("max_length", pa.int64()),
        ("pattern", pa.string()),
        ("pattern_share", pa.float64()),
        ("top_values", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """The statistics of one column of one partition; None where the kind of column has none, or no value was there.

    Attributes:
        column: its name.
        kind: `integer`, `number`, `text`, `bool`, `timestamp` or `other`.
        rows: rows of the partition.
        nulls: those without a value.
        distinct: distinct values.
        distinct_exact: whether they were counted; else the number is an estimate (HyperLogLog).
        sampled: whether quantiles are those of a sample.
        min: least value as text; of times in ISO form.
        max: greatest.
        min_number: least value of a number, epoch seconds of a time.
        max_number: greatest.
        mean: of a number, to 12 significant digits.
        stddev: of a number, to 12 significant digits.
        q001: 0.1 % quantile of a number.
        q01: 1 % quantile.
        q05: 5 % quantile.
        q50: median.
        q95: 95 % quantile.
        q99: 99 % quantile.
        q999: 99.9 % quantile.
        min_length: of a text, in signs.
        max_length: of a text, in signs.
        pattern: regular expression that most texts match.
        pattern_share: share of them that does.
        top_values: JSON list of [value, rows], the most frequent first; None for columns of many values.
    """

    column: str
    kind: Kind
    rows: int
    nulls: int
    distinct: int
    distinct_exact: bool = True
    sampled: bool = False
    min: str | None = None
    max: str | None = None
    min_number: float | None = None
    max_number: float | None = None
    mean: float | None = None
    stddev: float | None = None
    q001: float | None = None
    q01: float | None = None
    q05: float | None = None
    q50: float | None = None
    q95: float | None = None
    q99: float | None = None
    q999: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    pattern_share: float | None = None
    top_values: str | None = None

    @property
    def null_share(self) -> float | None:
        """Share of rows without a value; None where there are no rows."""
        return self.nulls / self.rows if self.rows else None

    @property
    def top(self) -> dict[Any, int] | None:
        """Most frequent value → rows, at most 50 of them."""
        return None if self.top_values is None else dict(orjson.loads(self.top_values))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProfile:
    """The statistics of one partition.

    Attributes:
        partition: its key.
        columns: column → statistics.
    """

    partition: str
    columns: Mapping[str, ColumnProfile]

    @property
    def rows(self) -> int:
        """Rows of the partition."""
        return max((item.rows for item in self.columns.values()), default=0)

    @classmethod
    def of(cls, partition: str, table: pa.Table) -> PartitionProfile:
        """The profile in the rows that `profile_table` gave."""
        columns = [ColumnProfile(**item) for item in table.select(SCHEMA.names).to_pylist()]
        return cls(partition=partition, columns={item.column: item for item in columns})


def profile_table(
    connection: Any,
    table: str,
    columns: Sequence[str],
    *,
    pii: Collection[str] = (),
    exact: Collection[str] = (),
) -> pa.Table:
    """The statistics of a table's columns as `SCHEMA`, one row a column.

    Args:
        connection: a `duckdb.DuckDBPyConnection`.
        table: table or view of it.
        columns: those to measure.
        pii: those of which only rows, nulls and distinct values are counted.
        exact: those whose distinct values are counted in tables of any size.
    """
    return pa.Table.from_pylist(measure_columns(connection, table, columns, hidden=pii, exact=exact), schema=SCHEMA)


def profile_rows(connection: Any, table: str, spec: SourceSpec) -> pa.Table:
    """The statistics of clean rows of a source, as its spec asks for: no value of personal columns."""
    present = connection.table(table).columns
    counted = [item.column for item in spec.history if item.measure == "distinct_count" and item.column]
    columns = [name for name in spec.clean_columns if name in present]
    return profile_table(connection, table, columns, pii=personal_columns(spec), exact=counted)


def store_profile(
    rows: pa.Table,
    *,
    settings: Settings,
    domain: DomainSpec,
    source: str,
    partition: str,
    clean: DatasetRef | None = None,
) -> DatasetRef:
    """Replace the statistics of a partition ("" for a static source); equal ones of equal rows commit nothing.

    Args:
        rows: what `profile_rows` gave.
        settings: the installation.
        domain: the domain.
        source: one of its sources.
        partition: key.
        clean: the snapshot they are of; once the partition has other rows they are taken anew.
    """
    of = clean.digest if clean else ""
    return Table(settings.lake, domain.profile_table(source)).replace(
        rows, partition=partition, digest=digest_of([content_digest(rows), of]), note={_CLEAN: of} if of else None
    )


def load_profiles(
    settings: Settings, domain: DomainSpec, source: str, *, before: str, last: int
) -> list[PartitionProfile]:
    """The statistics of the last `last` partitions before this one, the oldest first.

    Those of clean partitions that have none, or whose rows were replaced since, are taken and stored here: what a
    person adds to `history` works on the past at once.
    """
    if not last:
        return []
    kept, clean = (Table(settings.lake, name) for name in (domain.profile_table(source), domain.clean_table(source)))
    snapshots = clean.newest()
    keys = sorted(key for key in {*snapshots, *kept.partitions()} if key and key < before)[-last:]
    return [
        PartitionProfile.of(
            key, _kept(kept, key, snapshots.get(key)) or _taken(settings, domain, source, snapshots[key])
        )
        for key in keys
    ]


def _kept(table: Table, key: str, clean: DatasetRef | None) -> pa.Table | None:
    found = table.note(key)
    if found is None or (clean is not None and found[1].get(_CLEAN, clean.digest) != clean.digest):
        return None
    return table.read(version=found[0].version, partitions=[key])


def _taken(settings: Settings, domain: DomainSpec, source: str, clean: DatasetRef) -> pa.Table:
    spec = domain.sources[source]
    table = Table(settings.lake, clean.table)
    with staging(settings) as folder:
        files = table.fetch(folder, version=clean.version, partitions=[clean.partition])
        connection = duck.connect(memory_limit=spec.memory_limit, spill=folder / "spill")
        try:
            if files:
                listed = ", ".join(duck.text(str(file)) for file in files)
                scan = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
                connection.execute(f"CREATE VIEW clean AS SELECT * FROM {scan}")
            else:
                connection.register("clean", table.read(version=clean.version, partitions=[clean.partition]))
            rows = profile_rows(connection, "clean", spec)
        finally:
            connection.close()
    store_profile(rows, settings=settings, domain=domain, source=source, partition=clean.partition, clean=clean)
    log.info("%s %s: statistics taken", clean.table, clean.partition)
    return rows


def personal_columns(spec: SourceSpec) -> set[str]:
    """Clean columns that are personal: those tagged `pii`, under the name they end with, and those made of them.

    A function of the team's sees whole rows, so what it adds counts as personal where anything is.
    """
    found = set(spec.pii)
    for step in spec.cleanup:
        if isinstance(step, RenameStep):
            found = {step.rename.get(name, name) for name in found}
        elif isinstance(step, DeriveStep):
            for name, expression in step.derive.items():
                if {item.lower() for item in found} & set(re.findall(r"\w+", expression.lower())):
                    found.add(name)
        elif isinstance(step, PythonStep) and found:
            found |= set(step.adds)
    return found
