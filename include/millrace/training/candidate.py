"""One candidate: rows in, sealed package out. Equal rows, parameters and seed give the same digest."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import TrainingError
from millrace.lake.digest import content_digest
from millrace.package import (
    Encoder,
    FeatureSpec,
    Manifest,
    Package,
    Predictor,
    TrainingRecord,
    seal_package,
)
from millrace.package.predictor import load_model
from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.check import check_computed, check_partitions, check_rows, checked_target
from millrace.training.golden import choose_golden
from millrace.training.job import TrainingJob
from millrace.training.registry import build_trainer
from millrace.training.run import FitRun, LooseRun

log = logging.getLogger(__name__)
_DIRECTIONS = {"increasing": 1, "decreasing": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A sealed candidate.

    Attributes:
        package: the package, verified.
        metrics: facts of the training for the tracking server; none of them is in the package.
    """

    package: Package
    metrics: dict[str, float]


def train_package(job: TrainingJob, rows: pa.Table, *, store: Path, run: FitRun | None = None) -> Trained:
    """Train a candidate on rows of the training set and seal it.

    Args:
        job: what decides the outcome, but for the rows.
        rows: training rows in time order, as `load_training_set` gives them.
        store: folder of all packages.
        run: where checkpoints go and progress is told; by default nothing is kept.

    Raises:
        SpecError: no such candidate or trainer, or a wrong parameter.
        FeatureError: functions are missing, or fail.
        TrainingError: the rows cannot be trained on, or were computed by other functions.
        StopFitError: the run was asked to end.
    """
    spec, use_case, table = job.spec, job.use_case, job.table
    trainer = build_trainer(spec.trainer, job.values, where=job.where)
    check_rows(rows, where=table)
    partitions = sorted(pc.unique(rows.column("partition")).to_pylist())
    check_partitions(partitions, use_case.min_training_partitions, holdout=job.holdout, where=table)
    features, functions = job.features, job.on_demand
    check_computed(rows, features, functions, where=table)
    data = _encode(rows, job, features, trainer, partitions, where=table)
    run = run or LooseRun(folder=Path(tempfile.gettempdir()))
    started = time.perf_counter()
    fit = trainer.fit(data, seed=use_case.seed, run=run)
    seconds = time.perf_counter() - started
    log.info("%s of %s trained on %d rows in %.1f s", job.candidate, use_case.name, rows.num_rows, seconds)
    manifest = Manifest(
        use_case=use_case.name,
        candidate=job.candidate,
        trainer=spec.trainer,
        problem=use_case.problem,
        params=trainer.params.model_dump(mode="json"),
        seed=use_case.seed,
        library=trainer.library,
        model=trainer.model,
        training=TrainingRecord(
            table=table,
            digest=content_digest(rows),
            rows=rows.num_rows,
            partitions=partitions,
            trained_through=partitions[-1],
            holdout=job.holdout,
            known_until=job.known_until,
        ),
        facts={**fit.facts, "all_missing": _all_missing(data)},
        classes=list(use_case.classes),
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
    rows: pa.Table, job: TrainingJob, features: FeatureSpec, trainer: Trainer, partitions: list[str], *, where: str
) -> TrainingData:
    use_case = job.use_case
    columns = {name: rows.column(name) for name in features.columns}
    kinds = {column.name: column.kind for column in features.model}
    encoder = Encoder.learn(columns, kinds, scaled=trainer.scaled)
    target = checked_target(rows, use_case.problem, where=where)
    recent = pc.equal(rows.column("partition"), partitions[-1]).to_numpy()
    if getattr(trainer.params, "early_stopping", 0):
        _check_early_stopping(target, recent, partitions, use_case.problem, where=where)
    return TrainingData(
        matrix=encoder.encode(columns),
        target=target,
        recent=recent,
        encoder=encoder,
        problem=use_case.problem,
        classes={"binary": 2, "regression": 0}.get(use_case.problem, len(use_case.classes)),
        monotone=tuple(_DIRECTIONS.get(job.spec.monotone.get(name, ""), 0) for name in encoder.names),
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
