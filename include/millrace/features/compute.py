"""From clean tables to feature tables: a transformation run for one partition with its look-back."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import FeatureError
from millrace.features.base import key_kind
from millrace.features.source import clean_partitions, clean_snapshots, find_clean, register_clean, register_empty
from millrace.features.transformation import Transformation, feature_table, read_transformation, transformation_text
from millrace.lake import Table
from millrace.lake.duck import connect
from millrace.spec import DomainSpec

__all__ = [
    "build_table",
    "compile_table",
    "compute_rows",
    "entity_kinds",
    "feature_table",
    "find_table",
    "input_digest",
    "table_rows",
    "transformation_text",
]

log = logging.getLogger(__name__)
_FORMAT = 2  # part of every input digest: raise it where the same inputs give other bytes
_NOT_ROWS = {"description", "owners", "tags", "freshness_hours", "ttl_hours"}
"""Keys of the spec that rows do not follow from."""

CLEAN_NOTE = "clean."
"""What the notes on a write of features begin with that tell the version of a source's clean table."""

Inputs = Mapping[str, Mapping[str, str]]
"""Source → partition → digest of the clean rows that are there."""


def build_table(
    domain: DomainSpec, name: str, partition: str, *, lake: str, folder: Path, scratch: Path | None = None
) -> DatasetRef:
    """Compute one feature table for one partition (whole, where it is static) and put it into the lake.

    The digest of the reference is taken of everything the rows follow from: transformation, spec and the content of
    the clean partitions read. Where that is unchanged nothing is computed.

    Args:
        domain: its domain.
        name: feature table of it.
        partition: key of the partition.
        lake: where tables live.
        folder: folder of the domains' YAML, which files are named relative to.
        scratch: folder for what does not fit into the domain's memory limit; by default one of the system's.

    Raises:
        FeatureError: no such table, no clean rows, or a transformation that does not return what the spec declares.
    """
    made_by = read_transformation(domain, name, folder)
    read = read_snapshots(domain, made_by, partition, lake=lake, told=True)
    inputs = _digests(read)
    digest = input_digest(made_by, inputs, partition)
    key = "" if made_by.table.static else partition
    target = Table(lake, domain.feature_table(name))
    if (known := target.find(digest, key)) is not None:
        log.info("%s %s: inputs unchanged, nothing computed", target.name, key)
        return known
    rows = _rows(domain, made_by, inputs, partition, lake=lake, scratch=scratch)
    return target.replace(rows, partition=key, digest=digest, evolve=True, note=_versions(read))


def find_table(domain: DomainSpec, name: str, partition: str, *, lake: str, folder: Path) -> DatasetRef | None:
    """What `build_table` would give back without computing anything; None where it would compute.

    Raises:
        FeatureError: no such table, or no clean rows.
    """
    made_by = read_transformation(domain, name, folder)
    digest = input_digest(made_by, read_inputs(domain, made_by, partition, lake=lake), partition)
    return Table(lake, domain.feature_table(name)).find(digest, "" if made_by.table.static else partition)


def table_rows(
    domain: DomainSpec, name: str, partition: str, *, lake: str, folder: Path, scratch: Path | None = None
) -> pa.Table:
    """The rows that `build_table` would write; nothing is written.

    Raises:
        FeatureError: as `build_table`.
    """
    return compute_rows(domain, read_transformation(domain, name, folder), partition, lake=lake, scratch=scratch)


def compute_rows(
    domain: DomainSpec, made_by: Transformation, partition: str, *, lake: str, scratch: Path | None = None
) -> pa.Table:
    """Rows of a transformation for a partition, from the clean rows in the lake; nothing is written.

    Args:
        domain: its domain.
        made_by: the transformation, which need not be the one that the domain declares now.
        partition: key of the partition.
        lake: where tables live.
        scratch: folder for what does not fit into the domain's memory limit; by default one of the system's.

    Raises:
        FeatureError: no clean rows, or a transformation that does not return what its spec declares.
    """
    inputs = read_inputs(domain, made_by, partition, lake=lake)
    return _rows(domain, made_by, inputs, partition, lake=lake, scratch=scratch)


