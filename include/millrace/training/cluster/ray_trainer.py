"""A trainer whose fit is done by several workers of a Ray cluster, each on its share of the rows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.errors import EngineError
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, Trainer, TrainingData
from millrace.training.cluster.share import cut_share, share_rows
from millrace.training.params import TrainerParams
from millrace.training.run import Checkpoint, FitRun, StopFitError, go_on

if TYPE_CHECKING:
    from millrace.engine.ray_engine import RayEngine

log = logging.getLogger(__name__)
_POLL_S = 0.5
_ABORT_S = 4.0
_ROOM = 8
"""Calls of the notebook at once, a worker: each waits for its end, also those that died meanwhile."""
_QUICK = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}
"""How often the end of a worker is looked for; the default adds seconds to each fit."""


@dataclass(slots=True, kw_only=True)
class RayTrainer:
    """A trainer whose fit is done by several workers.

    Attributes:
        inner: what each worker does on its share.
        engine: where they run.
        workers: how many.
        resources: what each takes.
        stop: whether the fit shall end.
    """

    inner: Trainer
    engine: RayEngine
    workers: int
    resources: dict[str, float]
    stop: Callable[[], bool] = go_on

    @property
    def params(self) -> TrainerParams:
        """Those of the inner trainer."""
        return self.inner.params

    @property
    def library(self) -> Library:
        """That of the inner trainer."""
        return self.inner.library

    @property
    def model(self) -> ModelFile:
        """That of the inner trainer."""
        return self.inner.model

    @property
    def scaled(self) -> bool:
        """As the inner trainer wants it."""
        return self.inner.scaled

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train; equal data, parameters, seed and number of workers give equal bytes on one machine.

        Raises:
            EngineError: the cluster is too small, or workers died too often.
            StopFitError: the run was asked to end.
        """
        self.engine.start()
        import ray

        from millrace.training.cluster.ray_worker import Notebook, Work, conduct

        self._check_room(ray)
        begun = run.restore()
        notebook = ray.remote(Notebook).options(num_cpus=0, max_concurrency=self.workers * _ROOM).remote(begun)
        work = Work(
            trainer=type(self.inner),
            params=self.params,
            library=self.library.name,
            seed=seed,
            workers=self.workers,
            resources=self.resources,
            shares=tuple(self._put_share(ray, data, worker, run) for worker in range(self.workers)),
            notebook=notebook,
        )
        options = {"num_cpus": 0, "max_retries": 0, "runtime_env": {"env_vars": _QUICK}}
        conducted = ray.remote(conduct).options(**options).remote(work)
        try:
            fit = self._follow(ray, conducted, notebook, run, begun)
        finally:
            _end(ray, conducted)
            ray.kill(notebook)
        return dataclasses.replace(fit, facts={**fit.facts, "workers": self.workers})

    def _put_share(self, ray: Any, data: TrainingData, worker: int, run: FitRun) -> Any:
        watched = bool(getattr(self.params, "early_stopping", 0))
        rows = share_rows(data.recent, worker, self.workers, watched=watched, even=self.library.name == "torch")
        with cut_share(data, rows, run.folder) as share:
            return ray.put(share)

    def _follow(self, ray: Any, conducted: Any, notebook: Any, run: FitRun, begun: Checkpoint | None) -> Fit:
        """Hand on what the workers tell, until they are done, fail, or shall end."""
        told, done = 0, begun.done if begun else 0
        while True:
            ended = self._wait(ray, conducted, once=True)
            news = notebook.read.remote(told, done)
            self._wait(ray, news)
            said, checkpoint, failure = ray.get(news)
            told += len(said)
            for step, metrics in said:
                run.report(step, metrics)
            if checkpoint is not None:
                done = checkpoint.done
                run.save(checkpoint)
            if failure is not None:
                raise failure
            if ended:
                return _result_of(ray, conducted)

    def _wait(self, ray: Any, reference: Any, *, once: bool = False) -> bool:
        """Whether something is there: within a moment, or however long it takes."""
        while True:
            if self.stop():
                raise StopFitError("the fit on Ray was asked to end")
            if ray.wait([reference], timeout=_POLL_S)[0]:
                return True
            if once:
                return False

    def _check_room(self, ray: Any) -> None:
        """A cluster of one's own never grows; one that runs elsewhere may, so that is only told."""
        found = ray.cluster_resources()
        short = {name: each * self.workers for name, each in self.resources.items()}
        short = {name: all_of for name, all_of in short.items() if all_of > found.get(name, 0)}
        if not short:
            return
        wanted = ", ".join(f"{all_of:g} {name}, there are {found.get(name, 0):g}" for name, all_of in short.items())
        if self.engine.address:
            log.warning("%d workers need %s; waiting for the cluster to grow", self.workers, wanted)
            return
        raise EngineError(
            f"{self.workers} workers need {wanted}",
            where="this machine",
            remedy="lower the candidate's `workers`, or `threads` in its params; or name a larger cluster in "
            "compute.connection",
        )


def _end(ray: Any, conducted: Any) -> None:
    """End what still runs: first by asking, which gives the cluster its room back, then by force."""
    if ray.wait([conducted], timeout=0)[0]:
        return
    ray.cancel(conducted)
    if not ray.wait([conducted], timeout=_ABORT_S)[0]:
        ray.cancel(conducted, force=True)


def _result_of(ray: Any, conducted: Any) -> Fit:
    try:
        found: Fit = ray.get(conducted)
    except ray.exceptions.RayTaskError as error:
        raise _lost(error) from error
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise _lost(error) from error
    return found


def _lost(error: Exception) -> EngineError:
    cause = getattr(error, "cause", None) or error
    failures = getattr(cause, "worker_failures", {})
    told = next(iter(failures.values()), cause)
    line = next((line for line in reversed(str(told).strip().splitlines()) if line.strip()), type(told).__name__)
    return EngineError(
        f"workers that train together were lost: {line.strip()[:300]}",
        where=f"Ray, {type(told).__name__}",
        remedy="workers die mostly for want of memory: give the cluster larger nodes, or the candidate more workers; "
        "then run the task again, it goes on from the last checkpoint",
    )
