"""What runs on a Ray cluster when several workers train one model: their loop, and the notebook they write into."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train

from millrace.errors import MillraceError
from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.params import TrainerParams
from millrace.training.run import Checkpoint

_TRAINERS = {
    "lightgbm": ("ray.train.lightgbm", "LightGBMTrainer"),
    "torch": ("ray.train.torch", "TorchTrainer"),
    "xgboost": ("ray.train.xgboost", "XGBoostTrainer"),
}
"""Library → the trainer of Ray's that lets its workers speak to each other."""
_ANY = ("ray.train.data_parallel_trainer", "DataParallelTrainer")
_TELL_S = 0.5
WORKER_RETRIES = 3
Said = list[tuple[int, dict[str, float]]]
"""Round or epoch, and its metrics."""


@dataclass(slots=True)
class Notebook:
    """What the workers tell and the task reads; it lies in a process of its own, so that it outlives them."""

    checkpoint: Checkpoint | None = None
    said: Said = field(default_factory=list)
    failure: MillraceError | None = None

    def restore(self) -> Checkpoint | None:
        """The last checkpoint."""
        return self.checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep one in place of the one before."""
        self.checkpoint = checkpoint

    def report(self, said: Said) -> None:
        """Keep figures; those of a step that is done again are left out."""
        last = self.said[-1][0] if self.said else -1
        self.said += [(step, metrics) for step, metrics in said if step > last]

    def fail(self, error: MillraceError) -> None:
        """Keep why no worker can go on: trying again would not help."""
        self.failure = self.failure or error

    def last(self) -> None:
        """Return never: who waits for it learns when the notebook is taken away."""
        threading.Event().wait()

    def read(self, told: int, done: int) -> tuple[Said, Checkpoint | None, MillraceError | None]:
        """Figures after the first `told`, a checkpoint with more than `done` behind it, and a failure."""
        newer = self.checkpoint if self.checkpoint is not None and self.checkpoint.done > done else None
        return self.said[told:], newer, self.failure


@dataclass(slots=True)
class WorkerRun:
    """A worker's side of a run: all go on from the same checkpoint, the first one alone writes.

    Attributes:
        folder: on the worker's machine.
        notebook: handle of the notebook.
        first: whether this is the first worker.
    """

    folder: Path
    notebook: Any
    first: bool
    _waiting: Said = field(default_factory=list)
    _told_at: float = 0.0

    def restore(self) -> Checkpoint | None:
        """The checkpoint that the workers before them left, or the task that was killed."""
        found: Checkpoint | None = ray.get(self.notebook.restore.remote())
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it down before anyone goes on."""
        if self.first:
            self.tell()
            ray.get(self.notebook.save.remote(checkpoint))

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell figures, many at once: a call for each round would cost more than the round."""
        if not self.first:
            return
        self._waiting.append((step, dict(metrics)))
        if time.monotonic() - self._told_at > _TELL_S:
            self.tell()

    def tell(self) -> None:
        """Tell what waits."""
        if self._waiting:
            self.notebook.report.remote(self._waiting)
        self._waiting, self._told_at = [], time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the workers need.

    Attributes:
        trainer: the class of the trainer.
        params: its parameters.
        library: name of its library.
        seed: of the fit.
        workers: how many there are.
        resources: what each takes of the cluster.
        shares: reference to the rows of each.
        notebook: handle of the notebook.
    """

    trainer: Callable[..., Trainer]
    params: TrainerParams
    library: str
    seed: int
    workers: int
    resources: dict[str, float]
    shares: tuple[Any, ...]
    notebook: Any


def conduct(work: Work) -> Fit:
    """Start the workers and wait for their model; they begin anew from the last checkpoint where one dies."""
    module, name = _TRAINERS.get(work.library, _ANY)
    folder = tempfile.mkdtemp(prefix="millrace-train-")
    try:
        trainer = getattr(importlib.import_module(module), name)(
            train_together,
            train_loop_config={"work": work},
            scaling_config=ray.train.ScalingConfig(
                num_workers=work.workers,
                use_gpu=work.resources.get("GPU", 0) > 0,
                resources_per_worker=work.resources,
            ),
            run_config=ray.train.RunConfig(
                name="fit",
                storage_path=folder,
                failure_config=ray.train.FailureConfig(max_failures=WORKER_RETRIES),
            ),
        )
        found: Fit = trainer.fit().return_value
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def train_together(config: Mapping[str, Any]) -> Fit | None:
    """One worker: our own trainer's `fit` on its share, inside the group that the library's communicator makes."""
    work: Work = config["work"]
    rank = ray.train.get_context().get_world_rank()
    data: TrainingData = ray.get(work.shares[rank])
    threading.Thread(target=_end_with, args=(work.notebook,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="millrace-share-") as folder:
        run = WorkerRun(folder=Path(folder), notebook=work.notebook, first=rank == 0)
        try:
            fit = _trainer_of(work).fit(data, seed=work.seed, run=run)
        except MillraceError as error:
            ray.get(work.notebook.fail.remote(error))
            raise
        finally:
            run.tell()
    return None if rank else fit


def _end_with(notebook: Any) -> None:
    """End this process once the task has taken the notebook away: a fit in native code hears of nothing else."""
    try:
        ray.get(notebook.last.remote())
    except ray.exceptions.RayActorError:
        os._exit(1)


def _trainer_of(work: Work) -> Trainer:
    """The trainer with its part of what is meant for all: rows of a step, and where the others are."""
    params, options = work.params, {}
    if work.library == "lightgbm" and work.workers > 1:
        from ray.train.lightgbm import get_network_params

        options["network"] = {**get_network_params(), "tree_learner": "data", "pre_partition": True}
    if size := getattr(params, "batch_size", 0):
        params = params.model_copy(update={"batch_size": max(1, -(-size // work.workers))})
    return work.trainer(params, **options)
