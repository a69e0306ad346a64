"""What somebody decided about quarantined rows, and corrections put over their originals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import canonical, digest_of
from millrace.errors import SourceError, SpecError
from millrace.lake.schema import arrow_schema
from millrace.privacy import protect
from millrace.spec.source import SourceSpec
from millrace.validation.content import plain_values, reason_names
from millrace.validation.correction_file import Correction
from millrace.validation.naming import LATE
from millrace.validation.quarantine import CLOSED, CORRECTED

Action = Literal["revalidate", "waive", "correct", "reopen"]
Fit = Callable[[Any, str, SourceSpec, str], str | None]
"""Value, column, source and place → the text that Arrow casts to the type of the column, or null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody decided about quarantined rows.

    Attributes:
        action: `revalidate` them under the contract of today, `waive` what is wrong with them, `correct` them, or
            `reopen` those that were waived or corrected.
        by: who decided.
        reason: why; a waiver and who takes a decision back must say so.
        reasons: only rows set aside for one of these.
        ids: only these rows.
        corrected: id → the whole corrected row, as JSON.
    """

    action: Action
    by: str
    reason: str = ""
    reasons: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    corrected: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not self.by.strip():
            raise SpecError("nobody is named who decides", where="by", remedy="say who you are")
        if self.action == "waive" and not self.reason.strip():
            raise SpecError("a waiver needs a reason", where="reason", remedy='say why, with --because "…"')
        if self.action == "reopen" and not self.reason.strip():
            raise SpecError("a decision is taken back for a reason", where="reason", remedy='say why: --because "…"')
        if self.action == "reopen" and self.ids is None and self.reasons is None:
            raise SpecError("it is not said which rows are to be open again", where="ids", remedy="give ids or reasons")
        if self.action not in get_args(Action):
            names = ", ".join(get_args(Action))
            raise SpecError(f"unknown action {self.action!r}", where="action", remedy=f"one of: {names}")

    @property
    def digest(self) -> str:
        """What tells it from other decisions."""
        return digest_of(
            [
                self.action,
                self.by,
                self.reason,
                None if self.reasons is None else sorted(self.reasons),
                None if self.ids is None else sorted(self.ids),
                None if self.corrected is None else dict(self.corrected),
            ]
        )

    def matches(self, row_id: str, reasons: str) -> bool:
        """Whether an entry is meant, of those the action is about."""
        if self.corrected is not None and row_id not in self.corrected:
            return False
        if self.ids is not None and row_id not in self.ids:
            return False
        return self.reasons is None or not self.reasons.isdisjoint(reason_names(reasons))


def bind_corrections(
    corrections: Sequence[Correction],
    entries: Mapping[str, Mapping[str, Any]],
    spec: SourceSpec,
    *,
    path: Path,
    key: bytes | None,
    fixed: Mapping[str, Mapping[str, Any]],
    fit: Fit,
) -> dict[str, str]:
    """The corrected rows, whole and as JSON: what a correction does not give is the original's.

    Personal values become tokens here; one that repeats the original's token is left as it is.

    Args:
        corrections: what the file has.
        entries: id → entry of the quarantine; every correction must be about one of them.
        spec: the source.
        path: of the file, for messages.
        key: the installation's key, where there are personal columns.
        fixed: partition → values of its partition columns, which no correction may change.
        fit: how values of the file become those of their columns.

    Raises:
        SpecError: a row is unknown, or closed by another decision.
        SourceError: a value does not fit its column, or a record that never was a row is not given whole.
    """
    given, originals = [], []
    for item in corrections:
        where = f"{path}, line {item.line}"
        entry = entries.get(item.row_id)
        if entry is None:
            told = "no quarantined row of that id" if spec.pii else f"no quarantined row {item.row_id[:80]!r}"
            raise SpecError(told, where=where, remedy="see `millrace quarantine list`")
        if entry["status"] == CLOSED and entry["resolution"] != CORRECTED:
            raise SpecError(
                f"row {item.row_id} is closed already: {entry['resolution']}", where=where, remedy="leave it out"
            )
        original = _original(entry, item, spec, where)
        fields = {name: value for name, value in item.fields.items() if not _same_token(name, value, original, spec)}
        given.append({name: fit(value, name, spec, f"{where}, column {name}") for name, value in fields.items()})
        originals.append(original)
    plain = _tokenised(given, spec, key)
    found = {}
    for item, original, fields in zip(corrections, originals, plain, strict=True):
        row = {**original, **fields}
        for column, value in fixed.get(entries[item.row_id]["partition"], {}).items():
            if row.get(column, value) != value:
                raise SourceError(
                    f"a corrected row stays in its partition, where {column} is {value!r}",
                    where=f"{path}, line {item.line}, column {column}",
                    remedy="deliver it in the source of the other partition",
                )
        found[item.row_id] = canonical(row).decode()
    return found


def is_late(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is of a row that came too late: a whole row, unlike other records."""
    return entry["kind"] == "record" and LATE in reason_names(entry["reasons"])


def _original(entry: Mapping[str, Any], item: Correction, spec: SourceSpec, where: str) -> dict[str, Any]:
    if entry["kind"] == "row" or is_late(entry):
        original: dict[str, Any] = orjson.loads(entry["raw"])
        return {name: original[name] for name in spec.raw_columns if name in original}
    if missing := [name for name in spec.raw_columns if name not in item.fields]:
        raise SourceError(
            f"row {item.row_id} never could be read, so a correction gives all columns; missing: {', '.join(missing)}",
            where=where,
            remedy="give every declared column",
        )
    return dict.fromkeys(spec.raw_columns)


def _same_token(column: str, value: Any, original: Mapping[str, Any], spec: SourceSpec) -> bool:
    return spec.pii.get(column) == "tokenise" and value is not None and original.get(column) == value


def _tokenised(given: Sequence[Mapping[str, str | None]], spec: SourceSpec, key: bytes | None) -> list[dict[str, Any]]:
    """The given values as the raw table holds them and JSON keeps them."""
    schema = arrow_schema(spec.columns)
    columns = [pa.array([row.get(item.name) for row in given], pa.string()) for item in schema]
    typed = [pc.cast(column, item.type) for column, item in zip(columns, schema, strict=True)]
    batch = pa.RecordBatch.from_arrays(typed, schema=schema)
    if key is not None:
        batch = protect(batch, spec, key)
    plain = {name: plain_values(batch[name]) for name in batch.schema.names}
    return [{name: plain[name][index] for name in row} for index, row in enumerate(given)]
