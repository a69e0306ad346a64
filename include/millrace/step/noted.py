"""What lineage says of a step beside its result: files that were read, expectations, and the tables behind features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from millrace.artifact import DatasetRef
from millrace.ingestion import IngestReport
from millrace.lake import Table
from millrace.package import FeatureSpec
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.address import public_address
from millrace.step.ingestion import PLACES
from millrace.step.snapshot import clean_versions
from millrace.validation.data_docs import DocsSite

_ON_FAILURE = {"block": "error", "quarantine": "error", "warn": "warn"}


def places_of(domain: DomainSpec, report: IngestReport, *, settings: Settings) -> list[str]:
    """What an ingested partition was read from: its files, else the origin of its source."""
    found = Table(settings.lake, report.raw.table).note(report.partition)
    noted = "" if found is None else found[1].get(PLACES, "")
    return [public_address(line) for line in noted.splitlines() if line] or [domain.sources[report.source].origin]


def raw_of(domain: DomainSpec, source: str, partition: str, *, settings: Settings) -> DatasetRef | None:
    """The newest raw rows of a partition: what a validation of it reads; None where there are none."""
    found = Table(settings.lake, domain.raw_table(source)).note("" if domain.sources[source].static else partition)
    return None if found is None else found[0]


def assertions_of(domain: DomainSpec, source: str, partition: str, *, settings: Settings) -> list[dict[str, Any]]:
    """How a partition met its contract, from the stored result: one assertion an expectation, without any values."""
    key = "" if domain.sources[source].static else partition
    path = DocsSite(reports=settings.reports, domain=domain.name).result(source, key)
    return [_assertion(item) for item in orjson.loads(path.read_bytes())["results"]] if path.is_file() else []


def clean_behind(domain: DomainSpec, refs: list[DatasetRef], *, settings: Settings) -> list[DatasetRef]:
    """The clean tables, at their versions, that feature partitions were computed from."""
    found: dict[str, int] = {}
    for ref in refs:
        noted = Table(settings.lake, ref.table).note(ref.partition)
        for source, version in clean_versions({} if noted is None else noted[1]).items():
            found[source] = max(version, found.get(source, version))
    return [DatasetRef(table=domain.clean_table(source), version=version) for source, version in found.items()]


def tables_of(use_case: UseCaseSpec, domain: DomainSpec) -> list[str]:
    """The tables that a use case's rows with their features are made of."""
    looked_up = (domain.feature_table(view.view) for view in FeatureSpec.of(use_case, domain).lookups)
    return [domain.clean_table(use_case.entity.source), *looked_up]


def _assertion(result: Mapping[str, Any]) -> dict[str, Any]:
    config, measured = result["expectation_config"], result.get("result") or {}
    kwargs, meta = config.get("kwargs") or {}, config.get("meta") or {}
    told = {
        "assertion": str(config["type"]),
        "success": bool(result["success"]),
        "column": kwargs.get("column"),
        "severity": _ON_FAILURE.get(str(meta.get("on_failure")), "error"),
        "name": meta.get("name"),
        "description": f"a failure means: {meta['on_failure']}" if "on_failure" in meta else None,
        "actual": _figure(measured),
    }
    return {name: value for name, value in told.items() if value is not None}


def _figure(measured: Mapping[str, Any]) -> str | None:
    """The number that was seen; never a value of a row."""
    for name in ("observed_value", "unexpected_count"):
        value = measured.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            return f"{value:g}" if name == "observed_value" else f"{value} rows fail"
    return None
