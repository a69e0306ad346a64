"""What feature SQL sees of a domain: one DuckDB view a source, with clean rows or, for checks, with none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.cleanup import clean_schema
from millrace.errors import FeatureError, SpecError
from millrace.features.base import DUCKDB_TYPES
from millrace.lake import Table
from millrace.lake.commits import PARTITION
from millrace.lake.duck import quoted, text
from millrace.partition import Partition
from millrace.spec import DomainSpec, SourceSpec

log = logging.getLogger(__name__)


def clean_partitions(domain: DomainSpec, partition: str, look_back_days: int) -> list[Partition]:
    """The partitions a look-back reaches, oldest first, the asked one last; none before the domain's first."""
    asked = domain.partition(partition)
    reach = max(asked.start - timedelta(days=look_back_days), domain.first_start)
    found = [asked]
    while found[0].start > reach:
        found.insert(0, found[0].shift(-1))
    return found


def clean_snapshots(domain: DomainSpec, *, lake: str) -> dict[str, dict[str, DatasetRef]]:
    """Source → partition → newest clean rows; "" is the partition of a static source."""
    return {name: Table(lake, domain.clean_table(name)).newest() for name in domain.sources}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRows:
    """Where clean rows of a source lie.

    Attributes:
        schema: columns of its clean table, without that of partitions.
        files: local Parquet files, without that column too; older ones may lack columns that were added since.
    """

    schema: pa.Schema
    files: list[Path]


def find_clean(domain: DomainSpec, source: str, keys: Sequence[str], *, lake: str, into: Path) -> CleanRows:
    """The clean rows of a source in the partitions named (all of them, for a static source).

    Args:
        domain: its domain.
        source: its name.
        keys: partitions.
        lake: where tables live.
        into: folder for copies of the files of an object store.

    Raises:
        FeatureError: the source has no clean table yet.
    """
    table, spec = Table(lake, domain.clean_table(source)), domain.sources[source]
    if not spec.static and not keys:
        return CleanRows(schema=clean_schema(spec), files=[])
    if not table.exists():
        raise FeatureError(
            f"source {source!r} of domain {domain.name!r} has no clean table",
            where=table.uri,
            remedy=f"ingest and validate {source!r} first",
        )
    version = table.version()
    schema = table.open(version).to_pyarrow_dataset().schema
    into.mkdir(parents=True, exist_ok=True)
    files = table.fetch(into, version=version, partitions=None if spec.static else keys)
    own = pa.schema([field for field in schema if field.name != PARTITION])
    return CleanRows(schema=own, files=[file.resolve() for file in files])


def register_clean(connection: Any, source: str, rows: CleanRows) -> None:
    """Make the views of a source over clean rows.

    `clean_<source>` shows the rows as the lake has them; under the name of the source instants are UTC timestamps
    without zone, as `$start` and `$end` are. DuckDB reads the files itself, as a query asks for them: what it reads
    counts towards its memory limit, which rows that come through Arrow do not.
    """
    connection.register(f"none_{source}", rows.schema.empty_table())
    query = f"SELECT * FROM {quoted(f'none_{source}')}"
    if rows.files:
        files = ", ".join(text(str(file)) for file in rows.files)
        options = "union_by_name = true, hive_partitioning = false"
        query += f" UNION ALL BY NAME SELECT * FROM read_parquet([{files}], {options})"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(f'clean_{source}')} AS {query}")
    plain_view(connection, source, f"clean_{source}")


def register_rows(connection: Any, source: str, rows: pa.Table) -> None:
    """Make the views of a source over rows that are at hand, as `register_clean` does over those of the lake."""
    connection.register(f"clean_{source}", rows)
    plain_view(connection, source, f"clean_{source}")


def register_empty(connection: Any, domain: DomainSpec) -> dict[str, dict[str, str]]:
    """Make the views of all sources with their types and no rows: what checks compile against.

    Returns:
        source → column → DuckDB type.

    Raises:
        FeatureError: a step of a source's clean-up cannot work.
    """
    found: dict[str, dict[str, str]] = {}
    for name, source in domain.sources.items():
        register_rows(connection, name, empty_rows(domain, name, source))
        described = connection.execute(f"DESCRIBE {quoted(name)}").fetchall()
        found[name] = {str(row[0]): str(row[1]) for row in described}
    return found


def plain_view(connection: Any, name: str, clean: str) -> None:
    """A view of a relation with its zoned instants as UTC timestamps without zone."""
    described = connection.execute(f"DESCRIBE {quoted(clean)}").fetchall()
    replaced = [
        f"CAST({quoted(column)} AS TIMESTAMP) AS {quoted(column)}"
        for column, kind, *_ in described
        if kind == DUCKDB_TYPES["timestamp"]
    ]
    star = f"* REPLACE ({', '.join(replaced)})" if replaced else "*"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT {star} FROM {quoted(clean)}")


def empty_rows(domain: DomainSpec, name: str, source: SourceSpec) -> pa.Table:
    """A source's clean table without rows.

    Raises:
        FeatureError: a step of its clean-up cannot work.
    """
    try:
        return clean_schema(source).empty_table()
    except SpecError as error:
        raise FeatureError(
            error.what,
            where=f"domains/{domain.name}.yaml: sources.{name}.{error.where}",
            remedy=error.remedy,
        ) from error
