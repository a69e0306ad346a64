"""Validate one partition of one source: clean-up, contract, quarantine, Data Docs; then publish the clean rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import DatasetRef, Verdict
from millrace.cleanup import check_cleanup, clean_schema, without_rows
from millrace.errors import ContractError, LakeConflictError, SpecError
from millrace.lake import Table
from millrace.lake.staging import staging
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec
from millrace.step.assessment import Assessment, assess, declared
from millrace.step.case import Case, open_case
from millrace.step.clean import clean_note, publish_clean
from millrace.step.place import Place, list_places, open_raw, read_records
from millrace.step.settlement import settle_partition
from millrace.step.source import source_of
from millrace.step.unquoted import find_unquoted
from millrace.step.unread import count_dismissed, count_reasons, name_records, settle_unassigned, tell_unassigned
from millrace.step.validation_docs import Docs, publish_docs
from millrace.validation import ValidationReport
from millrace.validation.contract import over_limit, tell_aside
from millrace.validation.contract import positions as rows_aside
from millrace.validation.history import explain_change
from millrace.validation.parameter import check_parameters
from millrace.validation.profile import PartitionProfile, profile_rows, store_profile
from millrace.validation.quarantine import (
    count_open,
    store_quarantine,
)
from millrace.validation.settlement import dismissed, opened

log = logging.getLogger(__name__)
_ATTEMPTS = 4
_REASONS_TOLD = 8
_REASON_LENGTH = 200


def validate_partition(
    domain: DomainSpec, source: str, partition: str, *, settings: Settings, now: datetime | None = None
) -> ValidationReport:
    """Make the clean rows of an ingested partition and set those aside that break the contract.

    Result and Data Docs page are stored whatever the outcome. Quarantine and clean table are only touched where the
    partition is not blocked, the quarantine first: a run that was killed between the two is made good by the next.
    Where rows, contract and quarantine are those of the last time, the verdict of then is given back. What somebody
    waived or corrected stays so.

    Args:
        domain: the domain.
        source: one of its sources.
        partition: key; a static source is validated whole.
        settings: the installation.
        now: when rows are set aside for the first time (the wall clock by default).

    Raises:
        LakeError: the partition was not ingested.
        SpecError: clean-up or contract cannot work on this source.
        ContractError: a blocking expectation fails, or too many rows would be quarantined. Nothing is published.
        ConservationError: records in are not clean plus quarantined. Nothing is published.
        LakeConflictError: others changed the quarantine of the partition again and again meanwhile.
    """
    spec = source_of(domain, source)
    key = "" if spec.static else domain.partition(partition).key
    place = Place(domain=domain, source=source, key=key, settings=settings)
    for attempt in range(1, _ATTEMPTS + 1):
        case = open_case(place, now or datetime.now(UTC))
        try:
            settle_unassigned(place, case.now)
            return _stored_report(case) or _validate(case)
        except LakeConflictError:
            if attempt == _ATTEMPTS:
                raise
            log.info("%s: somebody else wrote in between, judged again", place.where)
    raise AssertionError  # pragma: no cover - the loop returns or raises


def count_rows(domain: DomainSpec, source: str, *, settings: Settings) -> dict[str, int]:
    """Records of a source over all partitions: ingested (`source`), `clean`, and `quarantined` (status open).

    Records that somebody dismissed are not counted.
    """

    def rows(name: str) -> int:
        table = Table(settings.lake, name)
        return int(table.open().count()) if table.exists() else 0

    left_out = sum(count_dismissed(place) for place in list_places(domain, source, settings=settings))
    return {
        "source": rows(domain.raw_table(source)) + rows(domain.rejected_table(source)) - left_out,
        "clean": rows(domain.clean_table(source)),
        "quarantined": count_open(Table(settings.lake, domain.quarantine_table(source))),
    }


def check_contract(domain: DomainSpec) -> list[str]:
    """What is wrong with clean-up and contracts of a domain, without any data: what, where and remedy of each fault.

    Every step is compiled against the declared columns in DuckDB, and every expectation is built by Great
    Expectations, whose import takes some seconds.
    """
    faults: list[SpecError] = []
    for name, spec in domain.sources.items():
        where = f"{domain.name}.sources.{name}"
        faults += [*check_cleanup(spec, where), *_contract_faults(spec, where)]
    return [str(fault) for fault in faults]


def _contract_faults(spec: SourceSpec, where: str) -> list[SpecError]:
    from millrace.validation.gx_validator import build_expectation

    faults: list[SpecError] = []
    try:
        items = declared(spec)
        check_parameters(items, static=spec.static)
    except SpecError as error:
        return [SpecError(error.what, where=f"{where}.{error.where}", remedy=error.remedy)]
    faults += find_unquoted(spec, items, where)
    for item in items:
        try:
            build_expectation(item, spec.clean_columns if item.stage == "clean" else list(spec.raw_columns))
        except SpecError as error:
            faults.append(SpecError(error.what, where=f"{where}.{error.where}", remedy=error.remedy))
    faults += [
        SpecError(
            f"{item.name} names column {item.column!r}, which clean rows do not have",
            where=f"{where}.history",
            remedy=f"there are: {', '.join(spec.clean_columns)}",
        )
        for item in spec.history
        if item.column is not None and item.column not in spec.clean_columns
    ]
    return faults


def _stored_report(case: Case) -> ValidationReport | None:
    """The verdict of the last time, where it was on the same and what it published is still there."""
    path = case.site.result(case.place.source, case.place.key)
    if not path.is_file() or case.published is None:
        return None
    told = orjson.loads(path.read_bytes())["meta"].get("millrace", {})
    if told.get("judged") != case.digest or not told.get("report"):
        return None
    report = ValidationReport.from_dict(told["report"])
    same = report.clean.version == case.published.version and Path(report.docs).is_file()
    if not same:
        return None
    log.info("%s: rows and contract are as they were, the verdict stands", case.place.where)
    return report.unchanged()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A partition that may be published.

    Attributes:
        records: those that could not become rows; None where there are none.
        found: how rows and contract fare.
        out: positions of the rows that are not clean.
        rows_in: rows and records that came.
        notes: sentences for people.
        docs: the page, and where the verdict is sealed.
    """

    records: pa.Table | None
    found: Assessment
    out: NDArray[np.int64]
    rows_in: int
    notes: list[str]
    docs: Docs


