"""From clean tables to feature tables: the SQL of a feature table, run for one partition with its look-back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import FeatureError
from millrace.features.base import ARROW_TYPES, EVENT_TIMESTAMP, INSTANT, KNOWN_AT, key_kind
from millrace.features.source import clean_partitions, clean_snapshots, register_clean, register_empty
from millrace.lake import Table
from millrace.lake.duck import arrow, connect
from millrace.partition import Partition
from millrace.spec import DomainSpec, FeatureTableSpec

log = logging.getLogger(__name__)
_FORMAT = 1  # part of every input digest: raise it where the same inputs give other bytes


def build_table(domain: DomainSpec, name: str, partition: str, *, lake: str, folder: Path) -> DatasetRef:
    """Compute one feature table for one partition (whole, where it is static) and put it into the lake.

    The digest of the reference is taken of everything the rows follow from: SQL, spec and the content of the clean
    partitions read. Where that is unchanged nothing is computed.

    Args:
        domain: its domain.
        name: feature table of it.
        partition: key of the partition.
        lake: where tables live.
        folder: folder of the domains' YAML, which SQL files are named relative to.

    Raises:
        FeatureError: no such table, no clean rows, or SQL that does not return what the spec declares.
    """
    table = feature_table(domain, name)
    sql = read_sql(table, folder)
    sources = _sources_in(sql, domain, where=table.origin)
    reached = clean_partitions(domain, partition, table.look_back_days)
    read = _inputs(domain, sources, reached, lake=lake)
    key = "" if table.static else partition
    digest = digest_of(
        {
            "format": _FORMAT,
            "sql": sql,
            "spec": table.model_dump(mode="json", exclude={"description"}),
            "inputs": read,
            "partition": key,
        }
    )
    target = Table(lake, domain.feature_table(name))
    if (known := target.find(digest, key)) is not None:
        log.info("%s %s: inputs unchanged, nothing computed", target.name, key)
        return known
    connection = connect(external=False)
    try:
        for source in sources:
            present = [item for item in read[source] if item]
            register_clean(connection, domain, source, present, lake=lake)
        rows = run_sql(connection, table, sql, reached[-1], where=table.origin)
    finally:
        connection.close()
    return target.replace(rows, partition=key, digest=digest)


def run_sql(connection: Any, table: FeatureTableSpec, sql: str, partition: Partition, *, where: str) -> pa.Table:
    """Rows of a feature table for a partition, typed, checked and in a total order.

    Raises:
        FeatureError: the SQL fails, lacks a declared column, or returns rows the contract of feature tables forbids.
    """
    import duckdb

    try:
        rows = arrow(connection.sql(sql, params=_parameters(sql, partition)))
    except duckdb.Error as error:
        raise FeatureError(f"the SQL fails: {error}", where=where, remedy="correct the SQL") from error
    rows = conform(rows, table, where=where)
    _check_rows(rows, table, partition, where=where)
    order = [(column, "ascending") for column in (*table.entities, EVENT_TIMESTAMP, KNOWN_AT)]
    return rows.sort_by(order)


def conform(rows: pa.Table, table: FeatureTableSpec, *, where: str) -> pa.Table:
    """The declared columns in their order and types.

    Raises:
        FeatureError: a declared column is missing or does not convert.
    """
    declared = [*table.entities, EVENT_TIMESTAMP, KNOWN_AT, *table.features]
    if absent := [column for column in declared if column not in rows.column_names]:
        raise FeatureError(
            f"the SQL does not return {', '.join(map(repr, absent))}",
            where=where,
            remedy=f"select them; it returns {', '.join(rows.column_names)}",
        )
    columns = []
    for column in declared:
        values = rows.column(column)
        wanted = INSTANT if column in (EVENT_TIMESTAMP, KNOWN_AT) else _declared_type(table, column, values.type)
        try:
            columns.append(values.cast(wanted))
        except pa.ArrowInvalid as error:
            raise FeatureError(
                f"column {column!r} of type {values.type} does not convert to {wanted}: {error}",
                where=where,
                remedy="cast it in the SQL, or declare its type in `features`",
            ) from error
    return pa.table(columns, names=declared)


def entity_kinds(domain: DomainSpec, folder: Path, names: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Feature table → join key → kind, found by compiling the SQL against empty typed views.

    Raises:
        FeatureError: SQL that does not compile or lacks a declared column.
    """
    connection = connect(threads=1, external=False)
    try:
        register_empty(connection, domain)
        return {
            name: compile_table(connection, domain, name, folder) for name in (names or sorted(domain.feature_tables))
        }
    finally:
        connection.close()


