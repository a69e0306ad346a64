"""What feature SQL sees of a domain: one DuckDB view a source, with clean rows or, for checks, with none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from millrace.artifact import DatasetRef
from millrace.cleanup import clean_schema
from millrace.errors import FeatureError, SpecError
from millrace.features.base import DUCKDB_TYPES
from millrace.lake import Table
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


def register_clean(connection: Any, domain: DomainSpec, source: str, keys: Sequence[str], *, lake: str) -> None:
    """Make the view of a source over its clean rows of the partitions named (of all, for a static source).

    Instants are shown as UTC timestamps without zone, as `$start` and `$end` are.

    Raises:
        FeatureError: the source has no clean table yet, or none of the partitions asked for.
    """
    table = Table(lake, domain.clean_table(source))
    if not table.exists():
        raise FeatureError(
            f"source {source!r} of domain {domain.name!r} has no clean table",
            where=table.uri,
            remedy=f"ingest and validate {source!r} first",
        )
    static = domain.sources[source].static
    rows = table.read() if static else table.read(partitions=keys)
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
        _empty_clean(connection, domain, name, source)
        plain_view(connection, name, f"clean_{name}")
        described = connection.execute(f"DESCRIBE {_quote(name)}").fetchall()
        found[name] = {str(row[0]): str(row[1]) for row in described}
    return found


def plain_view(connection: Any, name: str, clean: str) -> None:
    """A view of a relation with its zoned instants as UTC timestamps without zone."""
    described = connection.execute(f"DESCRIBE {_quote(clean)}").fetchall()
    replaced = [
        f"CAST({_quote(column)} AS TIMESTAMP) AS {_quote(column)}"
        for column, kind, *_ in described
        if kind == DUCKDB_TYPES["timestamp"]
    ]
    star = f"* REPLACE ({', '.join(replaced)})" if replaced else "*"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {_quote(name)} AS SELECT {star} FROM {_quote(clean)}")


def _empty_clean(connection: Any, domain: DomainSpec, name: str, source: SourceSpec) -> None:
    try:
        schema = clean_schema(source)
    except SpecError as error:
        raise FeatureError(
            error.what,
            where=f"domains/{domain.name}.yaml: sources.{name}.{error.where}",
            remedy=error.remedy,
        ) from error
    connection.register(f"clean_{name}", schema.empty_table())


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
