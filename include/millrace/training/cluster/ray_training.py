"""A candidate trained by several workers of a Ray cluster, into the same kind of package as one trained here."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.engine import Engine, require_ray
from millrace.training.candidate import Trained, prepare_training, seal_candidate
from millrace.training.cluster.ray_trainer import RayTrainer
from millrace.training.data.rows import TrainingRows
from millrace.training.job import TrainingJob
from millrace.training.run import FitRun, LooseRun, go_on

if TYPE_CHECKING:
    import pyarrow as pa


log = logging.getLogger(__name__)


def train_on_ray(
    job: TrainingJob,
    rows: pa.Table | TrainingRows,
    *,
    engine: Engine,
    store: Path,
    run: FitRun | None = None,
    stop: Callable[[], bool] = go_on,
) -> Trained:
    """Train a candidate with its `workers` on a Ray cluster and seal it as `train_package` does.

    Rows are encoded here, once; each worker gets a share of them and trains the library's own distributed way. A worker
    that dies is replaced and all go on from the last checkpoint; so does a task that is tried again.

    Args:
        job: what decides the outcome, but for the rows.
        rows: as for `train_package`.
        engine: the Ray engine of the use case.
        store: folder of all packages.
        run: where checkpoints go and progress is told; by default nothing is kept.
        stop: asked twice a second; once it is true the workers are ended.

    Raises:
        SettingsError: the engine is not Ray.
        SpecError: as for `train_package`.
        EngineError: the cluster is too small, or workers died too often.
        StopFitError: the run was asked to end.
        TrainingError: as for `train_package`.
    """
    spec = job.spec
    ray_engine = require_ray(engine, where=f"use_cases/{job.use_case.name}.yaml: compute.engine")
    run = run or LooseRun(folder=Path(tempfile.gettempdir()))
    prepared = prepare_training(job, rows, folder=run.folder)
    trainer = prepared.trainer
    resources = {"CPU": float(trainer.params.threads)}
    if spec.resources.gpu:
        resources["GPU"] = float(spec.resources.gpu)
    together = RayTrainer(inner=trainer, engine=ray_engine, workers=spec.workers, resources=resources, stop=stop)
    started = time.perf_counter()
    fit = together.fit(prepared.data, seed=job.use_case.seed, run=run)
    seconds = time.perf_counter() - started
    log.info("%s of %s trained by %d workers in %.1f s", job.candidate, job.use_case.name, spec.workers, seconds)
    return seal_candidate(job, prepared, fit, store=store, seconds=seconds)
