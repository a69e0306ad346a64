"""What use cases make of a column: features of their services, labels, training rows, releases and predictions."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from millrace.errors import PackageError
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.package import FeatureSpec, Package, TrainingRecord
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, list_specs, load_domain, load_use_case
from millrace.spec.holdout import span
from millrace.step.column_lineage import CleanUse, trace_clean
from millrace.step.column_reach import ServiceReach, label_parts
from millrace.step.snapshot import plain

log = logging.getLogger(__name__)
LEAK = "leak: never a feature"
UNUSED = "nothing is computed from it"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionUse:
    """Predictions of one release in one partition.

    Attributes:
        partition: key.
        role: `live` or `shadow`.
        rows: how many.
        inputs: whether features that were scored may rest on the column's values; otherwise only the model does.
    """

    partition: str
    role: str
    rows: int
    inputs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseUse:
    """A release and what of the column's values is behind it.

    Attributes:
        version: number of the release.
        service: feature service it was made on.
        in_force: whether it is the one that serves.
        features: its features that rest on the column.
        trained_on: training partitions with rows that may rest on the values.
        evaluated_on: what it held out and has such rows, of several partitions the first and the last; "" for none.
        predictions: what it predicted, where features or model rest on the values.
        fault: why its package cannot be read; "" where it can.
    """

    version: int
    service: str
    in_force: bool
    features: list[str] = field(default_factory=list)
    trained_on: list[str] = field(default_factory=list)
    evaluated_on: str = ""
    predictions: list[PredictionUse] = field(default_factory=list)
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseUse:
    """What one use case makes of the column.

    Attributes:
        use_case: its name.
        service: the feature service that it declares.
        verdict: `leak: never a feature` where the column of a row may not be a feature of that row; else "".
        row: columns of the row itself: features, what functions read of it, and the instant that picks features.
        features: features looked up in feature tables.
        label: parts of the label that rest on the column: `expression`, `known_at`, `weight`.
        training_set: table of the training rows.
        training_partitions: those of its partitions that may rest on the values.
        releases: releases that rest on the values.
    """

    use_case: str
    service: str
    verdict: str
    row: list[str]
    features: list[str]
    label: list[str]
    training_set: str
    training_partitions: list[str]
    releases: list[ReleaseUse]

    @property
    def touched(self) -> bool:
        """Whether anything of it rests on the column."""
        return bool(self.row or self.features or self.label or self.releases)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLineage:
    """The way forward from a column.

    Attributes:
        clean: clean rows and feature tables.
        use_cases: those on the domain that rest on it, or that declare it a leak.
        end: where the way ends short of any feature or label; "" where it does not.
    """

    clean: CleanUse
    use_cases: list[UseCaseUse]
    end: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return plain(self)


def trace_column(name: str, first: date, last: date, *, settings: Settings) -> ColumnLineage:
    """Walk from a column's values of some days to clean rows, features, services, training, releases, predictions.

    Args:
        name: `<source>.<column>`, with the domain before it where several have such a source.
        first: first day, in the domain's calendar.
        last: last day.
        settings: this installation.

    Raises:
        LineageError: no such column.
        StateUnavailableError: the state database does not answer.
    """
    clean = trace_clean(name, first, last, settings=settings)
    domain = load_domain(settings.dags, clean.domain)
    specs = (load_use_case(settings.dags, item) for item in list_specs(settings.dags, "use_cases"))
    uses = [_use(spec, domain, clean, settings) for spec in specs if spec.domain == domain.name]
    found = [use for use in uses if use.touched or use.verdict]
    end = ""
    if not any(use.row or use.features or use.label for use in found):
        end = LEAK if clean.late or any(use.verdict for use in found) else "" if clean.features else UNUSED
    return ColumnLineage(clean=clean, use_cases=found, end=end)


def _use(use_case: UseCaseSpec, domain: DomainSpec, clean: CleanUse, settings: Settings) -> UseCaseUse:
    own = use_case.entity.source == clean.source
    service = ServiceReach(FeatureSpec.of(use_case, domain), domain, clean, own=own)
    label = label_parts(use_case, clean) if own else []
    table = Table(settings.lake, use_case.service_table("training_set"))
    there = [key for key in table.partitions() if service.reaches(key) or (label and key in clean.keys)]
    leak = own and not service.row and (clean.late or clean.column in use_case.leaks)
    return UseCaseUse(
        use_case=use_case.name,
        service=use_case.features.name,
        verdict=LEAK if leak else "",
        row=service.row,
        features=service.features,
        label=label,
        training_set=table.name,
        training_partitions=there,
        releases=_releases(use_case, domain, clean, label=bool(label), settings=settings),
    )


def _releases(
    use_case: UseCaseSpec, domain: DomainSpec, clean: CleanUse, *, label: bool, settings: Settings
) -> list[ReleaseUse]:
    releases = Releases(settings)
    made = releases.list(use_case)
    serving = releases.in_force(use_case) if made else None
    counts: Counter[tuple[str, int, str]] = _counts(use_case, settings) if made else Counter()
    found: list[ReleaseUse] = []
    for release in made:
        use = ReleaseUse(
            version=release.version,
            service=release.feature_service,
            in_force=serving is not None and serving.version == release.version,
        )
        try:
            use = _release(use, use_case, domain, clean, release, counts, label=label, settings=settings)
        except PackageError as error:
            use = replace(use, fault=error.what)
        if use.trained_on or use.evaluated_on or use.predictions or use.fault:
            found.append(use)
    return found


def _release(  # noqa: PLR0917 - what is there, and what is looked for
    use: ReleaseUse,
    use_case: UseCaseSpec,
    domain: DomainSpec,
    clean: CleanUse,
    release: Release,
    counts: Counter[tuple[str, int, str]],
    *,
    label: bool,
    settings: Settings,
) -> ReleaseUse:
    """What of a release rests on the values."""
    package = Package.open(settings.packages / release.package, release.package)
    service = ServiceReach(package.features, domain, clean, own=use_case.entity.source == clean.source)

    def rests(key: str) -> bool:
        return service.reaches(key) or (label and key in clean.keys)

    record = package.manifest.training
    trained = [key for key in record.partitions if rests(key)]
    measured = [partition for partition in _held_out(domain, record) if rests(partition.key)]
    predicted = [
        PredictionUse(partition=key, role=role, rows=rows, inputs=service.reaches(key))
        for (key, version, role), rows in sorted(counts.items())
        if version == release.version and (trained or service.reaches(key))
    ]
    return replace(
        use,
        features=[*service.row, *service.features],
        trained_on=trained,
        evaluated_on=span(measured) if measured else "",
        predictions=predicted,
    )


def _held_out(domain: DomainSpec, record: TrainingRecord) -> list[Partition]:
    """What a package was not trained on but measured: labels known when it began are the last that training used."""
    last = domain.partition(record.holdout)
    first = Partition.at(datetime.fromisoformat(record.known_until), domain.grain, domain.timezone)
    return first.until(last) or [last]


def _counts(use_case: UseCaseSpec, settings: Settings) -> Counter[tuple[str, int, str]]:
    """Rows of the prediction log by partition, release and role."""
    table = Table(settings.lake, use_case.table("predictions"))
    if not table.exists():
        return Counter()
    by = ["partition", "release", "role"]
    rows = table.open().to_pyarrow_dataset().to_table(columns=by).group_by(by).aggregate([([], "count_all")])
    return Counter({(row["partition"], row["release"], row["role"]): row["count_all"] for row in rows.to_pylist()})