def _validate(case: Case) -> ValidationReport:
    place = case.place
    with staging(place.settings) as folder, open_raw(place, case.raw, folder) as connection:
        judged = _judge(case, connection, folder)
        place.clean.prepare(clean_schema(place.spec), partitioned=bool(place.key), dropped=place.spec.dropped)
        settled = settle_partition(
            place,
            connection,
            judged.found,
            case.entries,
            records=judged.records,
            raw=case.raw,
            folder=folder,
            now=case.now,
        )
        quarantine, clean = _publish(case, connection, judged, settled, folder)
    still_open = opened(settled).num_rows
    report = ValidationReport(
        source=place.source,
        partition=place.key,
        clean=clean,
        quarantine=quarantine,
        rows_in=judged.rows_in,
        rows_clean=clean.rows,
        rows_quarantined=still_open,
        verdict=_verdict(place, judged.found, judged.rows_in, still_open, judged.notes),
        docs=str(judged.docs.page),
        steps=tuple(judged.found.cleaned.steps),
    )
    after = open_case(place, case.now)  # what was written is part of what the verdict rests on
    judged.docs.seal(after.digest, report)
    return report


def _judge(case: Case, connection: Any, folder: Path) -> _Judged:
    """Hold rows and records against the contract, and write the page whatever comes of it.

    Raises:
        ContractError: nothing of it may be published.
    """
    place = case.place
    records = read_records(place, case.rejected)
    ids, late = name_records(place, records)
    found = assess(place, connection, case.entries, ids, folder=folder, contract=case.contract)
    left_out = ids & dismissed(case.entries)
    rows_in = case.raw.rows + len(ids) - len(left_out)
    out = rows_aside(found.aside)
    unread = ids - set(found.standing.added) - left_out
    blocked = [*found.judgement.blocked, *over_limit(len(out) + len(unread - late), rows_in, place.spec)]
    told = [
        *tell_aside(count_reasons(place, found, records, left_out)),
        *found.judgement.notes,
        *tell_unassigned(place),
    ]
    notes = _bounded([*_changes(case, connection, found, out), *case.notes, *told])
    docs = publish_docs(
        case.site,
        place,
        case.raw,
        validations=found.validations,
        rows_in=rows_in,
        waiting=len(out) + len(unread),
        blocked=blocked,
        notes=notes,
    )
    if blocked:
        raise ContractError(
            "; ".join(_bounded(blocked)),
            where=f"{place.where}, page {docs.page}",
            remedy="mend the data or the contract, then run the task again; nothing was published",
        )
    return _Judged(records=records, found=found, out=out, rows_in=rows_in, notes=notes, docs=docs)


