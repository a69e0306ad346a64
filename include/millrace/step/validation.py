"""Validate one partition of one source: clean-up, contract, quarantine, Data Docs; then publish the clean rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, Verdict, digest_of
from millrace.errors import ConservationError, ContractError, LakeError, SpecError
from millrace.lake import Table
from millrace.lake.table import PARTITION
from millrace.settings import Settings
from millrace.spec.domain import DomainSpec, SourceSpec
from millrace.step.ingestion import source_of
from millrace.validation.base import ROW, Validation, ValidationReport
from millrace.validation.cleanup import clean_columns, clean_rows, compile_fault, empty_raw, isolated
from millrace.validation.contract import Judgement, judge
from millrace.validation.data_docs import DocsSite, Mark
from millrace.validation.function import unrepeatable_functions
from millrace.validation.quarantine import count_open, quarantine_rows, store_quarantine

log = logging.getLogger(__name__)
_REASONS_TOLD = 8
_REASON_LENGTH = 200


def validate_partition(
    domain: DomainSpec, source: str, partition: str, *, settings: Settings, now: datetime | None = None
) -> ValidationReport:
    """Make the clean rows of an ingested partition and set those aside that break the contract.

    Result and Data Docs page are stored whatever the outcome. Quarantine and clean table are only touched where the
    partition is not blocked; running again over the same raw rows and contract commits nothing.

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
        ConservationError: rows in are not clean plus quarantined. Nothing is published.
    """
    from millrace.validation.gx_validator import GXValidator

    spec = source_of(domain, source)
    key = "" if spec.static else domain.partition(partition).key
    where = f"{domain.raw_table(source)}, partition {key or '(whole)'}"
    snapshot, raw = _read_raw(domain, source, key, settings)
    cleaned = clean_rows(raw, spec, where=where)
    candidates = cleaned.rows.filter(pc.invert(pc.is_in(cleaned.rows[ROW], pa.array(cleaned.duplicates, pa.int64()))))
    validation = GXValidator().validate(candidates, spec.contract, suite=f"{domain.name}_{source}")
    judgement = judge(validation.findings, cleaned.duplicates, raw.num_rows, spec)
    site = DocsSite(reports=settings.reports, domain=domain.name)
    contract = digest_of([item.model_dump() for item in spec.contract])
    docs = _publish_docs(site, source, snapshot, contract, validation=validation, judgement=judgement)
    if judgement.blocked:
        raise ContractError(
            "; ".join(_bounded(judgement.blocked)),
            where=f"{where}, page {docs}",
            remedy="mend the data or the contract, then run the task again; nothing was published",
        )
    aside = quarantine_rows(
        raw,
        cleaned.rows,
        judgement.reasons,
        source=domain.raw_table(source),
        snapshot=snapshot,
        now=now or datetime.now(UTC),
    )
    clean = cleaned.rows.filter(pc.invert(pc.is_in(cleaned.rows[ROW], pa.array(judgement.rows, pa.int64()))))
    _check_conservation(raw.num_rows, clean[ROW].to_numpy(), judgement.rows, aside.num_rows, where)
    quarantine_ref = store_quarantine(Table(settings.lake, domain.quarantine_table(source)), aside, key)
    clean_ref = Table(settings.lake, domain.clean_table(source)).replace(clean.drop_columns([ROW]), partition=key)
    return ValidationReport(
        source=source,
        partition=key,
        clean=clean_ref,
        quarantine=quarantine_ref,
        rows_in=raw.num_rows,
        rows_clean=clean.num_rows,
        rows_quarantined=aside.num_rows,
        verdict=_verdict(where, validation, judgement, raw.num_rows),
        docs=docs,
    )


def count_rows(domain: DomainSpec, source: str, *, settings: Settings) -> dict[str, int]:
    """Rows of a source over all partitions: ingested (`source`), `clean`, and `quarantined` (status open)."""

    def rows(name: str) -> int:
        table = Table(settings.lake, name)
        return int(table.open().count()) if table.exists() else 0

    return {
        "source": rows(domain.raw_table(source)),
        "clean": rows(domain.clean_table(source)),
        "quarantined": count_open(Table(settings.lake, domain.quarantine_table(source))),
    }


def check_contract(domain: DomainSpec) -> list[str]:
    """What is wrong with clean-up and contracts of a domain, without any data: what, where and remedy of each fault.

    Every derived column is compiled against the declared columns in DuckDB, and every expectation is built by Great
    Expectations, whose import takes some seconds.
    """
    faults: list[SpecError] = []
    for name, spec in domain.sources.items():
        faults += _cleanup_faults(spec, f"{domain.name}.sources.{name}")
        faults += _contract_faults(spec, f"{domain.name}.sources.{name}")
    return [str(fault) for fault in faults]


def _cleanup_faults(spec: SourceSpec, where: str) -> list[SpecError]:
    faults = []
    with isolated() as connection:
        connection.register("raw", empty_raw(spec))
        for name, expression in spec.cleanup.derive.items():
            place = f"{where}.cleanup.derive.{name}"
            if fault := compile_fault(connection, spec, name):
                faults.append(SpecError(f"clean-up of {name!r}: {fault}", where=place, remedy="correct the expression"))
                break  # those after it may rest on it
            if moving := unrepeatable_functions(connection, expression):
                faults.append(
                    SpecError(
                        f"clean-up of {name!r} calls {', '.join(moving)}, which gives another value at every run",
                        where=place,
                        remedy="compute it from the data's own columns",
                    )
                )
    return faults


def _contract_faults(spec: SourceSpec, where: str) -> list[SpecError]:
    from millrace.validation.gx_validator import build_expectation

    faults = []
    for item in spec.contract:
        try:
            build_expectation(item, clean_columns(spec))
        except SpecError as error:
            faults.append(SpecError(error.what, where=f"{where}.{error.where}", remedy=error.remedy))
    return faults


def _read_raw(domain: DomainSpec, source: str, key: str, settings: Settings) -> tuple[DatasetRef, pa.Table]:
    table = Table(settings.lake, domain.raw_table(source))
    snapshot = table.newest().get(key)
    if snapshot is None:
        raise LakeError(
            f"no raw rows of source {source!r}, partition {key or '(whole)'}",
            where=table.uri,
            remedy="ingest the partition first",
        )
    rows = table.read(version=snapshot.version, partitions=[key] if key else None)
    return snapshot, rows.drop_columns([PARTITION]) if key else rows


def _publish_docs(
    site: DocsSite, source: str, snapshot: DatasetRef, contract: str, *, validation: Validation, judgement: Judgement
) -> str:
    from millrace.validation.gx_page import render_page

    told = "blocked: " + judgement.blocked[0] if judgement.blocked else f"{len(judgement.rows)} rows quarantined"
    mark: Mark = "blocked" if judgement.blocked else "noted" if judgement.notes else "held"
    ours = {
        "raw": {"table": snapshot.table, "partition": snapshot.partition, "digest": snapshot.digest},
        "contract": contract,
        "outcome": "fail" if judgement.blocked else "pass",
        "rows_in": snapshot.rows,
        "rows_quarantined": 0 if judgement.blocked else len(judgement.rows),
        "blocked": list(judgement.blocked),
        "notes": list(judgement.notes),
    }
    document = {**validation.document, "meta": {**validation.document["meta"], "millrace": ours}}
    title = f"{site.domain} / {source} / {snapshot.partition or 'whole table'}"
    line = f"{snapshot.rows} rows, {told}"
    page = render_page(document, title=title, line=line, home="../index.html")
    path = site.publish(source, snapshot.partition, document=document, page=page, mark=mark, line=line)
    log.info("%s: result and page stored", title)
    return str(path)


def _check_conservation(
    rows_in: int, clean: npt.NDArray[np.int64], aside: npt.NDArray[np.int64], stored: int, where: str
) -> None:
    together = np.sort(np.concatenate([clean, aside]))
    if stored != len(aside) or not np.array_equal(together, np.arange(rows_in)):
        raise ConservationError(
            f"{rows_in} rows in, but {len(clean)} clean and {stored} quarantined",
            where=where,
            remedy="report this with the page of the validation; nothing was published",
        )


def _verdict(where: str, validation: Validation, judgement: Judgement, rows_in: int) -> Verdict:
    held = sum(finding.holds for finding in validation.findings)
    first = f"{held} of {len(validation.findings)} expectations hold; {len(judgement.rows)} of {rows_in} rows set aside"
    return Verdict(
        outcome="pass",
        subject=where,
        reasons=[first, *_bounded(judgement.notes)],
        numbers={
            "expectations": float(len(validation.findings)),
            "held": float(held),
            "rows_in": float(rows_in),
            "rows_quarantined": float(len(judgement.rows)),
        },
    )


def _bounded(reasons: Sequence[str]) -> list[str]:
    """At most eight sentences of at most 200 signs: references stay under 4 KB."""
    told = [text if len(text) <= _REASON_LENGTH else text[: _REASON_LENGTH - 1] + "…" for text in reasons]
    rest = len(told) - _REASONS_TOLD
    return told if rest <= 0 else [*told[:_REASONS_TOLD], f"and {rest} more"]
