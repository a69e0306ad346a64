"""Batch scoring: a partition's clean rows through the release in force when it began, into the prediction log."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import FeatureError
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.retrieval import entity_rows, historical_features

log = logging.getLogger(__name__)
INSTANT = pa.timestamp("us", tz="UTC")
NO_RELEASE, NO_ROWS = "no_release", "no_rows"


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
        mean_prediction: mean of the live predictions.
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
    recorded_at: datetime | None = None,
) -> ScoreReport:
    """Score every clean row of a partition with the release that was in force at its start.

    Writes `<uc>/scored_features` (replaced) and `<uc>/predictions` (appended, once for a release, role and state of
    the features). With `monitoring.shadow_first` the first release is scored along where another one is live.

    Args:
        use_case: its use case.
        domain: the domain of that.
        partition: key of the partition.
        settings: this installation.
        recorded_at: wall time that new predictions carry; now by default.

    Returns:
        What was done; with the reason `no_release` or `no_rows` nothing was written.

    Raises:
        PackageError: the package of a release is not whole.
        FeatureError: a feature of the model is missing.
        LakeConflictError: other writers won every attempt.
    """
    releases = Releases(settings)
    live = releases.in_force(use_case, at=domain.partition(partition).start)
    if live is None:
        log.info("%s %s: no release was in force, nothing scored", use_case.name, partition)
        return ScoreReport(use_case=use_case.name, partition=partition, reason=NO_RELEASE)
    first = releases.first(use_case) if use_case.monitoring.shadow_first else None
    shadow = first if first is not None and first.version != live.version else None
    scored_by = [("live", live), *([("shadow", shadow)] if shadow is not None else [])]
    packages = [Package.open(settings.packages / release.package, release.package) for _, release in scored_by]
    rows = _scored_features(use_case, domain, partition, settings)
    if not rows.num_rows:
        return ScoreReport(use_case=use_case.name, partition=partition, reason=NO_ROWS, release=live.version)
    features = Table(settings.lake, use_case.table("scored_features")).replace(rows, partition=partition)
    snapshot, recorded_at = features.digest, recorded_at or datetime.now(UTC)
    written, means = [], []
    for (role, release), package in zip(scored_by, packages, strict=True):
        prediction = package.predictor().predict({name: rows.column(name) for name in package.features.columns})
        log_rows = _log_rows(rows, prediction, release, role, snapshot=snapshot, recorded_at=recorded_at)
        written.append(_append(use_case, partition, log_rows, release, role=role, snapshot=snapshot, settings=settings))
        means.append(float(prediction.mean()))
    return ScoreReport(
        use_case=use_case.name,
        partition=partition,
        rows=rows.num_rows,
        release=live.version,
        package=live.package,
        shadow_release=0 if shadow is None else shadow.version,
        mean_prediction=means[0],
        feature_snapshot=snapshot,
        features=features,
        predictions=tuple(written),
    )


def _scored_features(use_case: UseCaseSpec, domain: DomainSpec, partition: str, settings: Settings) -> pa.Table:
    """Key, instant and every feature as known then, in a total order."""
    entities = entity_rows(use_case, domain, partition, settings=settings)
    entities = entities.drop_columns([name for name in ("label", "label_known_at") if name in entities.column_names])
    joined = historical_features(use_case, domain, entities, settings=settings)
    categories = set(use_case.features.categories)
    types = {"key": pa.string(), "event_timestamp": INSTANT}
    types |= {name: pa.string() if name in categories else pa.float64() for name in use_case.features.columns}
    if absent := [name for name in types if name not in joined.column_names]:
        raise FeatureError(
            f"features are missing: {', '.join(absent)}",
            where=f"use_cases/{use_case.name}.yaml: features",
            remedy="build features of the partition again, or correct the feature service",
        )
    rows = pa.table({name: pc.cast(joined.column(name), kind) for name, kind in types.items()})
    return rows.sort_by([("event_timestamp", "ascending"), ("key", "ascending")])


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
            "prediction": pa.array(prediction, pa.float64()),
            "feature_snapshot": every(snapshot, pa.string()),
            "recorded_at": every(recorded_at, INSTANT),
        }
    )


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
