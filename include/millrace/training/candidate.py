"""One candidate: rows in, sealed package out. Equal rows, parameters and seed give the same digest."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.errors import MillraceError, TrainingError
from millrace.package import (
    Encoder,
    FeatureSpec,
    GoldenRows,
    Manifest,
    OnDemandFunctions,
    Package,
    Predictor,
    TrainingRecord,
    seal_package,
)
from millrace.package.predictor import load_model
from millrace.spec.holdout import span
from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.check import (
    check_computed,
    check_fit,
    check_job,
    check_partitions,
    check_predictions,
    check_rows,
)
from millrace.training.data.encoding import encode_rows
from millrace.training.data.rows import TrainingRows, as_rows
from millrace.training.golden import GoldenSearch, choose_golden
from millrace.training.job import TrainingJob
from millrace.training.registry import build_trainer, check_candidate
from millrace.training.run import FitRun, LooseRun, StopFitError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A sealed candidate.

    Attributes:
        package: the package, verified.
        metrics: facts of the training for the tracking server; none of them is in the package.
        libraries: library → version of the environment it was trained in; empty where that was this process.
    """

    package: Package
    metrics: dict[str, float]
    libraries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A candidate just before its fit.

    Attributes:
        trainer: what fits it.
        data: what it is fitted on.
        features: what the model sees.
        functions: the functions of on-demand features.
        record: the rows, for the manifest.
        golden: real rows to prove the model by.
        all_missing: features without a single value in the training rows: trained on all the same, and said so.
    """

    trainer: Trainer
    data: TrainingData
    features: FeatureSpec
    functions: OnDemandFunctions
    record: TrainingRecord
    golden: list[dict[str, Any]]
    all_missing: list[str]


def train_package(
    job: TrainingJob, rows: pa.Table | TrainingRows, *, store: Path, run: FitRun | None = None
) -> Trained:
    """Train a candidate on rows of the training set and seal it.

    Args:
        job: what decides the outcome, but for the rows.
        rows: training rows in time order, as `open_training_set` or `load_training_set` give them.
        store: folder of all packages.
        run: where checkpoints go and progress is told; by default nothing is kept.

    Raises:
        SpecError: no such candidate or trainer, or a wrong parameter.
        FeatureError: functions are missing, or fail.
        TrainingError: the rows cannot be trained on, or were computed by other functions.
        StopFitError: the run was asked to end.
    """
    run = run or LooseRun(folder=Path(tempfile.gettempdir()))
    prepared = prepare_training(job, rows, folder=run.folder)
    started = time.perf_counter()
    fit = _fit(job, prepared, run)
    seconds = time.perf_counter() - started
    check_fit(fit, where=_whose(job))
    count = prepared.record.rows
    log.info("%s of %s trained on %d rows in %.1f s", job.candidate, job.use_case.name, count, seconds)
    return seal_candidate(job, prepared, fit, store=store, seconds=seconds)


def _fit(job: TrainingJob, prepared: Prepared, run: FitRun) -> Fit:
    """The fit; whatever a trainer outside Millrace raises becomes an error that names it."""
    try:
        return prepared.trainer.fit(prepared.data, seed=job.use_case.seed, run=run)
    except (MillraceError, StopFitError):
        raise
    except (Exception, SystemExit) as error:
        if ":" not in job.spec.trainer:
            raise
        raise TrainingError(
            f"its `fit` failed: {type(error).__name__}: {error}",
            where=_whose(job),
            remedy="mend the trainer, or its params; the traceback is in the log",
        ) from error


def prepare_training(job: TrainingJob, rows: pa.Table | TrainingRows, *, folder: Path) -> Prepared:
    """Check and encode training rows.

    Args:
        job: what decides the outcome, but for the rows.
        rows: as for `train_package`.
        folder: for the file of a matrix that is too large for memory.

    Raises:
        SpecError: no such candidate or trainer, or it is asked for what it has not.
        FeatureError: functions are missing, or fail.
        TrainingError: the rows cannot be trained on, or were computed by other functions.
    """
    spec, use_case, where = job.spec, job.use_case, job.table
    check_candidate(spec, use_case.problem, where=job.where, values=job.values, weighted=bool(use_case.label.weight))
    trainer = build_trainer(spec.trainer, job.values, where=job.where)
    check_job(job)
    stream, features, functions = as_rows(rows), job.features, job.on_demand
    check_rows(stream.num_rows, where=where)
    check_partitions(stream.partitions, use_case.min_training_partitions, holdout=span(job.held_out), where=where)
    search = GoldenSearch(stream.num_rows, features.inputs)
    seen: list[Callable[[pa.RecordBatch], None]] = [
        search.look,
        lambda batch: check_computed(batch, features, functions, where=where),
    ]
    inputs = [column.name for column in features.inputs]
    data = encode_rows(job, stream, trainer, folder=folder, observers=seen, columns=inputs)
    record = TrainingRecord(
        table=where,
        digest=stream.digest,
        rows=stream.num_rows,
        partitions=stream.partitions,
        trained_through=stream.partitions[-1],
        holdout=job.holdout,
        known_until=job.known_until,
    )
    return Prepared(
        trainer=trainer,
        data=data,
        features=features,
        functions=functions,
        record=record,
        golden=search.rows,
        all_missing=_all_missing(data),
    )


def seal_candidate(job: TrainingJob, prepared: Prepared, fit: Fit, *, store: Path, seconds: float) -> Trained:
    """Seal a fitted candidate with golden predictions of the very bytes that are sealed.

    Args:
        job: what decided the outcome, but for the rows.
        prepared: what it was fitted on.
        fit: the model.
        store: folder of all packages.
        seconds: how long the fit took, for the tracking server.

    Raises:
        PackageError: the model is not read, or the store cannot be written to.
        TrainingError: what it predicts is no prediction.
    """
    trainer, encoder, features = prepared.trainer, prepared.data.encoder, prepared.features
    manifest = Manifest(
        use_case=job.use_case.name,
        candidate=job.candidate,
        trainer=job.spec.trainer,
        problem=job.use_case.problem,
        params=trainer.params.model_dump(mode="json"),
        seed=job.use_case.seed,
        library=trainer.library,
        model=trainer.model,
        training=prepared.record,
        facts={**fit.facts, "all_missing": prepared.all_missing},
        classes=list(job.use_case.classes),
    )
    golden = _golden(job, prepared, _predictor(manifest, encoder, fit))
    package = seal_package(
        store,
        manifest,
        features=features,
        encoder=encoder,
        golden=golden,
        model=fit.content,
        functions=prepared.functions,
        lock=job.lock,
    )
    size = sum(map(len, package.content.values()))
    metrics = {"train_rows": float(prepared.record.rows), "train_seconds": seconds, "package_bytes": float(size)}
    return Trained(package=package, metrics={**metrics, **fit.metrics})


def _golden(job: TrainingJob, prepared: Prepared, predictor: Predictor) -> GoldenRows:
    """Golden rows with predictions that are some; a reader outside Millrace may give or raise anything."""
    try:
        golden = choose_golden(prepared.golden, prepared.features, prepared.functions, predictor)
        check_predictions(golden, job.use_case.problem, classes=len(job.use_case.classes), where=_whose(job))
    except MillraceError:
        raise
    except (Exception, SystemExit) as error:
        if ":" not in job.spec.trainer:
            raise
        raise TrainingError(
            f"{prepared.trainer.model.format!r} is read, but predicts nothing: {type(error).__name__}: {error}",
            where=_whose(job),
            remedy="let what its `load` gives have score(matrix) -> float64 array, as millrace.package says",
        ) from error
    return golden


def _whose(job: TrainingJob) -> str:
    return f"{job.where}.trainer: {job.spec.trainer}"


def _all_missing(data: TrainingData) -> list[str]:
    empty = np.ones(len(data.encoder.columns), bool)
    for block in range(0, len(data.matrix), 1 << 14):
        if not (open_columns := np.flatnonzero(empty)).size:
            break
        empty[open_columns] = np.isnan(data.matrix[block : block + (1 << 14), open_columns]).all(axis=0)
    found = [
        column.name
        for column, missing in zip(data.encoder.columns, empty.tolist(), strict=True)
        if (missing if column.kind == "number" else not column.vocabulary)
    ]
    if found:
        log.warning("features without a single value in the training rows: %s", ", ".join(found))
    return found


def _predictor(manifest: Manifest, encoder: Encoder, fit: Fit) -> Predictor:
    """What will read the package: the golden predictions are its own."""
    read = Encoder.from_bytes(encoder.to_bytes())
    return Predictor(
        read,
        load_model(
            manifest.model.format,
            fit.content,
            encoder=read,
            problem=manifest.problem,
            threads=1,
            classes=len(manifest.classes),
            trainer=manifest.trainer,
        ),
    )
