"""Ingest one partition of one source into its raw table."""

from __future__ import annotations

import difflib
import logging
import time

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import EmptyPartitionError, SpecError
from millrace.ingestion import FileSource, Source
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec.domain import DomainSpec, SourceSpec

log = logging.getLogger(__name__)


def ingest_partition(domain: DomainSpec, source: str, partition: str, *, settings: Settings) -> DatasetRef:
    """Read one partition of a source and replace it in the raw table; unchanged rows commit nothing.

    A static source is read whole and replaces its whole table, whatever the partition.

    Raises:
        SourceError: the source cannot be read or has not what its spec declares.
        EmptyPartitionError: it has no rows for this partition, and the spec does not allow that.
        LakeConflictError: other writers won every attempt to commit.
    """
    spec = source_of(domain, source)
    wanted = domain.partition(partition)
    reader = open_source(spec, settings=settings)
    started = time.perf_counter()
    rows = pa.Table.from_batches(reader.batches(wanted), schema=reader.schema)
    if not rows.num_rows and not spec.may_be_empty:
        raise EmptyPartitionError(
            f"source {source!r} has no rows{'' if spec.static else f' for partition {partition}'}",
            where=f"{reader.origin}, partition {partition}",
            remedy="run the task again once the data has landed, or set may_be_empty: true",
        )
    log.info("%s %s: %d rows read in %.2f s", reader.origin, partition, rows.num_rows, time.perf_counter() - started)
    return Table(settings.lake, domain.raw_table(source)).replace(rows, partition="" if spec.static else partition)


def open_source(spec: SourceSpec, *, settings: Settings) -> Source:
    """The reader of a source's kind."""
    return FileSource(spec=spec, root=settings.root)


def source_of(domain: DomainSpec, source: str) -> SourceSpec:
    """The spec of a domain's source.

    Raises:
        SpecError: the domain has no such source.
    """
    if source in domain.sources:
        return domain.sources[source]
    near = difflib.get_close_matches(source, domain.sources, n=1)
    raise SpecError(
        f"domain {domain.name!r} has no source {source!r}",
        where=f"{domain.name}.sources",
        remedy=f"did you mean {near[0]!r}?" if near else f"its sources are: {', '.join(domain.sources)}",
    )
