"""One candidate, from rows to a run: tuned, trained where its spec says, sealed, its recipe kept, logged."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.artifact import DatasetRef, ModelRef, canonical, digest_of, iso
from millrace.errors import MillraceError
from millrace.ingestion import Connections
from millrace.ingestion.connection import environment_connections
from millrace.package import FeatureSpec, Package
from millrace.registry.base import RunContent, TrainingInput
from millrace.registry.mlflow_system import sampling
from millrace.registry.mlflow_tracking import log_candidate, log_failure, note_training_run
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.holdout import held_out
from millrace.step.candidate_means import (
    CandidatePlace,
    Means,
    open_means,
    show_tuning,
    tune_candidate,
    tuning_figures,
)
from millrace.step.recipe import origin_of, record_recipe
from millrace.step.retrieval import load_functions
from millrace.training import FolderRun, Trained, TrainingJob, find_candidate, find_holdout, train_package
from millrace.training.data.rows import TrainingRows
from millrace.training.data.training_set import open_training_set
from millrace.training.isolation.isolated import train_isolated
from millrace.training.isolation.lock import read_lock
from millrace.training.isolation.source import code_digest
from millrace.training.outcome import Outcome, load_outcome
from millrace.training.registry import build_trainer
from millrace.training.run import alone, go_on, sweep_runs

if TYPE_CHECKING:
    from millrace.evaluation.base import Evaluation

log = logging.getLogger(__name__)
_SWEPT_AFTER_S = 7 * 86_400
_RECIPE = "recipe.json"
_KINDS = {"number": "double", "category": "string"}


def train_candidate(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    candidate: str,
    training_set: DatasetRef,
    *,
    settings: Settings,
    connections: Connections = environment_connections,
    run_key: str = "",
    stop: Callable[[], bool] = go_on,
) -> ModelRef:
    """Tune and train one candidate on all partitions before the holdout, seal its package and log it.

    Only labels that were known when the holdout began are used, so that nothing of the holdout's own time, not even
    when a flight of the evening before landed, reaches the model that is evaluated on it. A training that was killed
    goes on from its last checkpoint and its finished trials; one that was only not logged is only logged.

    Args:
        use_case: its use case.
        domain: the domain of that.
        candidate: name of the candidate in the spec.
        training_set: what `build_training_set` gave.
        settings: this installation.
        connections: gives the connection of a name, where the use case's engine runs elsewhere.
        run_key: names the training run that the candidates of it are shown under.
        stop: asked all the while; True ends the training.

    Returns:
        The sealed package; its digest is the same for equal rows, parameters and seed.

    Raises:
        SpecError: no such candidate or trainer, or a wrong parameter.
        TrainingError: no rows, one class, a label that is no number, or too few partitions.
        StopFitError: it was asked to end; a retry goes on.
        RegistryUnavailableError: the tracking server does not answer; the package is sealed, a retry only logs it.
    """
    job, rows = open_job(use_case, domain, candidate, training_set, settings=settings)
    sweep_runs(settings.var / "training", older_than_s=_SWEPT_AFTER_S)
    place = CandidatePlace(
        folder=folder_of(job, rows, settings=settings), settings=settings, connections=connections, stop=stop
    )
    with hold(place):
        outcome = train_outcome(job, rows, training_set, place)
        return log_outcome(job, rows, training_set, place, outcome, run_key=run_key)


def folder_of(job: TrainingJob, rows: TrainingRows, *, settings: Settings) -> Path:
    """Where a training keeps its checkpoints, and what came of it until that is logged."""
    return settings.var / "training" / _name(job, rows)


def hold(place: CandidatePlace) -> AbstractContextManager[None]:
    """Wait until no other process works in a place, and keep it for the time of a block."""
    return alone(place.folder.with_name(f".{place.folder.name}.lock"), place.stop)


def train_outcome(job: TrainingJob, rows: TrainingRows, training_set: DatasetRef, place: CandidatePlace) -> Outcome:
    """What the training came to before; where it did not yet, tune and train.

    Raises:
        SpecError, TrainingError, StopFitError: as for `train_candidate`.
    """
    return load_outcome(place.folder, packages=place.settings.packages) or _train(job, rows, training_set, place)


def log_outcome(
    job: TrainingJob,
    rows: TrainingRows,
    training_set: DatasetRef,
    place: CandidatePlace,
    outcome: Outcome,
    *,
    run_key: str = "",
) -> ModelRef:
    """Log what a training came to, and take its place away.

    Raises:
        RegistryUnavailableError: as for `train_candidate`.
    """
    use_case, settings = job.use_case, place.settings
    package = Package.open(settings.packages / outcome.package, outcome.package)
    manifest = package.manifest
    model = ModelRef(
        use_case=use_case.name,
        candidate=job.candidate,
        trainer=manifest.trainer,
        digest=package.digest,
        trained_through=manifest.training.trained_through,
        holdout=job.holdout,
    )
    run_id = log_candidate(
        use_case,
        model,
        {**manifest.params, "seed": manifest.seed, **_asked(job)},
        outcome.metrics,
        package.folder,
        settings=settings,
        run_key=run_key,
        content=dataclasses.replace(
            _content(outcome, place.folder), input=_input(job, rows, training_set, settings=settings)
        ),
    )
    shutil.rmtree(place.folder, ignore_errors=True)
    log.info("candidate %s of %s logged as run %s", job.candidate, use_case.name, run_id)
    return dataclasses.replace(model, run_id=run_id)


def open_job(
    use_case: UseCaseSpec, domain: DomainSpec, candidate: str, training_set: DatasetRef, *, settings: Settings
) -> tuple[TrainingJob, TrainingRows]:
    """The job of a candidate, before tuning, and the rows it trains on.

    Raises:
        SpecError: no such candidate, or its lock is missing.
    """
    spec = find_candidate(use_case, candidate)
    holdout = find_holdout(domain, training_set)
    first = held_out(use_case, domain, holdout.key)[0]
    features = FeatureSpec.of(use_case, domain)
    job = TrainingJob(
        use_case=use_case,
        domain=domain,
        candidate=candidate,
        table=training_set.table,
        holdout=holdout.key,
        known_until=iso(first.start),
        functions=load_functions(features, settings=settings).sources,
        lock=read_lock(settings.dags, spec.environment.lock) if spec.environment else "",
    )
    rows = open_training_set(
        use_case,
        training_set,
        lake=settings.lake,
        through=first.shift(-1).key,
        known_until=job.known_until,
        hidden=features.hidden,
    )
    return job, rows


def report_failure(
    use_case: UseCaseSpec, candidate: str, holdout: str, reason: str, *, settings: Settings, run_key: str = ""
) -> None:
    """Show in the tracking server that a candidate did not train; where that is away, the task's log has it alone."""
    try:
        log_failure(use_case, candidate, holdout, reason, settings=settings, run_key=run_key)
    except MillraceError as error:
        log.warning("the failure of %s is not in MLflow: %s", candidate, error)


