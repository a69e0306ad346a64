"""Batch scoring: a partition's clean rows through the release in force when it began, into the prediction log."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.artifact import DatasetRef, digest_of
from millrace.engine import RowWork
from millrace.features.compute import CLEAN_NOTE
from millrace.governance.proof import prove_in_force, prove_release
from millrace.governance.release import Release, Releases
from millrace.ingestion import Connections
from millrace.ingestion.connection import environment_connections
from millrace.lake import Table
from millrace.monitoring.prediction_log import log_predictions
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.engine import engine_for
from millrace.step.released import rows_of_package, spec_of

log = logging.getLogger(__name__)
INSTANT = pa.timestamp("us", tz="UTC")
NO_RELEASE, NO_ROWS = "no_release", "no_rows"
Scored = tuple[pa.Table, DatasetRef | None]
"""Rows with the features of one service, and where they lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreReport:
    """What scoring a partition did.

    Attributes:
        use_case: its use case.
        partition: key of the partition.
        rows: rows scored.
        reason: why nothing was scored (`no_release`, `no_rows`); "" where something was.
        release: version of the live release; 0 where there is none.
        package: digest of its package.
        shadow_release: version of the release scored along; 0 where none is.
        mean_prediction: mean of the live predictions; of several classes, of the probability of the most probable one.
        named: class → share of the rows that it is the most probable one of; empty where there are no classes.
        feature_snapshot: digest of the features that were scored; part of the key of every prediction.
        features: the scored features in the lake.
        predictions: the prediction log, once a role.
    """

    use_case: str
    partition: str
    rows: int = 0
    reason: str = ""
    release: int = 0
    package: str = ""
    shadow_release: int = 0
    mean_prediction: float = 0.0
    named: dict[str, float] = field(default_factory=dict)
    feature_snapshot: str = ""
    features: DatasetRef | None = None
    predictions: tuple[DatasetRef, ...] = ()

    @property
    def changed(self) -> bool:
        """False where everything had been scored before."""
        written = [*self.predictions, *([self.features] if self.features else [])]
        return any(ref.changed for ref in written)

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "predictions": [ref.to_dict() for ref in self.predictions], "changed": self.changed}


def score_partition(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    partition: str,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
    recorded_at: datetime | None = None,
) -> ScoreReport:
    """Score every clean row of a partition with the release that was in force at its start.

    Every release reads the feature service it was made on, by its sealed package, whatever the YAML names by now.
    Writes `<uc>/scored_features/<service>` (replaced) and `<uc>/predictions` (appended, once for a release, role and
    state of the features). With `monitoring.shadow_first` the first release is scored along where another one is live.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.
        connections: gives the connection of a name, where the use case's engine runs elsewhere.
        recorded_at: wall time that new predictions carry; now by default.

    Returns:
        What was done; with the reason `no_release` or `no_rows` nothing was written.

    Raises:
        ReleaseRefusedError: a release is not proven by ledger, evidence and policy.
        PackageError: the package of a release is not whole.
        FeatureError: a feature of the model is missing.
        LakeConflictError: other writers won every attempt.
        EngineError: the use case's Ray cluster does not answer, or lost the work too often.
    """
    found = prove_in_force(use_case, domain.partition(partition).start, settings=settings)
    if found is None:
        log.info("%s %s: no release was in force, nothing scored", use_case.name, partition)
        return ScoreReport(use_case=use_case.name, partition=partition, reason=NO_RELEASE)
    live, shadow = found.release, _shadow(use_case, found.release, settings)
    scored_by = [("live", live), *([("shadow", shadow)] if shadow is not None else [])]
    packages = [Package.open(settings.packages / release.package, release.package) for _, release in scored_by]
    recorded_at = recorded_at or datetime.now(UTC)
    scored: dict[str, Scored] = {}
    written, predicted = [], []
    for (role, release), package in zip(scored_by, packages, strict=True):
        service = package.features.service
        if service not in scored:
            scored[service] = _scored(use_case, domain, partition, package, settings)
        rows, features = scored[service]
        if features is None:
            return ScoreReport(use_case=use_case.name, partition=partition, reason=NO_ROWS, release=live.version)
        snapshot = features.digest
        prediction = _predict(use_case, package, rows, connections)
        log_rows = _log_rows(rows, prediction, release, role, snapshot=snapshot, recorded_at=recorded_at)
        written.append(_append(use_case, partition, log_rows, release, role=role, snapshot=snapshot, settings=settings))
        predicted.append(prediction)
    rows, features = scored[packages[0].features.service]
    return ScoreReport(
        use_case=use_case.name,
        partition=partition,
        rows=rows.num_rows,
        release=live.version,
        package=live.package,
        shadow_release=0 if shadow is None else shadow.version,
        mean_prediction=_mean(predicted[0]),
        named=_named(packages[0], predicted[0]),
        feature_snapshot="" if features is None else features.digest,
        features=features,
        predictions=tuple(written),
    )


