"""Proof when a release goes into service: real rows have the same features online and offline, and are so answered."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import PlainValue, iso
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.probe import TOLERANCE
from millrace.errors import DeploymentError
from millrace.features.skew import Difference, plain
from millrace.governance.release import Release
from millrace.lake import Table
from millrace.monitoring.reference import spread
from millrace.online.address import open_reader
from millrace.online.base import OnlineReader
from millrace.package import Package
from millrace.serving.assembly import input_kinds
from millrace.serving.request_log import PROBE
from millrace.serving.sampled_row import SampledRow, instant, microseconds
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.feature_path import Comparison, compare_paths, example_key, model_columns
from millrace.step.released import released_spec
from millrace.step.retrieval import entity_rows

log = logging.getLogger(__name__)
NO_VIEWS, NOT_MATERIALIZED, NO_ROWS = "no_views", "not_materialized", "no_rows"
_ROWS = 50
_ATTEMPTS = 8
_MATERIALIZE = "run the materialization of the domain's newest partition again, then this task"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathProof(PlainValue):
    """What was compared.

    Attributes:
        rows: real rows of the release's holdout that went both ways.
        features: features compared of each.
        as_of: ISO instant up to which the online store was materialized.
        max_abs_diff: greatest difference of a prediction of the live service, asked by key, from that of the package
            on the features of the lake.
        reason: why nothing was compared (`no_views`, `not_materialized`, `no_rows`), else "".
    """

    rows: int = 0
    features: int = 0
    as_of: str = ""
    max_abs_diff: float = 0.0
    reason: str = ""


def prove_paths(
    use_case: UseCaseSpec, release: Release, package: Package, *, client: ServiceClient, settings: Settings
) -> PathProof:
    """Send rows of the release's holdout through the online store, the live service and the lake, and compare.

    Where the online store holds none of the release's views, or the lake none of its rows, nothing is compared.

    Args:
        use_case: its use case.
        release: the release in service.
        package: its package.
        client: the online service.
        settings: this installation.

    Raises:
        DeploymentError: a feature or a prediction is not the same on both paths, or a view is not materialized.
        OnlineStoreUnavailableError: the online store does not answer.
    """
    if not package.features.lookups:
        return PathProof(reason=NO_VIEWS)
    domain = load_domain(settings.dags, use_case.domain)
    reader = open_reader(str(settings.online_store))
    try:
        if not _is_materialized(reader, package):
            return PathProof(reason=NOT_MATERIALIZED)
        spec = released_spec(use_case, release, settings=settings)
        rows = _real_rows(spec, domain, release, settings)
        if not rows.num_rows:
            return PathProof(reason=NO_ROWS)
        for _ in range(_ATTEMPTS):
            answered = _read_online(reader, package, rows, release)
            compared = compare_paths(domain, package, answered, settings=settings)
            if compared.differences and _marks_of(reader, package) != answered[0].marks:
                continue
            _require_same(package, answered, compared)
            live = _ask_by_key(client, use_case, package, rows)
            if live["parameters"].get("high_water_mark") == iso(instant(answered[0].effective_at)):
                return _prove_live(package, rows, answered, compared, live)
    finally:
        reader.close()
    raise DeploymentError(
        f"the online store moved on while it was compared, {_ATTEMPTS} times",
        where=f"use case {use_case.name}",
        remedy="wait for the materialization to end; have the service read the online store of MILLRACE_ONLINE_STORE",
    )


def _is_materialized(reader: OnlineReader, package: Package) -> bool:
    wanted = [view.view for view in package.features.lookups]
    there = set(reader.views())
    absent = [view for view in wanted if view not in there or reader.high_water_mark(view) is None]
    if absent and len(absent) < len(wanted):
        raise DeploymentError(
            f"the release looks up {', '.join(absent)}, which the online store does not hold",
            where=f"package {package.digest[:12]}, online store",
            remedy=_MATERIALIZE,
        )
    return not absent


def _real_rows(use_case: UseCaseSpec, domain: DomainSpec, release: Release, settings: Settings) -> pa.Table:
    """Rows spread over the (last) partition of the release's holdout: keys and what else a request by key holds."""
    clean = Table(settings.lake, domain.clean_table(use_case.entity.source))
    if not clean.exists() or release.holdout not in clean.partitions():
        return pa.table({})
    rows = entity_rows(use_case, domain, release.holdout, settings)
    return rows.take(pa.array(spread(rows.num_rows, _ROWS)))


