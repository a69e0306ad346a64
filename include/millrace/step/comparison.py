"""Candidates and what is released, opened and run on the rows of one holdout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import EvaluationError, FeatureError, SpecError
from millrace.governance.release import Release, Releases
from millrace.package import Package, Predictor, TrainingRecord
from millrace.partition import Partition
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec
from millrace.spec.holdout import held_out, span
from millrace.step.attribute import read_attributes
from millrace.step.imported import compared_partitions
from millrace.step.released import require_same_question, rows_of_package, spec_of

if TYPE_CHECKING:
    from millrace.evaluation.contest import Contender, Field
    from millrace.evaluation.holdout import Holdout

CHAMPION = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All that ran, and on what.

    Attributes:
        partition: key of the holdout, the last where several are held out.
        held_out: all that are held out, in order.
        records: what each candidate's package says it was trained on.
        training: rows that the holdout is compared with.
        rows: rows of the holdout, as they lie in the training set.
        holdout: the same in the order of their keys, with their days.
        release: what was in force just before the holdout's end.
        field: who ran, and how well.
        challenger: the best candidate.
        package: its package.
        predictor: its model.
    """

    partition: str
    held_out: list[Partition]
    records: list[TrainingRecord]
    training: pa.Table
    rows: pa.Table
    holdout: Holdout
    release: Release | None
    field: Field
    challenger: ModelRef
    package: Package
    predictor: Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    training: pa.Table
    rows: pa.Table
    holdout: Holdout


def run_comparison(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    policy: PolicySpec,
    training_set: DatasetRef,
    candidates: list[ModelRef],
    *,
    settings: Settings,
) -> Compared:
    """Run candidates and the champion on the holdout's rows; arguments and errors as of `evaluate_candidates`."""
    partition = domain.partition(_common_holdout(use_case, policy, candidates))
    packages = {
        ref.candidate: _open(ref.digest, settings) for ref in sorted(candidates, key=lambda item: item.candidate)
    }
    refs = {ref.candidate: ref for ref in candidates}
    records = [_record(refs[name], package) for name, package in packages.items()]
    held = held_out(use_case, domain, partition.key)
    measured = _read(use_case, domain, training_set, held, records=records, settings=settings)
    predictors = {name: package.predictor() for name, package in packages.items()}
    release = Releases(settings).champion_for(use_case, partition.end, [ref.digest for ref in candidates])
    champion, reason = open_champion(use_case, domain, release, measured.holdout, settings)
    entrants = [_contend(name, package, predictors[name], measured.holdout) for name, package in packages.items()]
    field = _run_field(use_case, measured.holdout, entrants, champion, release=release, reason=reason)
    best = field.challenger.name
    return Compared(
        partition=partition.key,
        held_out=held,
        records=records,
        training=measured.training,
        rows=measured.rows,
        holdout=measured.holdout,
        release=release,
        field=field,
        challenger=refs[best],
        package=packages[best],
        predictor=predictors[best],
    )


def _run_field(
    use_case: UseCaseSpec,
    holdout: Holdout,
    entrants: list[Contender],
    champion: Contender | None,
    *,
    release: Release | None,
    reason: str,
) -> Field:
    from millrace.evaluation.contest import run_field

    version = release.version if release else 0
    return run_field(use_case, holdout, entrants, champion, champion_release=version, champion_reason=reason)


def _read(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    training_set: DatasetRef,
    held: list[Partition],
    *,
    records: list[TrainingRecord],
    settings: Settings,
) -> _Measured:
    """The rows of the holdout, and those it is compared with."""
    from millrace.evaluation.holdout import make_holdout
    from millrace.training.data.training_set import load_training_set

    partition, keys = held[-1].key, [item.key for item in held]
    training = load_training_set(
        use_case,
        training_set,
        lake=settings.lake,
        partitions=compared_partitions(use_case, domain, training_set, records, partition, settings=settings),
        known_until=max((record.known_until for record in records), key=datetime.fromisoformat),
    )
    rows = load_training_set(use_case, training_set, lake=settings.lake, partitions=keys)
    attributes = read_attributes(use_case, domain, rows, keys, training_set, settings=settings)
    holdout = make_holdout(use_case, domain, rows, span(held), attributes=attributes)
    return _Measured(training=training, rows=rows, holdout=holdout)