def _shadow(use_case: UseCaseSpec, live: Release, settings: Settings) -> Release | None:
    """The first release, proven, where it scores along with another one that is live."""
    first = Releases(settings).first(use_case) if use_case.monitoring.shadow_first else None
    if first is None or first.version == live.version:
        return None
    prove_release(first, settings=settings)
    return first


def _mean(prediction: np.ndarray) -> float:
    """Mean of the predictions; of several classes that of the most probable one's probability."""
    return float((prediction.max(axis=1) if prediction.ndim == 2 else prediction).mean())


def _scored(use_case: UseCaseSpec, domain: DomainSpec, partition: str, package: Package, settings: Settings) -> Scored:
    """Rows with the features that a package reads, and where they were put; no rows are put nowhere."""
    own, source = spec_of(use_case, package), use_case.entity.source
    clean = Table(settings.lake, domain.clean_table(source))
    before = clean.note(partition)
    rows = rows_of_package(own, domain, partition, package, settings=settings)
    if not rows.num_rows:
        return rows, None
    # Where somebody writes clean rows just now it is not known which of them were read, and nothing is noted.
    same = before is not None and before == clean.note(partition)
    note = {f"{CLEAN_NOTE}{source}": str(before[0].version)} if before is not None and same else {}
    return rows, Table(settings.lake, own.service_table("scored_features")).replace(
        rows, partition=partition, note=note
    )


def _predict(use_case: UseCaseSpec, package: Package, rows: pa.Table, connections: Connections) -> np.ndarray:
    """Predictions on the use case's engine; the package goes along, whole and verified."""
    with engine_for(use_case.compute, connections=connections) as engine:
        work = partial(_open_package, package, use_case.compute.threads)
        return engine.map_rows(work, rows.select(package.features.columns))


def _open_package(package: Package, threads: int) -> RowWork:
    predictor = package.predictor(threads=threads)
    return lambda rows: predictor.predict({name: rows.column(name) for name in rows.column_names})


def _log_rows(
    rows: pa.Table, prediction: np.ndarray, release: Release, role: str, *, snapshot: str, recorded_at: datetime
) -> pa.Table:
    def every(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), rows.num_rows)

    return pa.table(
        {
            "key": rows.column("key"),
            "event_timestamp": rows.column("event_timestamp"),
            "release": every(release.version, pa.int64()),
            "package": every(release.package, pa.string()),
            "role": every(role, pa.string()),
            **log_predictions(prediction),
            "feature_snapshot": every(snapshot, pa.string()),
            "recorded_at": every(recorded_at, INSTANT),
        }
    )


def _named(package: Package, prediction: np.ndarray) -> dict[str, float]:
    classes = package.manifest.classes
    if not classes:
        return {}
    shares = np.bincount(prediction.argmax(axis=1), minlength=len(classes)) / len(prediction)
    return {name: round(float(share), 6) for name, share in zip(classes, shares, strict=True)}


def _append(
    use_case: UseCaseSpec,
    partition: str,
    rows: pa.Table,
    release: Release,
    *,
    role: str,
    snapshot: str,
    settings: Settings,
) -> DatasetRef:
    """Append once: a second run over the same features, release and role finds its own marker."""
    scored = {"use_case": use_case.name, "partition": partition, "features": snapshot}
    marker = digest_of({**scored, "release": release.version, "package": release.package, "role": role})
    ref = Table(settings.lake, use_case.table("predictions")).append(rows, partition=partition, marker=marker)
    what = "appended" if ref.changed else "there already"
    log.info(
        "%s %s: %d %s predictions of release %d %s",
        *(use_case.name, partition, rows.num_rows, role, release.version, what),
    )
    return ref