def _publish(
    case: Case, connection: Any, judged: _Judged, settled: pa.Table, folder: Path
) -> tuple[DatasetRef | None, DatasetRef]:
    """Write the quarantine, then the clean rows, then their profile."""
    place, table = case.place, judged.found.cleaned.table
    snapshots = {
        "raw": str(case.raw.version),
        "rejected": "" if case.rejected is None else str(case.rejected.version),
    }
    quarantine = store_quarantine(place.quarantine, settled, place.key, note=snapshots, after=case.base)
    clean = publish_clean(
        place,
        connection,
        table,
        folder=folder,
        note=clean_note(place, case.raw, case.rejected, settled),
        out=judged.out,
        after=-1 if case.published is None else case.published.version,
    )
    if place.spec.history:
        store_profile(
            profile_rows(connection, _published(connection, table, judged.out), place.spec),
            settings=place.settings,
            domain=place.domain,
            source=place.source,
            partition=place.key,
            clean=clean,
        )
    return quarantine, clean


def _published(connection: Any, table: str, out: Any) -> str:
    """A view of the rows that are to be clean."""
    if not len(out):
        return table
    query = without_rows(connection, f'SELECT * FROM "{table}"', out, name="to_publish_left_out")
    connection.execute(f"CREATE OR REPLACE TEMP VIEW to_publish AS {query}")
    return "to_publish"


def _changes(case: Case, connection: Any, found: Assessment, out: Any) -> list[str]:
    """What changed against earlier partitions, in words, for the measures that fail."""
    failed = {
        finding.expectation.id
        for validation in found.validations
        for finding in validation.findings
        if not finding.holds
    }
    specs = [item for item in case.place.spec.history if item.name in failed]
    if not specs:
        return []
    table = _published(connection, found.cleaned.table, out)
    current = PartitionProfile.of(case.place.key, profile_rows(connection, table, case.place.spec))
    partition = case.place.domain.partition(case.place.key) if case.place.key else None
    return [explain_change(item, case.profiles, current, partition) for item in specs]


def _verdict(place: Place, found: Assessment, rows_in: int, waiting: int, notes: Sequence[str]) -> Verdict:
    findings = [finding for validation in found.validations for finding in validation.findings]
    held = sum(finding.holds for finding in findings)
    first = f"{held} of {len(findings)} expectations hold; {waiting} of {rows_in} rows set aside"
    return Verdict(
        outcome="pass",
        subject=place.where,
        reasons=[first, *notes],
        numbers={
            "expectations": float(len(findings)),
            "held": float(held),
            "rows_in": float(rows_in),
            "rows_quarantined": float(waiting),
        },
    )


def _bounded(reasons: Sequence[str]) -> list[str]:
    """At most eight sentences of at most 200 signs: references stay under 4 KB."""
    told = [text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…" for text in reasons]
    rest = len(told) - _REASONS_TOLD
    return told if rest <= 0 else [*told[:_REASONS_TOLD], f"and {rest} more"]
