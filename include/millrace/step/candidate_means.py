"""Tuning of a candidate, and what trains it: this process, an environment of its own, or the use case's engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.ingestion import Connections
from millrace.settings import Settings
from millrace.step.engine import engine_for
from millrace.step.environment import environments_folder
from millrace.training import TrainingJob
from millrace.training.data.rows import TrainingRows
from millrace.training.isolation.environment import Environment
from millrace.training.isolation.environment_store import hold_environment
from millrace.training.outcome import write_trials
from millrace.training.run import Curves

if TYPE_CHECKING:
    from millrace.engine import Engine
    from millrace.training.tuning.tune import Tuned

_TUNING = "tuning"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePlace:
    """Where and until when a candidate trains.

    Attributes:
        folder: for checkpoints and all else that goes once it is logged.
        settings: this installation.
        connections: gives the connection of a name.
        stop: True ends the training.
    """

    folder: Path
    settings: Settings
    connections: Connections
    stop: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What trains and tunes a candidate, where this process does not: one of the two, or neither.

    Attributes:
        environment: its own, held.
        engine: that of the use case, started.
    """

    environment: Environment | None = None
    engine: Engine | None = None


@contextmanager
def open_means(job: TrainingJob, place: CandidatePlace) -> Iterator[Means]:
    """The candidate's own environment; else the use case's engine, where several workers of it train or tune."""
    spec, compute = job.spec, job.use_case.compute
    tuned_there = compute.engine != "local" and spec.tuning is not None and spec.tuning.parallel > 1
    with ExitStack() as stack:
        if job.lock:
            store = environments_folder(place.settings)
            yield Means(environment=stack.enter_context(hold_environment(job.lock, store=store, stop=place.stop)))
        elif spec.workers > 1 or tuned_there:
            yield Means(engine=stack.enter_context(engine_for(compute, connections=place.connections)))
        else:
            yield Means()


def tune_candidate(job: TrainingJob, rows: TrainingRows, place: CandidatePlace, means: Means) -> Tuned:
    """Search for the parameters of a candidate, by what trains it."""
    from millrace.training.tuning.tune import tune

    spread, judging = None, None
    if means.environment is not None:
        from millrace.training.tuning.isolated_judge import judge_isolated

        judging = partial(judge_isolated, environment=means.environment, stop=place.stop)
    elif means.engine is not None and job.spec.tuning and job.spec.tuning.parallel > 1:
        from millrace.training.cluster.ray_tuning import RaySpread

        spread = RaySpread(engine=means.engine)
    return tune(
        job,
        rows,
        storage=place.settings.state_url,
        folder=place.folder / _TUNING,
        seed=job.use_case.seed,
        stop=place.stop,
        spread=spread,
        judging=judging,
    )


def show_tuning(tuned: Tuned, place: CandidatePlace) -> list[str]:
    """Draw the study and write its trials as a table; the files, relative to the training's folder."""
    from millrace.training.tuning.optuna_plot import draw_study

    folder = place.folder / _TUNING
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "trials.csv"
    write_trials([dataclasses.asdict(trial) for trial in tuned.trials], table)
    drawn = draw_study(tuned.study, storage=place.settings.state_url, folder=folder)
    return [str(path.relative_to(place.folder)) for path in (table, *drawn)]


def tuning_figures(tuned: Tuned) -> tuple[dict[str, float], Curves]:
    """Figures of a tuning, and its values by number of the trial."""
    values = [
        (trial.number, trial.value) for trial in tuned.trials if trial.state == "complete" and trial.value is not None
    ]
    metrics = {f"tuned_{tuned.metric}": tuned.value, "trials": float(len(tuned.trials))}
    if tuned.untuned is not None:
        metrics[f"untuned_{tuned.metric}"] = tuned.untuned
    metrics |= {f"importance.{name}": share for name, share in tuned.importance.items()}
    return metrics, {f"trial_{tuned.metric}": sorted(values)}