def input_digest(made_by: Transformation, inputs: Inputs, partition: str) -> str:
    """Digest of all that a feature table's rows follow from."""
    return digest_of(
        {
            "format": _FORMAT,
            "text": made_by.text,
            "spec": made_by.table.model_dump(mode="json", exclude=_NOT_ROWS),
            "inputs": inputs,
            "partition": "" if made_by.table.static else partition,
        }
    )


def read_inputs(domain: DomainSpec, made_by: Transformation, partition: str, *, lake: str) -> dict[str, dict[str, str]]:
    """The clean rows a transformation reads for a partition: source → partition → digest of those that are there.

    Raises:
        FeatureError: a source that must have rows of the partition has none.
    """
    return _digests(read_snapshots(domain, made_by, partition, lake=lake))


def read_snapshots(
    domain: DomainSpec, made_by: Transformation, partition: str, *, lake: str, told: bool = False
) -> dict[str, dict[str, DatasetRef]]:
    """The same as references: source → partition → newest clean rows of those that are there.

    Args:
        told: whether a gap in the look-back is logged.

    Raises:
        FeatureError: a source that must have rows of the partition has none.
    """
    snapshots = clean_snapshots(domain, lake=lake)
    reached = clean_partitions(domain, partition, made_by.table.look_back_days)
    found: dict[str, dict[str, DatasetRef]] = {}
    for source in made_by.sources(domain):
        there = snapshots[source]
        if domain.sources[source].static:
            found[source] = dict(sorted(there.items()))
            continue
        found[source] = {item.key: there[item.key] for item in reached if item.key in there}
        if partition not in there and not domain.sources[source].may_be_empty:
            raise FeatureError(
                f"source {source!r} has no clean rows of {partition}",
                where=f"{lake}/{domain.clean_table(source)}",
                remedy=f"ingest and validate {source!r} for {partition} first",
            )
        if told and (absent := [item.key for item in reached[:-1] if item.key not in there]):
            log.warning(
                "%s: clean rows of %s are missing, so windows of %s see less; build it again once they are there",
                source,
                ", ".join(absent),
                partition,
            )
    return found


def entity_kinds(domain: DomainSpec, folder: Path, names: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Feature table → join key → kind, found by running the transformations over empty typed views.

    Raises:
        FeatureError: a transformation that does not run or lacks a declared column.
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
    """Run a feature table's transformation over empty views: join key → kind.

    Raises:
        FeatureError: it does not run or lacks a declared column.
    """
    made_by = read_transformation(domain, name, folder)
    rows = made_by.run(connection, made_by.sources(domain), domain.partition(domain.first))
    return {column: key_kind(column, rows.schema.field(column).type) for column in made_by.table.entities}


def _digests(read: Mapping[str, Mapping[str, DatasetRef]]) -> dict[str, dict[str, str]]:
    return {source: {key: ref.digest for key, ref in refs.items()} for source, refs in read.items()}


def _versions(read: Mapping[str, Mapping[str, DatasetRef]]) -> dict[str, str]:
    """Version of each clean table at which all the rows read stood, noted on the write for lineage."""
    newest = {source: max((ref.version for ref in refs.values()), default=-1) for source, refs in read.items()}
    return {f"{CLEAN_NOTE}{source}": str(version) for source, version in newest.items() if version >= 0}


def _rows(
    domain: DomainSpec, made_by: Transformation, inputs: Inputs, partition: str, *, lake: str, scratch: Path | None
) -> pa.Table:
    """Computed within the domain's limits; what spills, and copies of an object store's files, are gone afterwards."""
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="millrace-features-", dir=scratch) as name:
        folder = Path(name)
        clean = {
            source: find_clean(domain, source, [key for key in keys if key], lake=lake, into=folder / source)
            for source, keys in inputs.items()
        }
        parents = dict.fromkeys(file.parent for rows in clean.values() for file in rows.files)
        connection = connect(
            threads=domain.compute.threads,
            memory_limit=domain.compute.memory_limit,
            external=False,
            folders=list(parents),
            spill=folder / "spill",
        )
        try:
            for source, rows in clean.items():
                register_clean(connection, source, rows)
            return made_by.run(connection, list(inputs), domain.partition(partition))
        finally:
            connection.close()
