"""What is kept of a validation for people: Great Expectations' result, its Data Docs page, and a line in the index."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from millrace.artifact import DatasetRef
from millrace.document import write_atomically
from millrace.step.place import Place
from millrace.validation import Validation, ValidationReport
from millrace.validation.data_docs import DocsSite, Mark

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Docs:
    """A stored validation.

    Attributes:
        page: path of the Data Docs page.
        result: path of the result document.
        document: what stands in it.
    """

    page: Path
    result: Path
    document: Mapping[str, Any]

    def seal(self, judged: str, report: ValidationReport) -> None:
        """Note that the partition was published, and the digest of all that the verdict rests on."""
        meta = self.document["meta"]
        ours = {**meta["millrace"], "judged": judged, "report": report.to_dict()}
        sealed = {**self.document, "meta": {**meta, "millrace": ours}}
        write_atomically(self.result, orjson.dumps(sealed, option=orjson.OPT_INDENT_2))


def publish_docs(
    site: DocsSite,
    place: Place,
    raw: DatasetRef,
    *,
    validations: Sequence[Validation],
    rows_in: int,
    waiting: int,
    blocked: Sequence[str],
    notes: Sequence[str],
) -> Docs:
    """Store result and page of a partition, whatever the outcome; other pages are not touched.

    Args:
        site: the pages of the domain.
        place: the partition.
        raw: the raw snapshot judged.
        validations: of raw and of clean rows.
        rows_in: records ingested.
        waiting: records that are, or would be, in quarantine.
        blocked: why the partition is not published; empty where it is.
        notes: what people should know.
    """
    from millrace.validation.gx_page import render_page

    told = "blocked: " + blocked[0] if blocked else f"{waiting} rows quarantined"
    mark: Mark = "blocked" if blocked else "noted" if notes else "held"
    ours = {
        "raw": {"table": raw.table, "partition": raw.partition, "version": raw.version, "digest": raw.digest},
        "outcome": "fail" if blocked else "pass",
        "rows_in": rows_in,
        "rows_quarantined": 0 if blocked else waiting,
        "counted_by": _engines(validations),
        "blocked": list(blocked),
        "notes": list(notes),
    }
    whole = _together(validations)
    document = {**whole, "meta": {**whole["meta"], "millrace": ours}}
    title = f"{site.domain} / {place.source} / {place.key or 'whole table'}"
    line = f"{rows_in} rows, {told}"
    page = render_page(document, title=title, line=line, home="../index.html")
    path = site.publish(place.source, place.key, document=document, page=page, mark=mark, line=line)
    log.info("%s: result and page stored", title)
    return Docs(page=path, result=site.result(place.source, place.key), document=document)


def _engines(validations: Sequence[Validation]) -> dict[str, int]:
    found: dict[str, int] = {}
    for validation in validations:
        for engine, expectations in validation.by_engine.items():
            found[engine] = found.get(engine, 0) + expectations
    return found


def _together(validations: Sequence[Validation]) -> dict[str, Any]:
    """The results of all stages as one document."""
    documents = [validation.document for validation in validations]
    results = [result for document in documents for result in document["results"]]
    held = sum(bool(result["success"]) for result in results)
    return {
        **documents[-1],
        "results": results,
        "success": held == len(results),
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": held,
            "unsuccessful_expectations": len(results) - held,
            "success_percent": 100 * held / len(results) if results else None,
        },
    }
