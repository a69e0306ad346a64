"""The source of a domain by its name, and the reader of its kind."""

from __future__ import annotations

import difflib
from pathlib import Path

from millrace.errors import SpecError
from millrace.ingestion import Connections, Source
from millrace.ingestion.delta_source import DeltaSource
from millrace.ingestion.file_source import FileSource
from millrace.ingestion.http_source import HttpSource
from millrace.ingestion.python_source import PythonSource
from millrace.ingestion.sql_source import SqlSource
from millrace.settings import Settings
from millrace.spec import (
    DeltaSourceSpec,
    DomainSpec,
    FileSourceSpec,
    HttpSourceSpec,
    PythonSourceSpec,
    SourceSpec,
    SqlSourceSpec,
)


def open_source(
    spec: SourceSpec, domain: DomainSpec, *, settings: Settings, connections: Connections, folder: Path
) -> Source:
    """The reader of a source's kind.

    Args:
        spec: the source.
        domain: its domain.
        settings: the installation.
        connections: gives the connection of a name.
        folder: for what has to be unpacked or fetched before it can be read.
    """
    first, last = domain.first, domain.last
    match spec:
        case FileSourceSpec():
            return FileSource(
                spec=spec, root=settings.root, staging=folder, connections=connections, first=first, last=last
            )
        case SqlSourceSpec():
            return SqlSource(spec=spec, connections=connections, first=first, last=last)
        case HttpSourceSpec():
            return HttpSource(spec=spec, connections=connections, first=first, last=last)
        case PythonSourceSpec():
            return PythonSource(spec=spec, connections=connections, first=first, last=last)
        case DeltaSourceSpec():
            return DeltaSource(spec=spec, root=settings.root, connections=connections, first=first, last=last)
    raise SpecError(f"no reader for sources of kind {spec.kind!r}", where="kind")


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