def compile_table(connection: Any, domain: DomainSpec, name: str, folder: Path) -> dict[str, str]:
    """Run a feature table's SQL over empty views: join key → kind.

    Raises:
        FeatureError: the SQL does not compile or lacks a declared column.
    """
    table = feature_table(domain, name)
    sql = read_sql(table, folder)
    rows = run_sql(connection, table, sql, domain.partition(domain.first), where=table.origin)
    return {column: key_kind(column, rows.schema.field(column).type) for column in table.entities}


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


def read_sql(table: FeatureTableSpec, folder: Path) -> str:
    """Text of a feature table's SQL file.

    Raises:
        FeatureError: the file is missing or empty.
    """
    path = folder / str(table.sql)
    text = path.read_text(encoding="utf-8").strip().rstrip(";") if path.is_file() else ""
    if not text:
        raise FeatureError("the SQL file is missing or empty", where=str(path), remedy="write the transformation")
    return text


def _inputs(
    domain: DomainSpec, sources: list[str], reached: list[Partition], *, lake: str
) -> dict[str, dict[str, str]]:
    """Source → partition → digest of the clean rows that are there."""
    snapshots = clean_snapshots(domain, lake=lake)
    found: dict[str, dict[str, str]] = {}
    for source in sources:
        there = snapshots[source]
        if domain.sources[source].static:
            found[source] = {key: ref.digest for key, ref in sorted(there.items())}
            continue
        found[source] = {item.key: there[item.key].digest for item in reached if item.key in there}
        if reached[-1].key not in there and not domain.sources[source].may_be_empty:
            raise FeatureError(
                f"source {source!r} has no clean rows of {reached[-1].key}",
                where=f"{lake}/{domain.clean_table(source)}",
                remedy=f"ingest and validate {source!r} for {reached[-1].key} first",
            )
        if absent := [item.key for item in reached[:-1] if item.key not in there]:
            log.warning(
                "%s: clean rows of %s are missing, so windows of %s see less; build it again once they are there",
                source,
                ", ".join(absent),
                reached[-1].key,
            )
    return found


def _sources_in(sql: str, domain: DomainSpec, *, where: str) -> list[str]:
    """Sources a SQL text reads, so that only they are loaded and count as input."""
    import duckdb

    bound = re.sub(r"\$(start|end)\b", "TIMESTAMP '2000-01-01'", sql)
    connection = connect(threads=1, external=False)
    try:
        named = connection.get_table_names(bound)
    except duckdb.Error as error:
        raise FeatureError(f"the SQL does not parse: {error}", where=where, remedy="correct the SQL") from error
    finally:
        connection.close()
    return [name for name in domain.sources if name in named]


def _parameters(sql: str, partition: Partition) -> dict[str, Any]:
    bounds = {"start": partition.start.replace(tzinfo=None), "end": partition.end.replace(tzinfo=None)}
    return {name: value for name, value in bounds.items() if re.search(rf"\${name}\b", sql)}


def _declared_type(table: FeatureTableSpec, column: str, found: pa.DataType) -> pa.DataType:
    if column in table.features:
        return ARROW_TYPES[table.features[column]]
    return pa.string() if key_kind(column, found) == "string" else pa.int64()


def _check_rows(rows: pa.Table, table: FeatureTableSpec, partition: Partition, *, where: str) -> None:
    for column in (*table.entities, EVENT_TIMESTAMP, KNOWN_AT):
        if nulls := rows.column(column).null_count:
            raise FeatureError(f"{column!r} is null in {nulls} rows", where=where, remedy="filter them in the SQL")
    if table.static or not rows.num_rows:
        return
    bounds = pc.min_max(rows.column(EVENT_TIMESTAMP)).as_py()
    if bounds["min"] < partition.start or bounds["max"] >= partition.end:
        raise FeatureError(
            f"event_timestamp runs from {bounds['min']} to {bounds['max']}, outside of {partition.key}",
            where=where,
            remedy="return rows with event_timestamp >= $start and event_timestamp < $end alone",
        )