def _read_online(reader: OnlineReader, package: Package, rows: pa.Table, release: Release) -> list[SampledRow]:
    """The rows as a request by key would have found them now."""
    columns: dict[str, Any] = {
        name: [plain(value) for value in rows.column(name).to_pylist()] for name in rows.column_names
    }
    marks: dict[str, datetime | None] = {}
    for view in package.features.lookups:
        entities = list(zip(*(columns[name] for name in view.entities), strict=True))
        found = reader.look_up(view.view, entities, view.features)
        marks[view.view] = found.high_water_mark
        for name, values in zip(view.features, zip(*found.values, strict=True), strict=True):
            columns[name] = list(values)
    columns = package.functions.add(columns, rows.num_rows)
    known = {view: microseconds(mark) for view, mark in marks.items() if mark is not None}
    return [
        SampledRow(
            release=release.version,
            package=package.digest,
            effective_at=min(known.values()),
            recorded_at=0,
            marks=known,
            columns={name: values[place] for name, values in columns.items()},
        )
        for place in range(rows.num_rows)
    ]


def _marks_of(reader: OnlineReader, package: Package) -> dict[str, int]:
    marks = {view.view: reader.high_water_mark(view.view) for view in package.features.lookups}
    return {view: microseconds(mark) for view, mark in marks.items() if mark is not None}


def _require_same(package: Package, rows: Sequence[SampledRow], compared: Comparison) -> None:
    if not compared.differences:
        return
    first: Difference = compared.differences[0]
    row = rows[first.row]
    key = ", ".join(f"{name}={value!r}" for name, value in example_key(package, first.view, row).items())
    as_of = iso(instant(row.marks.get(first.view, row.effective_at)))
    features = dict.fromkeys(item.feature for item in compared.differences)
    differing = len({item.row for item in compared.differences})
    raise DeploymentError(
        f"feature {first.feature!r} of {first.view!r} is not the same online and offline: for {key} the online store "
        f"has {first.online!r}, the lake as of {as_of} has {first.offline!r} "
        f"({differing} of {compared.rows} rows differ, in {', '.join(features)})",
        where=f"package {package.digest[:12]}, view {first.view}",
        remedy=_MATERIALIZE,
    )


def _ask_by_key(client: ServiceClient, use_case: UseCaseSpec, package: Package, rows: pa.Table) -> Mapping[str, Any]:
    kinds = input_kinds(package.features)
    names = list(dict.fromkeys([*(column.name for column in package.features.request), *package.features.entities]))
    columns = {name: [plain(value) for value in rows.column(name).to_pylist()] for name in names}
    texts = {"category": "BYTES", "number": "FP64"}
    datatypes = {
        name: texts.get(kinds[name]) or ("INT64" if pa.types.is_integer(rows.column(name).type) else "BYTES")
        for name in names
    }
    return client.predict(use_case.name, columns, datatypes, request_id=PROBE)


def _prove_live(
    package: Package, rows: pa.Table, answered: Sequence[SampledRow], compared: Comparison, live: Mapping[str, Any]
) -> PathProof:
    """The live predictions must be those of the package on the features of the lake."""
    expected = package.predictor().predict(model_columns(package, answered, compared.offline))
    given = np.array(live["outputs"][0]["data"], dtype=np.float64)
    gaps = np.abs(given - expected).reshape(rows.num_rows, -1).max(axis=1)
    worst = int(np.argmax(gaps))
    proof = PathProof(
        rows=rows.num_rows,
        features=len(compared.views),
        as_of=iso(instant(answered[0].effective_at)),
        max_abs_diff=float(gaps[worst]),
    )
    if not proof.max_abs_diff <= TOLERANCE:
        raise DeploymentError(
            f"asked by key, the service predicts {_shown(given[worst])} for row "
            f"{rows.column('key')[worst].as_py()!r}, the features of the lake give {_shown(expected[worst])}",
            where=f"package {package.digest[:12]}, the online service",
            remedy="have the service read the online store of MILLRACE_ONLINE_STORE, then deploy the release again",
        )
    log.info("%d rows have the same %d features online and offline", proof.rows, proof.features)
    return proof


def _shown(prediction: Any) -> str:
    return ", ".join(f"{value:.6g}" for value in np.ravel(prediction))
