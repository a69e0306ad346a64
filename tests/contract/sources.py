"""The kinds of sources that the contract suite runs over: one entry a kind.

An entry says how a table gets to where that kind reads it (`write` returns the keys of the spec that are its own), and
how a reader of a spec is opened. Nothing else of the suite knows of kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from millrace.errors import SourceError
from millrace.ingestion.base import Connection, Source

FIRST, LAST = "2020-01", "2020-12"
"""The domain's first and last partition in every test of the suite."""


@dataclass(frozen=True)
class Place:
    """Where a test may put things.

    Attributes:
        folder: the test's own; what the source reads lies here.
        staging: the test's own; what a reader unpacks lies here.
    """

    folder: Path
    staging: Path


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        name: of the kind, as test ids show it.
        write: puts a table (columns of `SAMPLE`, also without some, or of other types) where the source reads it,
            replacing what was there; returns the keys of the spec that are this kind's own (`kind`, `uri` …).
        open: the reader of a spec, for a domain from FIRST to LAST.
        spoil: makes what `write` wrote unreadable; None where there is nothing to spoil.
        remove: takes it away; None where that means nothing.
        text: whether records are text of which `raw` is a part, with offset and length.
        fingerprints: whether an unchanged source has an equal fingerprint (some can never know).
        marks: pytest marks, such as `integration` for a kind that needs a server.
    """

    name: str
    write: Callable[[Place, pa.Table], dict[str, Any]]
    open: Callable[[Any, Place], Source]
    spoil: Callable[[Place], None] | None = None
    remove: Callable[[Place], None] | None = None
    text: bool = False
    fingerprints: bool = True
    marks: list[Any] = field(default_factory=list)


def no_connections(name: str) -> Connection:
    raise SourceError(f"no connection {name!r}", where="test", remedy="name none")


KINDS: list[Kind] = []
"""Kinds other than files (those stand in `file_sources.py`); the suite runs over both lists."""