def _common_holdout(use_case: UseCaseSpec, policy: PolicySpec, candidates: list[ModelRef]) -> str:
    names = [ref.candidate for ref in candidates]
    if len(candidates) < policy.min_candidates:
        raise EvaluationError(
            f"{len(candidates)} candidates were trained ({', '.join(names) or 'none'}), "
            f"policy {policy.tier!r} asks for {policy.min_candidates}",
            where=f"{use_case.name}: candidates",
            remedy="look why the others failed, then run training again",
        )
    holdouts = sorted({ref.holdout for ref in candidates})
    if len(holdouts) != 1:
        raise EvaluationError(
            f"candidates have different holdouts: {holdouts}",
            where=f"{use_case.name}: {', '.join(names)}",
            remedy="train them in one run",
        )
    return holdouts[0]


def _record(ref: ModelRef, package: Package) -> TrainingRecord:
    """What a package says it was trained on, which the reference must not contradict."""
    record = package.manifest.training
    if (record.trained_through, record.holdout) != (ref.trained_through, ref.holdout):
        raise EvaluationError(
            f"the reference says trained through {ref.trained_through} for holdout {ref.holdout}, "
            f"the package {record.trained_through} for {record.holdout}",
            where=f"candidate {ref.candidate}, package {ref.digest[:12]}",
            remedy="hand on the reference that training gave",
        )
    return record


def _open(digest: str, settings: Settings) -> Package:
    return Package.open(settings.packages / digest, expected_digest=digest)


def _contend(name: str, package: Package, predictor: Predictor, holdout: Holdout, release: int = 0) -> Contender:
    from millrace.evaluation.contest import Contender

    columns = package.features.columns
    if absent := sorted(set(columns) - set(holdout.table.column_names)):
        raise FeatureError(
            f"the training set lacks {', '.join(absent)}",
            where=f"package {package.digest[:12]}",
            remedy="train on the feature service as it is now",
        )
    return Contender(
        name=name,
        trainer=package.manifest.trainer,
        package=package.digest,
        release=release,
        trained_through=package.manifest.training.trained_through,
        bytes=sum(path.stat().st_size for path in package.folder.iterdir() if path.is_file()),
        features=columns,
        prediction=predictor.predict(holdout.columns(columns)),
    )


def open_champion(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    release: Release | None,
    holdout: Holdout,
    settings: Settings,
) -> tuple[Contender | None, str]:
    """What is released, on the same rows, with the features it was made on; or why that cannot be."""
    if release is None:
        return None, ""
    package = _open(release.package, settings)
    if fault := _has_seen(use_case, package, holdout):
        return None, f"release {release.version} {fault}"
    try:
        require_same_question(use_case, package)
    except SpecError as error:
        return None, f"release {release.version} answers another question: {error.what}"
    try:
        if package.features.service != use_case.features.name:
            own = spec_of(use_case, package)
            holdout = _holdout_of(own, domain, package, holdout, settings)
        contender = _contend(CHAMPION, package, package.predictor(), holdout, release.version)
        return replace(contender, threshold=release.threshold), ""
    except (FeatureError, SpecError) as error:
        return None, f"release {release.version} reads other features: {error.what}"


def _has_seen(use_case: UseCaseSpec, package: Package, holdout: Holdout) -> str:
    """What a release learned from and is held out now, as where more is held out than when it was made; or ""."""
    through = package.manifest.training.trained_through
    if use_case.evaluation.holdout_partitions == 1 or not through:
        return ""
    first = pc.min(holdout.table.column("partition")).as_py()
    return f"was trained through {through}, and {first} is held out" if through >= first else ""


def _holdout_of(
    own: UseCaseSpec, domain: DomainSpec, package: Package, holdout: Holdout, settings: Settings
) -> Holdout:
    """The holdout's rows with the features of another service.

    Raises:
        FeatureError: these features cannot be had for the very same rows.
    """
    keys, of_row = holdout.table.column("key"), holdout.table.column("partition")
    partitions = sorted(pc.unique(of_row).to_pylist())
    found = [
        rows_of_package(own, domain, key, package, keys=keys.filter(pc.equal(of_row, key)), settings=settings)
        for key in partitions
    ]
    rows = pa.concat_tables(found).sort_by("key")
    if rows.column("key").to_pylist() != keys.to_pylist():
        raise FeatureError(f"the rows of {', '.join(partitions)} changed since the training set was built")
    kept = {name: holdout.table.column(name) for name in ("label", "partition")}
    return replace(holdout, table=pa.table({**{name: rows.column(name) for name in rows.column_names}, **kept}))
