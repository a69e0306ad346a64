"""A file of corrections brought to the rows it is about, its values read by the rules of text sources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError
from millrace.ingestion import UNASSIGNED
from millrace.ingestion.base import partition_values
from millrace.ingestion.value import UnfitError, plain_text
from millrace.lake.commits import PARTITION
from millrace.privacy import installation_key
from millrace.spec import DomainSpec, SourceSpec
from millrace.spec.base import ColumnType
from millrace.step.place import Place
from millrace.step.source import source_of
from millrace.validation.content import plain_values
from millrace.validation.correction import bind_corrections
from millrace.validation.correction_file import Number, read_corrections
from millrace.validation.quarantine import read_quarantine

_SHOWN = 60


def read_decision(domain: DomainSpec, source: str, places: Sequence[Place], path: Path) -> dict[str, str]:
    """Id → the whole corrected row as JSON; any fault in the file is told before anything is merged.

    Args:
        domain: the domain.
        source: one of its sources.
        places: partitions that the rows may be in.
        path: of the file.

    Raises:
        SpecError: a row or column is unknown, or a row is closed by another decision.
        SourceError: a value does not fit, or the file cannot be read.
    """
    spec = source_of(domain, source)
    given = read_corrections(path, spec)
    wanted = pa.array([item.row_id for item in given], pa.string())
    entries: dict[str, Mapping[str, Any]] = {}
    for place in places:
        known = read_quarantine(place.quarantine, place.key)[2]
        chosen = known.filter(pc.is_in(known["row_id"], wanted)).to_pylist()
        entries |= {row["row_id"]: {**row, PARTITION: place.key} for row in chosen}
    keys = [place.key for place in places if place.key not in ("", UNASSIGNED)]
    fixed = {key: _partition_columns(domain, spec, key) for key in keys}
    secret = installation_key(places[0].settings) if spec.pii and places else None
    return bind_corrections(given, entries, spec, path=path, key=secret, fixed=fixed, fit=fit_value)


def fit_value(value: Any, column: str, spec: SourceSpec, where: str) -> str | None:
    """A value of a file of corrections as the text that Arrow casts to the type of its column; None for null.

    What a text source refuses is refused here, and besides numbers that are not finite or too small to be told from
    zero. Where the source has personal columns no value is repeated: it may stand in the wrong one.

    Args:
        value: as `read_corrections` gave it.
        column: a declared column.
        spec: the source.
        where: file, line and column, for messages.

    Raises:
        SourceError: it does not fit.
    """
    kind = spec.columns[column]
    if value is None or (type(value) is str and value in spec.null_values):
        return None
    why = _misfit(value, kind)
    if why is None:
        text = value if isinstance(value, str) else str(value).lower()
        try:
            plain = plain_text(kind, text, spec.clock)
            why = _inexact(plain) if kind in ("float32", "float64") else None
        except UnfitError as error:
            why = str(error)
    if why is not None:
        told = "a value" if spec.pii else _shown(value)
        raise SourceError(f"{told} is no {kind}: {why}", where=where, remedy="correct the value") from None
    return plain


def _misfit(value: Any, kind: ColumnType) -> str | None:
    """Why a value of JSON is none of that type whatever it is; None where its text decides."""
    if isinstance(value, dict | list):
        return "nested values"
    if isinstance(value, bool):
        return None if kind == "bool" else "true or false"
    if isinstance(value, Number):
        return "a number" if kind in ("string", "timestamp") else None
    return "half of a character" if any("\ud800" <= letter <= "\udfff" for letter in value) else None


def _inexact(text: str) -> str | None:
    number = float(text)
    if not math.isfinite(number):
        return "not a finite number"
    mantissa = text.lower().partition("e")[0]
    return "too small to be told from zero" if number == 0 and mantissa.strip("+-0.") else None


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, Number) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _partition_columns(domain: DomainSpec, spec: SourceSpec, key: str) -> dict[str, Any]:
    found = partition_values(spec, domain.partition(key))
    return {name: plain_values(pa.array([value.as_py()], value.type))[0] for name, value in found.items()}
