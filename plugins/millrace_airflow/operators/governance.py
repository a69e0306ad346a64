"""Governance: registration, release and rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException

from millrace.artifact import Verdict
from millrace_airflow.lineage import document, package, registered_model, release_of, served_model
from millrace_airflow.links import EVIDENCE, ModelCardLink, RegistryLink, RunbookLink
from millrace_airflow.operators.approval import round_of, run_of
from millrace_airflow.operators.base import UseCaseOperator, acting_user, handed_on


class RegisterModelOperator(UseCaseOperator):
    """Register the challenger in MLflow, with its evidence; skipped where the gates did not pass.

    Args:
        evaluation: what `EvaluateCandidatesOperator` returned.
        verdict: what `CheckGatesOperator` returned.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation", "verdict")
    operator_extra_links: ClassVar[Sequence[Any]] = (RegistryLink(), ModelCardLink(), RunbookLink())

    def __init__(self, *, evaluation: Any, verdict: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.verdict = verdict

    def execute(self, context: Any) -> dict[str, Any]:
        """Return name, version and digest of the registered model.

        Raises:
            AirflowSkipException: the verdict is not a pass; the reasons are in its message.
        """
        from millrace.evaluation.base import Evaluation
        from millrace.step.registry import register_model

        verdict = Verdict.from_dict(handed_on(self.verdict, "verdict of the gates"))
        if not verdict.passed:
            raise AirflowSkipException(f"gates: {verdict.outcome}: {'; '.join(verdict.reasons)}")
        evaluation = Evaluation.from_dict(handed_on(self.evaluation, "evaluation"))
        registered = register_model(
            self.use_case_spec(), self.domain_spec(), evaluation, verdict, settings=self.settings
        )
        self.lineage.inputs.append(package(evaluation.challenger))
        self.lineage.inputs.append(document("evidence", self.use_case, evaluation.evidence))
        facts = {"package": registered.digest, "evidence": registered.evidence, "policy": registered.policy}
        self.lineage.outputs.append(registered_model(registered.name, registered.version, facts))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/models/{registered.name}/versions/{registered.version}"
        self.links["Model card"] = f"{EVIDENCE}/{evaluation.evidence}.html"
        return registered.to_dict()


class ReleaseModelOperator(UseCaseOperator):
    """Make the approved challenger the champion, if the champion is still the one it was compared with.

    Args:
        evaluation: what `EvaluateCandidatesOperator` returned.
        verdict: what `CheckGatesOperator` returned.
        registered: what `RegisterModelOperator` returned.
        approval: what `ApproveReleaseOperator` returned; who approved is asked of the ledger all the same.
        again: whether the run evaluates again by itself where the evidence went stale.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation", "verdict", "registered", "approval")

    def __init__(
        self, *, evaluation: Any, verdict: Any, registered: Any, approval: Any, again: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.verdict = verdict
        self.registered = registered
        self.approval = approval
        self.again = again

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the release."""
        from millrace.evaluation.base import Evaluation
        from millrace.governance.approval import Approval
        from millrace.registry.base import RegisteredModel
        from millrace.step.approval import noting_stale
        from millrace.step.release import release_model

        asked = round_of(context, self.settings, self.use_case, self.evaluation)
        handed = Approval.from_dict(handed_on(self.approval, "approval"))
        with noting_stale(asked, again=self.again):
            release = release_model(
                asked.use_case,
                asked.policy,
                Evaluation.from_dict(handed_on(self.evaluation, "evaluation")),
                Verdict.from_dict(handed_on(self.verdict, "verdict of the gates")),
                RegisteredModel.from_dict(handed_on(self.registered, "registered model")),
                asked.grant() if asked.policy.approvals else handed,
                settings=self.settings,
                actor=acting_user(context),
                run=asked.run,
                requester=asked.requester,
            )
        self.lineage.inputs.append(document("evidence", self.use_case, release.evidence))
        self.lineage.inputs.append(package(Evaluation.from_dict(self.evaluation).challenger))
        self.lineage.outputs.append(release_of(release.to_dict()))
        return release.to_dict()


class RollbackReleaseOperator(UseCaseOperator):
    """Put an earlier release back in force, as a unit.

    Args:
        version: release to go back to; empty for the one before.
        reason: why; goes to the ledger.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "version", "reason")

    def __init__(self, *, version: str = "", reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.reason = reason

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the release that is in force now."""
        from millrace.step.rollback import rollback_release

        release = rollback_release(
            self.use_case_spec(),
            int(self.version) if str(self.version).strip() else None,
            self.reason,
            acting_user(context),
            settings=self.settings,
            key=run_of(context),
            asked_at=context["dag_run"].run_after,
        )
        self.lineage.inputs.append(release_of(release.to_dict()))
        self.lineage.outputs.append(served_model(self.use_case, release.version))
        return release.to_dict()
