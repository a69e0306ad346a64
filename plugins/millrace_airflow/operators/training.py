"""Training: the training set, and one candidate a mapped task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from millrace.artifact import DatasetRef
from millrace_airflow.connections import airflow_connections
from millrace_airflow.links import RegistryLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator


class BuildTrainingSetOperator(UseCaseOperator):
    """Join labels and features point in time, up to and including the holdout partition."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the training set."""
        from millrace.governance.policy import fix_policy
        from millrace.step.training import build_training_set

        use_case = self.use_case_spec()
        fix_policy(use_case, self.policy_spec(), settings=self.settings)
        ref = build_training_set(
            use_case, self.domain_spec(), self.partition_key(), settings=self.settings, connections=airflow_connections
        )
        self.note_wrote(ref)
        return ref.to_dict()


class TrainCandidateOperator(UseCaseOperator):
    """Train one candidate and seal its package.

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

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the reference of the model."""
        from millrace.step.training import train_candidate

        context["candidate"] = self.candidate
        training_set = _ref(self.training_set)
        self.note_read(training_set)
        model = train_candidate(
            self.use_case_spec(), self.domain_spec(), self.candidate, training_set, settings=self.settings
        )
        self.lineage.outputs.append(("package", f"{model.use_case}/{model.candidate}", {"version": model.digest}))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/runs/{model.run_id}" if model.run_id else ""
        return model.to_dict()


def _ref(value: Mapping[str, Any]) -> DatasetRef:
    return DatasetRef.from_dict(value)
