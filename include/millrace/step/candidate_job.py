"""The training of a candidate as a job of the use case's Ray cluster, which outlives the task that asked for it.

Job and task share the folder of the training: the job reads there what to train, and leaves what came of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from millrace.artifact import DatasetRef, ModelRef, digest_of
from millrace.engine import ray_fault
from millrace.errors import EngineError, MillraceError
from millrace.ingestion import Connections
from millrace.ingestion.connection import environment_connections
from millrace.settings import Settings, readers
from millrace.spec import ComputeSpec, DomainSpec, UseCaseSpec
from millrace.step.candidate import folder_of, hold, log_outcome, open_job
from millrace.step.candidate_means import CandidatePlace
from millrace.training import TrainingJob
from millrace.training.isolation.worker_process import error_of
from millrace.training.outcome import load_outcome
from millrace.training.registry import check_params
from millrace.training.run import StopFitError, go_on

if TYPE_CHECKING:
    from millrace.engine.ray_jobs import RayJobs
    from millrace.training.data.rows import TrainingRows

log = logging.getLogger(__name__)
JOB, REQUEST, FAILURE = "job.json", "request.json", "failure.json"
LOST = "LOST"
_ACTIVE, _DONE, _STOPPED, _UNKNOWN = {"PENDING", "RUNNING"}, "SUCCEEDED", "STOPPED", "UNKNOWN"
_NEEDED = ("root", "var", "dags", "feature_repo", "lake", "packages", "reports", "lock")
_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


def open_jobs(compute: ComputeSpec, *, connections: Connections = environment_connections) -> RayJobs | None:
    """The jobs of a use case's cluster; None where it has none, or its connection names no `jobs` in its extra.

    Raises:
        SettingsError: Ray is asked for and not installed.
        SourceError: there is no connection of that name.
    """
    if compute.engine != "ray" or not compute.connection:
        return None
    connection = connections(compute.connection)
    address = str(connection.extra.get("jobs") or "")
    if not address:
        return None
    if fault := ray_fault(compute, where="compute.engine"):
        raise fault
    from millrace.engine.ray_jobs import RayJobs

    return RayJobs(address=address.rstrip("/"), token=connection.password)


@dataclass(slots=True, kw_only=True)
class CandidateJob:
    """One candidate that a job trains, and this process logs.

    Attributes:
        use_case: its use case.
        domain: the domain of that.
        candidate: name of the candidate in the spec.
        training_set: what `build_training_set` gave.
        jobs: those of the cluster.
        settings: this installation; `var`, `packages` and the lake must be the cluster's, too, at the same paths.
        run_key: names the training run; another run asks for a job of its own.
    """

    use_case: UseCaseSpec
    domain: DomainSpec
    candidate: str
    training_set: DatasetRef
    jobs: RayJobs
    settings: Settings
    run_key: str = ""
    _opened: tuple[TrainingJob, TrainingRows] | None = field(init=False, default=None, repr=False)

    def submit(self) -> str:
        """Ask for the job; one that an attempt before this one asked for, and that goes on or is done, stands for it.

        Returns:
            Its name.

        Raises:
            EngineError: the cluster does not answer or refuses the job.
            MillraceError: as for `train_candidate`.
        """
        base = f"{self.use_case.name}-{self.candidate}-{digest_of([self.folder.name, self.run_key])[:16]}"
        tried = 1
        while (status := self.status(name := f"{base}-{tried}")) != _UNKNOWN:
            if status in _ACTIVE or status == _DONE:
                return name
            tried += 1
        self._lay()
        job, _ = self._open()
        several = job.spec.workers > 1 or (job.spec.tuning is not None and job.spec.tuning.parallel > 1)
        command = [sys.executable, "-P", "-m", "millrace.step.candidate_worker", str(self.folder)]
        self.jobs.submit(
            command,
            name=name,
            cores=0 if several else check_params(job.spec.trainer, job.values, where=job.where).threads,
            cards=0 if several else float(job.spec.resources.gpu),
            variables={"MILLRACE_VAR": str(self.settings.var), "MILLRACE_READERS": ",".join(sorted(readers()))},
        )
        log.info("%s of %s is trained by job %s at %s", self.candidate, self.use_case.name, name, self.jobs.address)
        return name

    def status(self, name: str) -> str:
        """That of the job, in Ray's words; LOST where it is done and what it left is gone.

        One that was told to stop counts as stopped from then on: Ray shows it as pending until there is room for it.

        Raises:
            EngineError: the cluster does not answer.
        """
        found = self.jobs.status(name)
        if found in _ACTIVE and self._stop_note(name).exists():
            return _STOPPED
        return LOST if found == _DONE and self._outcome() is None else found

    def is_active(self, status: str) -> bool:
        """Whether a job of that status goes on."""
        return status in _ACTIVE

    def is_done(self, status: str) -> bool:
        """Whether a job of that status left a package."""
        return status == _DONE

    def stop(self, name: str) -> None:
        """Tell the job to end; a later try waits for another one.

        Raises:
            EngineError: the cluster does not answer.
        """
        self.jobs.stop(name)
        with contextlib.suppress(FileNotFoundError):  # the training is logged already
            self._stop_note(name).touch()

    def follow(self, name: str) -> None:
        """Wait for the job, with what it says in the log of this process.

        Raises:
            StopFitError: it was stopped.
            MillraceError: what it failed with.
            EngineError: it was lost, or the cluster has not answered for minutes.
        """
        status = self.jobs.follow(name, _say)
        if status == _STOPPED:
            raise StopFitError(f"job {name} was stopped")
        if status == "FAILED":
            raise self._failure(name)
        if status != _DONE or self._outcome() is None:
            raise self._lost(name, status)

    def finish(self) -> ModelRef:
        """Log the package that the job left.

        Raises:
            EngineError: it left none here.
            RegistryUnavailableError: as for `train_candidate`.
        """
        job, rows = self._open()
        place = CandidatePlace(
            folder=self.folder, settings=self.settings, connections=environment_connections, stop=go_on
        )
        with hold(place):
            outcome = self._outcome()
            if outcome is None:
                raise self._lost("the job", _DONE)
            return log_outcome(job, rows, self.training_set, place, outcome, run_key=self.run_key)

    @property
    def folder(self) -> Path:
        """That of the training."""
        return folder_of(*self._open(), settings=self.settings)

    def _open(self) -> tuple[TrainingJob, TrainingRows]:
        if self._opened is None:
            self._opened = open_job(
                self.use_case, self.domain, self.candidate, self.training_set, settings=self.settings
            )
        return self._opened

    def _stop_note(self, name: str) -> Path:
        return self.folder / f"{name}.stopped"

    def _outcome(self) -> Any:
        return load_outcome(self.folder, packages=self.settings.packages)

    def _lay(self) -> None:
        """What the job reads. Of all secrets it needs the state database's address alone, for the trials of a study."""
        job, _ = self._open()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / FAILURE).unlink(missing_ok=True)
        needed = {name: _absolute(getattr(self.settings, name)) for name in _NEEDED}
        if job.spec.tuning:
            needed["state_url"] = self.settings.state_url
        _write(self.folder / JOB, job.to_bytes())
        asked = {"settings": needed, "training_set": self.training_set.to_dict()}
        _write(self.folder / REQUEST, orjson.dumps(asked))

    def _failure(self, name: str) -> MillraceError:
        try:
            return error_of(orjson.loads((self.folder / FAILURE).read_bytes()))
        except OSError:
            return self._lost(name, "FAILED")

    def _lost(self, name: str, status: str) -> EngineError:
        lines = [line for line in self.jobs.message(name).splitlines() if line.strip()]
        told = lines[-1].strip()[:300] if lines else "it said nothing"
        return EngineError(
            f"job {name} ended as {status} and left no package: {told}",
            where=self.jobs.address,
            remedy=f"does the cluster have {self.settings.var} and {self.settings.packages} at the same paths, and "
            "this image? A process that is killed mostly wants memory. Then run the task again: it goes on from the "
            "last checkpoint",
        )


def settings_of(plain: dict[str, str]) -> Settings:
    """The installation as a job sees it."""
    paths = {item.name for item in dataclasses.fields(Settings) if item.type == "Path"}
    given = {name: plain.get(name, "") for name in (item.name for item in dataclasses.fields(Settings))}
    return Settings(**{name: Path(value) if name in paths else value for name, value in given.items()})  # type: ignore[arg-type]


def _absolute(place: Path | str) -> str:
    return place if isinstance(place, str) and "://" in place else str(Path(place).absolute())


def _write(path: Path, content: bytes) -> None:
    """For this user alone, beside and then renamed: another job may be reading it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)


def _say(line: str) -> None:
    level, _, told = line.partition(" ")
    known = level in _LEVELS
    log.log(logging.getLevelName(level) if known else logging.INFO, "job: %s", told if known else line)
