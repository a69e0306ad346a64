"""Hold the rows of a partition, as people decided they stand, against contract and clean-up; nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.cleanup import without_rows
from millrace.lake.duck import quoted
from millrace.spec import SourceSpec
from millrace.spec.contract import ExpectationSpec
from millrace.step.place import Place, stand
from millrace.validation.base import SetAside, Validation
from millrace.validation.cleanup import CleanedUp, run_cleanup
from millrace.validation.contract import SUPERSEDED, Judgement, judge
from millrace.validation.duplicates import find_duplicates
from millrace.validation.standing import Standing, rows_of_same_key

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How the rows of a partition fare.

    Attributes:
        standing: the rows as people decided they stand.
        cleaned: their clean-up.
        validations: of raw and of clean rows.
        judgement: what is to be set aside whatever anybody decided, what blocks, and what is to be told.
        aside: what is to be set aside and nobody decided on.
        lost: ids of decided rows that clean-up sets aside all the same.
    """

    standing: Standing
    cleaned: CleanedUp
    validations: Sequence[Validation]
    judgement: Judgement
    aside: Sequence[SetAside]
    lost: set[str]


def assess(
    place: Place,
    connection: Any,
    entries: pa.Table,
    records: Collection[str],
    *,
    folder: Path,
    contract: Sequence[ExpectationSpec] | None = None,
    fresh: Collection[str] = (),
    waiting: Rows | None = None,
) -> Assessment:
    """Judge all rows of a partition: contract on raw rows, clean-up, duplicates, contract on clean rows.

    A row that somebody decided on takes the place of any other of its key, which is set aside as superseded.

    Args:
        place: the partition.
        connection: what `open_raw` gave.
        entries: the quarantine as it stands.
        records: ids of the records there are that never became rows.
        folder: for what has to be written down.
        contract: the expectations; the declared ones by default.
        fresh: ids of rows being corrected: judged like rows nobody decided on; of other rows of their key they take
            the place of waiting ones alone.
        waiting: positions of rows that are in quarantine now; only asked for where there are fresh ones.
    """
    from millrace.validation.gx_validator import GXValidator

    spec = place.spec
    items = declared(spec) if contract is None else list(contract)
    validator = GXValidator(private=frozenset(spec.pii))
    suite = f"{place.domain.name}_{place.source}"
    standing = stand(place, connection, entries, records)
    raw_items = [item for item in items if item.stage == "raw"]
    validations = [validator.validate(connection, standing.view, raw_items, suite=f"{suite}_raw")] if raw_items else []
    cleaned = run_cleanup(connection, spec, source=standing.view, where=place.where, folder=folder)
    superseded = _superseded(connection, spec.key, standing, cleaned.table, fresh=fresh, waiting=waiting)
    rest = _view(connection, cleaned.table, superseded.rows, name="assessed_rest")
    doubled = find_duplicates(connection, spec, rest, source=standing.view)
    lost_rows = np.unique(np.concatenate([np.empty(0, np.int64), *(item.rows for item in doubled)]))
    single = _view(connection, rest, lost_rows, name="assessed_single")
    clean_items = [item for item in items if item.stage == "clean"]
    validations.append(validator.validate(connection, single, clean_items, suite=suite))
    findings = [finding for validation in validations for finding in validation.findings]
    judgement = judge(findings, [*cleaned.aside, superseded, *doubled], spec)
    lost = standing.lost(cleaned.aside)
    return Assessment(
        standing=standing,
        cleaned=cleaned,
        validations=validations,
        judgement=judgement,
        aside=standing.undecided(judgement.aside, lost),
        lost=lost,
    )


def declared(spec: SourceSpec) -> list[ExpectationSpec]:
    """The expectations of the YAML and those of the Python suite."""
    if spec.suite is None:
        return list(spec.contract)
    from millrace.validation.suite import load_suite

    return [*spec.contract, *load_suite(spec.suite)]


def _superseded(
    connection: Any,
    key: Sequence[str],
    standing: Standing,
    cleaned: str,
    *,
    fresh: Collection[str],
    waiting: Rows | None,
) -> SetAside:
    new = np.unique(np.array([row for row_id, row in standing.added.items() if row_id in fresh], np.int64))
    settled = np.setdiff1d(standing.rows, new, assume_unique=True)
    found = rows_of_same_key(connection, key, settled, cleaned=cleaned)
    found = np.setdiff1d(found, new, assume_unique=True)
    if len(new) and waiting is not None:
        others = rows_of_same_key(connection, key, new, cleaned=cleaned)
        found = np.union1d(found, np.intersect1d(others, waiting))
    return SetAside(reason=SUPERSEDED, columns=tuple(key), rows=found)


def _view(connection: Any, table: str, out: Rows, *, name: str) -> str:
    if not len(out):
        return table
    query = without_rows(connection, f"SELECT * FROM {quoted(table)}", out, name=f"{name}_out")
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {query}")
    return name
