"""What makes a feature table of clean rows: its text, what it reads, and how it is run over rows that are at hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from millrace.errors import FeatureError
from millrace.features.batch_function import call_function
from millrace.features.conformance import check_rows, conform, in_order
from millrace.lake.duck import arrow, connect, quoted
from millrace.partition import Partition
from millrace.spec import DomainSpec, FeatureTableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformation:
    """The declaration of a feature table together with the text that computes it.

    Attributes:
        table: its spec.
        text: the SQL, or the source of the Python file.
    """

    table: FeatureTableSpec
    text: str

    def sources(self, domain: DomainSpec) -> list[str]:
        """Sources of the domain that it reads, so that only they are loaded and count as input.

        Raises:
            FeatureError: SQL that does not parse, a source the domain has not, or a static table of moving sources.
        """
        named = self.table.sources if self.table.function else _tables_named(self.text, where=self.table.origin)
        if self.table.function and (unknown := [name for name in named if name not in domain.sources]):
            raise FeatureError(
                f"no source {unknown[0]!r} in domain {domain.name!r}",
                where=self.table.origin,
                remedy=f"correct `sources`; there are {', '.join(domain.sources)}",
            )
        found = [name for name in domain.sources if name in named]
        if self.table.static and (moving := [name for name in found if not domain.sources[name].static]):
            raise FeatureError(
                f"a static feature table reads {moving[0]!r}, which has partitions",
                where=self.table.origin,
                remedy="read static sources only, or leave `static` out and return rows of [start, end)",
            )
        return found

    def run(self, connection: Any, sources: Sequence[str], partition: Partition) -> pa.Table:
        """Rows of the feature table for a partition, typed, checked and in a total order.

        Args:
            connection: DuckDB with a view on each source's rows (instants without zone), and on the same rows as the
                lake has them under `clean_<source>`.
            sources: what `sources` gave.
            partition: the partition computed.

        Raises:
            FeatureError: it fails, lacks a declared column, or returns rows that a feature table must not have.
        """
        made = self._call(connection, sources, partition) if self.table.function else self._query(connection, partition)
        rows = conform(made, self.table)
        check_rows(rows, self.table, partition)
        return in_order(rows, self.table)

    def _query(self, connection: Any, partition: Partition) -> pa.Table:
        import duckdb

        try:
            return arrow(connection.sql(self.text, params=_parameters(self.text, partition)))
        except duckdb.OutOfMemoryException as error:
            raise FeatureError(
                f"the SQL needs more memory than the limit: {str(error).splitlines()[0]}",
                where=self.table.origin,
                remedy="raise `compute.memory_limit` of the domain, or lower `compute.threads`",
            ) from error
        except duckdb.Error as error:
            raise FeatureError(f"the SQL fails: {error}", where=self.table.origin, remedy="correct the SQL") from error

    def _call(self, connection: Any, sources: Sequence[str], partition: Partition) -> pa.Table:
        rows = {name: arrow(connection.sql(f"SELECT * FROM {quoted(f'clean_{name}')}")) for name in sources}
        return call_function(self.text, str(self.table.function), rows, partition.start, partition.end)


def feature_table(domain: DomainSpec, name: str) -> FeatureTableSpec:
    """The spec of a feature table.

    Raises:
        FeatureError: the domain has none of that name.
    """
    try:
        return domain.feature_tables[name]
    except KeyError as error:
        raise FeatureError(
            f"no feature table {name!r}",
            where=f"domains/{domain.name}.yaml",
            remedy=f"use one of: {', '.join(domain.feature_tables)}",
        ) from error


def read_transformation(domain: DomainSpec, name: str, folder: Path) -> Transformation:
    """A feature table's transformation as it stands now.

    Args:
        domain: its domain.
        name: feature table of it.
        folder: folder of the domains' YAML, which files are named relative to.

    Raises:
        FeatureError: no such table, or its file is missing or empty.
    """
    table = feature_table(domain, name)
    return Transformation(table=table, text=transformation_text(table, folder))


def transformation_text(table: FeatureTableSpec, folder: Path) -> str:
    """The SQL of a feature table, or the source of its Python file.

    Args:
        table: its spec.
        folder: folder of the domains' YAML, which files are named relative to.

    Raises:
        FeatureError: the file is missing or empty, or no text.
    """
    path = folder / table.origin.partition(":")[0]
    try:
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise FeatureError(
            f"the file of the transformation cannot be read: {error}", where=str(path), remedy="write it as UTF-8"
        ) from error
    if table.sql:
        text = text.rstrip(";")
    if not text:
        kind = "SQL" if table.sql else "Python"
        raise FeatureError(f"the {kind} file is missing or empty", where=str(path), remedy="write the transformation")
    return text


def _tables_named(sql: str, *, where: str) -> set[str]:
    """Names that stand where tables do; from the parse alone, since nothing here knows a column's type."""
    import duckdb

    connection = connect(threads=1, external=False)
    try:
        found = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()[0][0]
    except duckdb.Error as error:
        raise FeatureError(f"the SQL does not parse: {error}", where=where, remedy="correct the SQL") from error
    finally:
        connection.close()
    tree = orjson.loads(found)
    if tree["error"]:
        raise FeatureError(
            f"the SQL does not parse: {tree['error_message']}", where=where, remedy="correct the SQL: it is one SELECT"
        )
    return set(_base_tables(tree["statements"]))


def _base_tables(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _base_tables(item)
    elif isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield str(node["table_name"]).lower()
        for item in node.values():
            yield from _base_tables(item)


def _parameters(sql: str, partition: Partition) -> dict[str, Any]:
    bounds = {"start": partition.start.replace(tzinfo=None), "end": partition.end.replace(tzinfo=None)}
    return {name: value for name, value in bounds.items() if re.search(rf"\${name}\b", sql)}