def note_evaluation(use_case: UseCaseSpec, evaluation: Evaluation, *, settings: Settings, run_key: str = "") -> None:
    """Show on the training run which candidate won, with the metric of each; it stands in the evidence in any case."""
    tags = {
        "millrace.challenger": evaluation.challenger.candidate,
        "millrace.evidence": evaluation.evidence,
        "millrace.absent": ", ".join(evaluation.absent),
    }
    metrics = {
        f"{name}.{evaluation.metric}": found["value"]
        for name, found in evaluation.metrics.items()
        if found.get("value") is not None
    }
    try:
        note_training_run(use_case, evaluation.holdout, tags, metrics, settings=settings, run_key=run_key)
    except MillraceError as error:
        log.warning("the evaluation is not in MLflow: %s", error)


def _train(job: TrainingJob, rows: TrainingRows, training_set: DatasetRef, place: CandidatePlace) -> Outcome:
    """Tune where the spec says so, train, seal and keep the recipe; what came of it is kept until it is logged."""
    place.folder.mkdir(parents=True, exist_ok=True)
    started, origin = _now_ms(), origin_of(place.settings)
    with open_means(job, place) as means, sampling() as samples:
        tuned = tune_candidate(job, rows, place, means) if job.spec.tuning else None
        if tuned is not None:
            job = dataclasses.replace(job, params={**job.params, **tuned.params})
        run = FolderRun(folder=place.folder / f"fit-{job.digest(rows.digest)[:16]}", stop=place.stop)
        trained = _fit(job, rows, run, place, means)
    recipe = record_recipe(
        job,
        trained.package,
        training_set,
        origin=origin,
        settings=place.settings,
        libraries=trained.libraries or None,
        tuned=tuned,
    )
    (place.folder / _RECIPE).write_bytes(canonical(recipe.to_dict()))
    tuning = tuning_figures(tuned) if tuned else ({}, {})
    outcome = Outcome(
        package=trained.package.digest,
        params=dict(tuned.params) if tuned else {},
        metrics={**tuning[0], **trained.metrics},
        curves={**tuning[1], **run.curves},
        samples=samples,
        started=started,
        ended=_now_ms(),
        files=[_RECIPE, *(show_tuning(tuned, place) if tuned else [])],
    )
    outcome.store(place.folder)
    run.discard()
    return outcome


def _fit(job: TrainingJob, rows: TrainingRows, run: FolderRun, place: CandidatePlace, means: Means) -> Trained:
    store = place.settings.packages
    if means.environment is not None:
        return train_isolated(job, rows, environment=means.environment, store=store, run=run, stop=place.stop)
    if job.spec.workers > 1 and means.engine is not None:
        from millrace.training.cluster.ray_training import train_on_ray

        return train_on_ray(job, rows, engine=means.engine, store=store, run=run, stop=place.stop)
    return train_package(job, rows, store=store, run=run)


def _asked(job: TrainingJob) -> dict[str, Any]:
    """What decides the model beside the trainer's own parameters; how many workers in any case."""
    asked = {
        "class_weight": job.spec.class_weight,
        "monotone": job.spec.monotone,
        "label.weight": job.use_case.label.weight,
        "environment.lock": hashlib.sha256(job.lock.encode()).hexdigest() if job.lock else "",
    }
    return {"workers": job.spec.workers, **{name: value for name, value in asked.items() if value}}


def _content(outcome: Outcome, folder: Path) -> RunContent:
    return RunContent(
        started=outcome.started,
        ended=outcome.ended,
        curves=outcome.curves,
        samples=outcome.samples,
        files=[(str(Path(name).parent).strip("."), folder / name) for name in outcome.files],
    )


def _input(job: TrainingJob, rows: TrainingRows, training_set: DatasetRef, *, settings: Settings) -> TrainingInput:
    columns = {column.name: _KINDS[column.kind] for column in job.features.model}
    return TrainingInput(
        ref=training_set,
        uri=f"{settings.lake.rstrip('/')}/{training_set.table}",
        columns={"label": "double", **columns},
        rows=rows.num_rows,
        partitions=rows.partitions,
    )


def _name(job: TrainingJob, rows: TrainingRows) -> str:
    """Names the folder of a training: equal jobs on equal rows with the same library and code go on from each other."""
    library = (
        {} if job.lock else dataclasses.asdict(build_trainer(job.spec.trainer, job.values, where=job.where).library)
    )
    return digest_of([job.digest(rows.digest), library, code_digest(job.spec.trainer)])


def _now_ms() -> int:
    return int(time.time() * 1000)
