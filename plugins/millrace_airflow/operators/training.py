"""Training: the training set, and one candidate a mapped task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from millrace.artifact import DatasetRef
from millrace.errors import MillraceError
from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import package
from millrace_airflow.links import RegistryLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, tell_verdict

FAILURE = "failure"
"""XCom key of a candidate that was not trained: its name and why."""
_REASON_LENGTH = 1000


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


class TrainModelOperator(UseCaseOperator):
    """Tune and train one candidate, seal its package and log it.

    What fails is told where the run goes on: XCom `failure` with the reason, and a failed run in MLflow. A task that is
    killed leaves its checkpoints; the next try goes on from them.

    Args:
        candidate: its name in the use case's spec.
        training_set: reference made by `BuildTrainingSetOperator`.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "candidate", "training_set")
    operator_extra_links: ClassVar[Sequence[Any]] = (RegistryLink(), RunbookLink())

    def __init__(self, *, candidate: str, training_set: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.training_set = training_set
        self.stopped = False

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the model.

        Raises:
            StopFitError: the task was stopped.
            MillraceError: the candidate cannot be trained, or what it needs does not answer.
        """
        from millrace.step.candidate import train_candidate
        from millrace.training.run import StopFitError

        context["candidate"] = self.candidate
        training_set = _ref(self.training_set)
        self.note_read(training_set)
        try:
            model = train_candidate(
                self.use_case_spec(),
                self.domain_spec(),
                self.candidate,
                training_set,
                settings=self.settings,
                connections=airflow_connections,
                run_key=training_run(context),
                stop=lambda: self.stopped,
            )
        except StopFitError:
            raise
        except Exception as error:
            self._tell_failure(context, error)
            raise
        self.lineage.outputs.append(package(model))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/runs/{model.run_id}" if model.run_id else ""
        return model.to_dict()

    def on_kill(self) -> None:
        """End the fit after its current round or epoch, and the processes it started; checkpoints stay."""
        self.stopped = True
        super().on_kill()

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
