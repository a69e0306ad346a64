"""Training: the training set, and one candidate a mapped task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import ResumableJobMixin

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import MillraceError
from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import package
from millrace_airflow.links import RegistryLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, tell_verdict

if TYPE_CHECKING:
    from millrace.step.candidate_job import CandidateJob

FAILURE = "failure"
"""XCom key of a candidate that was not trained: its name and why."""
_REASON_LENGTH = 1000
log = logging.getLogger(__name__)


class BuildTrainingSetOperator(UseCaseOperator):
    """Join labels and features point in time, up to and including the holdout partition."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the training set."""
        from millrace.governance.policy import fix_policy
        from millrace.step.noted import tables_of
        from millrace.step.training import build_training_set

        use_case = self.use_case_spec()
        fix_policy(use_case, self.policy_spec(), settings=self.settings)
        ref = build_training_set(
            use_case, self.domain_spec(), self.partition_key(), settings=self.settings, connections=airflow_connections
        )
        self.note_tables(*tables_of(use_case, self.domain_spec()))
        self.note_wrote(ref)
        return ref.to_dict()


class TrainModelOperator(ResumableJobMixin, UseCaseOperator):
    """Tune and train one candidate, seal its package and log it.

    What fails is told where the run goes on: XCom `failure` with the reason, and a failed run in MLflow. A task that is
    killed leaves its checkpoints; the next try goes on from them. Where the connection of the use case's Ray cluster
    names `jobs`, a job there trains: it outlives a task that is killed, and the next try waits for that job.

    Args:
        candidate: its name in the use case's spec.
        training_set: reference made by `BuildTrainingSetOperator`.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "candidate", "training_set")
    operator_extra_links: ClassVar[Sequence[Any]] = (RegistryLink(), RunbookLink())
    external_id_key = "ray_job"

    def __init__(self, *, candidate: str, training_set: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.training_set = training_set
        self.stopped = False
        self._job: CandidateJob | None = None
        self._job_name = ""
        self._model: ModelRef | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the model.

        Raises:
            StopFitError: the task was stopped.
            MillraceError: the candidate cannot be trained, or what it needs does not answer.
        """
        from millrace.training.run import StopFitError

        context["candidate"] = self.candidate
        training_set = _ref(self.training_set)
        self.note_read(training_set)
        try:
            self._job = self._open_job(training_set, training_run(context))
            model = self._train_here(training_set, context) if self._job is None else self.execute_resumable(context)
        except StopFitError:
            raise
        except Exception as error:
            self._tell_failure(context, error)
            raise
        self.lineage.outputs.append(package(model))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/runs/{model.run_id}" if model.run_id else ""
        return model.to_dict()

    def on_kill(self) -> None:
        """End the fit after its current round or epoch, the processes it started, and its job; checkpoints stay."""
        self.stopped = True
        if self._job is not None and self._job_name:
            try:
                self._job.stop(self._job_name)
            except MillraceError as error:
                log.warning("job %s may go on; the next try waits for it: %s", self._job_name, error)
        super().on_kill()

    def submit_job(self, context: Any) -> str:
        """Ask for a job of the cluster; its name."""
        self._job_name = self._its_job().submit()
        return self._job_name

    def get_job_status(self, external_id: Any, context: Any) -> str:
        """That of a job that an earlier try asked for."""
        return self._its_job().status(str(external_id))

    def is_job_active(self, status: str) -> bool:
        """Whether there is something to wait for."""
        return self._its_job().is_active(status)

    def is_job_succeeded(self, status: str) -> bool:
        """Whether there is a package to log."""
        return self._its_job().is_done(status)

    def poll_until_complete(self, external_id: Any, context: Any) -> Any:
        """Wait for the job, its log in that of the task; the model, which the mixin asks for here on a later try."""
        self._job_name = str(external_id)
        if self.stopped:
            self._its_job().stop(self._job_name)
        self._its_job().follow(self._job_name)
        return self.get_job_result(external_id, context)

    def get_job_result(self, external_id: Any, context: Any) -> ModelRef:
        """The model, logged once."""
        if self._model is None:
            self._model = self._its_job().finish()
        return self._model

    def _its_job(self) -> CandidateJob:
        assert self._job is not None
        return self._job

    def _open_job(self, training_set: DatasetRef, run_key: str) -> CandidateJob | None:
        """The candidate as a job of the use case's cluster; None where that takes none."""
        use_case = self.use_case_spec()
        if use_case.compute.engine == "local":
            return None
        from millrace.step.candidate_job import CandidateJob, open_jobs

        jobs = open_jobs(use_case.compute, connections=airflow_connections)
        if jobs is None:
            return None
        return CandidateJob(
            use_case=use_case,
            domain=self.domain_spec(),
            candidate=self.candidate,
            training_set=training_set,
            jobs=jobs,
            settings=self.settings,
            run_key=run_key,
        )

    def _train_here(self, training_set: DatasetRef, context: Any) -> ModelRef:
        from millrace.step.candidate import train_candidate

        return train_candidate(
            self.use_case_spec(),
            self.domain_spec(),
            self.candidate,
            training_set,
            settings=self.settings,
            connections=airflow_connections,
            run_key=training_run(context),
            stop=lambda: self.stopped,
        )

    def _tell_failure(self, context: Any, error: Exception) -> None:
        """Say why, for those who go on without it; what a retry may mend is not yet a failure of the candidate."""
        from millrace.step.candidate import report_failure

        reason = str(error) if isinstance(error, MillraceError) else f"{type(error).__name__}: {error}"
        failure = {"candidate": self.candidate, "reason": reason[:_REASON_LENGTH]}
        context["ti"].xcom_push(key=FAILURE, value=failure)
        tell_verdict(context, f"{self.candidate} was not trained: {reason.splitlines()[0][:_REASON_LENGTH]}")
        if not getattr(error, "retryable", False):
            report_failure(
                self.use_case_spec(),
                self.candidate,
                self.partition_key(),
                reason,
                settings=self.settings,
                run_key=training_run(context),
            )


def training_run(context: Mapping[str, Any]) -> str:
    """Names the training run of a task in MLflow: its DAG run."""
    run = context["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


def _ref(value: Mapping[str, Any]) -> DatasetRef:
    return DatasetRef.from_dict(value)
