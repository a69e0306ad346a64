"""One candidate, from rows to a run: tuned, trained where its spec says, sealed, its recipe kept, logged."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from millrace.step.engine import engine_for
from millrace.step.recipe import origin_of, record_recipe
from millrace.step.retrieval import load_functions
from millrace.training import FolderRun, Trained, TrainingJob, find_candidate, find_holdout, train_package
from millrace.training.data.rows import TrainingRows
from millrace.training.data.training_set import open_training_set
from millrace.training.isolation.environment import build_environment
from millrace.training.isolation.isolated import train_isolated
from millrace.training.isolation.lock import read_lock
from millrace.training.isolation.software import code_digest
from millrace.training.outcome import Outcome, load_outcome, write_trials
from millrace.training.registry import build_trainer
from millrace.training.run import Curves, alone, go_on, sweep_runs

if TYPE_CHECKING:
    from millrace.engine import Engine
    from millrace.evaluation.base import Evaluation
    from millrace.training.tuning.tune import Tuned

log = logging.getLogger(__name__)
_SWEPT_AFTER_S = 7 * 86_400
_TUNING = "tuning"
_RECIPE = "recipe.json"
_KINDS = {"number": "double", "category": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where and until when a candidate trains."""

    folder: Path
    settings: Settings
    connections: Connections
    stop: Callable[[], bool]


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
    root = settings.var / "training"
    sweep_runs(root, older_than_s=_SWEPT_AFTER_S)
    place = _Place(folder=root / _name(job, rows), settings=settings, connections=connections, stop=stop)
    with alone(place.folder.with_name(f".{place.folder.name}.lock"), stop):
        return _train_and_log(job, rows, training_set, place, run_key)


def _train_and_log(
    job: TrainingJob, rows: TrainingRows, training_set: DatasetRef, place: _Place, run_key: str
) -> ModelRef:
    use_case, settings = job.use_case, place.settings
    outcome = load_outcome(place.folder, packages=settings.packages) or _train(job, rows, training_set, place)
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
    features = FeatureSpec.of(use_case, domain)
    job = TrainingJob(
        use_case=use_case,
        domain=domain,
        candidate=candidate,
        table=training_set.table,
        holdout=holdout.key,
        known_until=iso(holdout.start),
        functions=load_functions(features, settings=settings).sources,
        lock=read_lock(settings.dags, spec.environment.lock) if spec.environment else "",
    )
    rows = open_training_set(
        use_case,
        training_set,
        lake=settings.lake,
        through=holdout.shift(-1).key,
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


def _train(job: TrainingJob, rows: TrainingRows, training_set: DatasetRef, place: _Place) -> Outcome:
    """Tune where the spec says so, train, seal and keep the recipe; what came of it is kept until it is logged."""
    place.folder.mkdir(parents=True, exist_ok=True)
    started, origin = _now_ms(), origin_of(place.settings)
    with _engine(job, place) as engine, sampling() as samples:
        tuned = _tune(job, rows, place, engine) if job.spec.tuning else None
        if tuned is not None:
            job = dataclasses.replace(job, params={**job.params, **tuned.params})
        run = FolderRun(folder=place.folder / f"fit-{job.digest(rows.digest)[:16]}", stop=place.stop)
        trained = _fit(job, rows, run, place, engine)
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
    tuning = _figures(tuned) if tuned else ({}, {})
    outcome = Outcome(
        package=trained.package.digest,
        params=dict(tuned.params) if tuned else {},
        metrics={**tuning[0], **trained.metrics},
        curves={**tuning[1], **run.curves},
        samples=samples,
        started=started,
        ended=_now_ms(),
        files=[_RECIPE, *(_show(tuned, place) if tuned else [])],
    )
    outcome.store(place.folder)
    run.discard()
    return outcome


def _fit(job: TrainingJob, rows: TrainingRows, run: FolderRun, place: _Place, engine: Engine | None) -> Trained:
    store = place.settings.packages
    if job.lock:
        environment = build_environment(job.lock, store=place.settings.var / "environments", stop=place.stop)
        return train_isolated(job, rows, environment=environment, store=store, run=run, stop=place.stop)
    if job.spec.workers > 1 and engine is not None:
        from millrace.training.cluster.ray_training import train_on_ray

        return train_on_ray(job, rows, engine=engine, store=store, run=run, stop=place.stop)
    return train_package(job, rows, store=store, run=run)


def _tune(job: TrainingJob, rows: TrainingRows, place: _Place, engine: Engine | None) -> Tuned:
    from millrace.training.tuning.tune import tune

    spread = None
    if engine is not None and job.spec.tuning and job.spec.tuning.parallel > 1:
        from millrace.training.cluster.ray_tuning import RaySpread

        spread = RaySpread(engine=engine)
    return tune(
        job,
        rows,
        storage=place.settings.state_url,
        folder=place.folder / _TUNING,
        seed=job.use_case.seed,
        stop=place.stop,
        spread=spread,
    )


def _show(tuned: Tuned, place: _Place) -> list[str]:
    """Draw the study and write its trials as a table; the files, relative to the training's folder."""
    from millrace.training.tuning.optuna_plot import draw_study

    folder = place.folder / _TUNING
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "trials.csv"
    write_trials([dataclasses.asdict(trial) for trial in tuned.trials], table)
    drawn = draw_study(tuned.study, storage=place.settings.state_url, folder=folder)
    return [str(path.relative_to(place.folder)) for path in (table, *drawn)]


def _figures(tuned: Tuned) -> tuple[dict[str, float], Curves]:
    """Figures of a tuning, and its values by number of the trial."""
    values = [
        (trial.number, trial.value) for trial in tuned.trials if trial.state == "complete" and trial.value is not None
    ]
    metrics = {f"tuned_{tuned.metric}": tuned.value, "trials": float(len(tuned.trials))}
    if tuned.untuned is not None:
        metrics[f"untuned_{tuned.metric}"] = tuned.untuned
    metrics |= {f"importance.{name}": share for name, share in tuned.importance.items()}
    return metrics, {f"trial_{tuned.metric}": sorted(values)}


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


@contextmanager
def _engine(job: TrainingJob, place: _Place) -> Iterator[Engine | None]:
    """The use case's engine, where the candidate trains or is tuned on several workers of it."""
    spec, compute = job.spec, job.use_case.compute
    tuned_there = compute.engine != "local" and spec.tuning is not None and spec.tuning.parallel > 1
    with ExitStack() as stack:
        wanted = spec.workers > 1 or tuned_there
        yield stack.enter_context(engine_for(compute, connections=place.connections)) if wanted else None


def _name(job: TrainingJob, rows: TrainingRows) -> str:
    """Names the folder of a training: equal jobs on equal rows with the same library and code go on from each other."""
    library = (
        {} if job.lock else dataclasses.asdict(build_trainer(job.spec.trainer, job.values, where=job.where).library)
    )
    return digest_of([job.digest(rows.digest), library, code_digest()])


def _now_ms() -> int:
    return int(time.time() * 1000)
