"""One candidate: rows in, sealed package out. Equal rows, parameters and seed give the same digest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SpecError, TrainingError
from millrace.lake.digest import content_digest
from millrace.package import (
    Encoder,
    FeatureSpec,
    Manifest,
    OnDemandFunctions,
    Package,
    Predictor,
    TrainingRecord,
    seal_package,
)
from millrace.package.predictor import load_model
from millrace.spec import CandidateSpec, DomainSpec, UseCaseSpec
from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.check import check_computed, check_partitions, check_rows, checked_target
from millrace.training.golden import choose_golden
from millrace.training.registry import build_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A sealed candidate.

    Attributes:
        package: the package, verified.
        metrics: facts of the training for the tracking server; none of them is in the package.
    """

    package: Package
    metrics: dict[str, float]


def find_candidate(use_case: UseCaseSpec, candidate: str) -> CandidateSpec:
    """A candidate of a use case by name.

    Raises:
        SpecError: it has none of that name.
    """
    found = use_case.candidates.get(candidate)
    if found is None:
        raise SpecError(
            f"no candidate {candidate!r}",
            where=f"use_cases/{use_case.name}.yaml: candidates",
            remedy=f"known are: {', '.join(use_case.candidates)}",
        )
    return found


def train_package(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    candidate: str,
    rows: pa.Table,
    *,
    table: str,
    holdout: str,
    known_until: str,
    store: Path,
    functions: OnDemandFunctions | None = None,
) -> Trained:
    """Train a candidate on rows of the training set and seal it.

    Args:
        use_case: its use case.
        domain: the domain of that.
        candidate: name of the candidate in the spec.
        rows: training rows in time order, as `load_training_set` gives them.
        table: name of the training set, for the manifest.
        holdout: partition kept back, for the manifest.
        known_until: instant that the labels of the rows were known by, for the manifest.
        store: folder of all packages.
        functions: those of on-demand features; they are sealed with the model.

    Raises:
        SpecError: no such candidate or trainer, or a wrong parameter.
        FeatureError: functions are missing, or fail.
        TrainingError: the rows cannot be trained on, or were computed by other functions.
    """
    where = f"use_cases/{use_case.name}.yaml: candidates.{candidate}"
    spec = find_candidate(use_case, candidate)
    trainer = build_trainer(spec.trainer, spec.params, where=where)
    check_rows(rows, where=table)
    partitions = sorted(pc.unique(rows.column("partition")).to_pylist())
    check_partitions(partitions, use_case.min_training_partitions, holdout=holdout, where=table)
    features = FeatureSpec.of(use_case, domain)
    functions = functions or OnDemandFunctions(features, {})
    check_computed(rows, features, functions, where=table)
    data = _encode(rows, use_case, features, trainer, partitions, where=table)
    started = time.perf_counter()
    fit = trainer.fit(data, seed=use_case.seed)
    seconds = time.perf_counter() - started
    log.info("%s of %s trained on %d rows in %.1f s", candidate, use_case.name, rows.num_rows, seconds)
    manifest = Manifest(
        use_case=use_case.name,
        candidate=candidate,
        trainer=spec.trainer,
        problem=use_case.problem,
        params=trainer.params.model_dump(),
        seed=use_case.seed,
        library=trainer.library,
        model=trainer.model,
        training=TrainingRecord(
            table=table,
            digest=content_digest(rows),
            rows=rows.num_rows,
            partitions=partitions,
            trained_through=partitions[-1],
            holdout=holdout,
            known_until=known_until,
        ),
        facts={**fit.facts, "all_missing": _all_missing(data)},
    )
    golden = choose_golden(rows, features, functions, _predictor(manifest, data.encoder, fit))
    package = seal_package(
        store,
        manifest,
        features=features,
        encoder=data.encoder,
        golden=golden,
        model=fit.content,
        functions=functions,
    )
    size = sum(map(len, package.content.values()))
    metrics = {"train_rows": float(rows.num_rows), "train_seconds": seconds, "package_bytes": float(size)}
    return Trained(package=package, metrics={**metrics, **fit.metrics})


def _encode(
    rows: pa.Table, use_case: UseCaseSpec, features: FeatureSpec, trainer: Trainer, partitions: list[str], *, where: str
) -> TrainingData:
    columns = {name: rows.column(name) for name in features.columns}
    kinds = {column.name: column.kind for column in features.model}
    encoder = Encoder.learn(columns, kinds, scaled=trainer.scaled)
    target = checked_target(rows, use_case.problem, where=where)
    recent = pc.equal(rows.column("partition"), partitions[-1]).to_numpy()
    if getattr(trainer.params, "early_stopping", 0):
        _check_early_stopping(target, recent, partitions, use_case.problem, where=where)
    return TrainingData(
        matrix=encoder.encode(columns), target=target, recent=recent, encoder=encoder, problem=use_case.problem
    )


def _check_early_stopping(
    target: np.ndarray, recent: np.ndarray, partitions: list[str], problem: str, *, where: str
) -> None:
    halves = [target[recent], target[~recent]]
    if len(partitions) < 2 or (problem == "binary" and any((half == half[0]).all() for half in halves)):
        raise TrainingError(
            f"early stopping keeps the last of the partitions {', '.join(partitions)} back, and what is left of them "
            "or that one alone has nothing to learn from",
            where=where,
            remedy="train on more partitions, or set early_stopping: 0",
        )


def _all_missing(data: TrainingData) -> list[str]:
    """Features without a single value in the training rows: trained on all the same, and said so."""
    found = []
    for i, column in enumerate(data.encoder.columns):
        values = data.matrix[:, i]
        if np.isnan(values).all() if column.kind == "number" else not column.vocabulary:
            found.append(column.name)
    if found:
        log.warning("features without a single value in the training rows: %s", ", ".join(found))
    return found


def _predictor(manifest: Manifest, encoder: Encoder, fit: Fit) -> Predictor:
    """What will read the package: the golden predictions are its own, of the very bytes that are sealed."""
    read = Encoder.from_bytes(encoder.to_bytes())
    return Predictor(
        read, load_model(manifest.model.format, fit.content, encoder=read, problem=manifest.problem, threads=1)
    )
