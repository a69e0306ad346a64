"""Governance: registration, approval, release and rollback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.artifact import Verdict
from millrace.settings import settings
from millrace.spec import load_policy, load_use_case
from millrace_airflow.links import EVIDENCE, ModelCardLink, RegistryLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, acting_user
from millrace_airflow.retry import RETRIES


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

        verdict = Verdict.from_dict(self.verdict)
        if not verdict.passed:
            raise AirflowSkipException(f"gates: {verdict.outcome}: {'; '.join(verdict.reasons)}")
        evaluation = Evaluation.from_dict(self.evaluation)
        registered = register_model(
            self.use_case_spec(), self.domain_spec(), evaluation, verdict, settings=self.settings
        )
        self.lineage.outputs.append(("mlflow", f"models/{registered.name}", {"version": registered.version}))
        self.links["MLflow"] = f"{self.settings.mlflow_url}/#/models/{registered.name}/versions/{registered.version}"
        self.links["Model card"] = f"{EVIDENCE}/{evaluation.evidence}.html"
        return registered.to_dict()


class RequestApprovalOperator(ApprovalOperator):
    """Ask a person. The task waits without holding a worker; a rejection goes to the ledger and fails it visibly.

    Args:
        use_case: name of the use case's spec.
        evaluation: what `EvaluateCandidatesOperator` returned; what the person judges.
        timeout_hours: how long the request waits; then it fails.
    """

    template_fields: Sequence[str] = ("subject", "body", "use_case", "evaluation")
    operator_extra_links: ClassVar[Sequence[Any]] = (RunbookLink(),)
    ui_color: ClassVar[str] = "#fdf3d8"

    def __init__(self, *, use_case: str, evaluation: Any, timeout_hours: float, **kwargs: Any) -> None:
        super().__init__(fail_on_reject=True, response_timeout=timedelta(hours=timeout_hours), **{**RETRIES, **kwargs})
        self.use_case = use_case
        self.evaluation = evaluation

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Hand on who answered and what.

        Raises:
            AirflowFailException: the person rejected, or nobody answered in time; asking again is a new run's affair.
        """
        try:
            return super().execute_complete(context, event)
        except HITLRejectException as rejected:
            who = _who(event)
            self._record(who, _run_of(context))
            comment = f": {who['comment']}" if who["comment"] else ""
            raise AirflowFailException(f"rejected by {who['name']}{comment}; nothing was released") from rejected
        except HITLTimeoutError as late:
            raise AirflowFailException("nobody answered in time; trigger the DAG again to ask again") from late

    def _record(self, who: Mapping[str, str], key: str) -> None:
        from millrace.evaluation.base import Evaluation
        from millrace.step.approval import record_rejection

        here = settings()
        use_case = load_use_case(here.dags, self.use_case)
        record_rejection(
            use_case,
            load_policy(here.dags, use_case.tier),
            Evaluation.from_dict(self.evaluation),
            name=who["name"],
            comment=who["comment"],
            settings=here,
            key=key,
        )


class ApproveReleaseOperator(UseCaseOperator):
    """Write the approval to the ledger: the policy's own where it asks for nobody, else those people gave.

    Args:
        evaluation: what `EvaluateCandidatesOperator` returned.
        registered: what `RegisterModelOperator` returned.
        responses: what the approval tasks returned, in their order.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation", "verdict", "registered", "responses")

    def __init__(
        self, *, evaluation: Any, verdict: Any, registered: Any, responses: Sequence[Any] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.verdict = verdict
        self.registered = registered
        self.responses = list(responses)

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the approval."""
        from millrace.evaluation.base import Evaluation
        from millrace.step.approval import approve_by_policy, record_approval

        use_case, policy = self.use_case_spec(), self.policy_spec()
        evaluation, verdict = Evaluation.from_dict(self.evaluation), Verdict.from_dict(self.verdict)
        if not self.responses:
            approval = approve_by_policy(use_case, policy, evaluation, verdict, settings=self.settings)
        else:
            approval = record_approval(
                use_case,
                policy,
                evaluation,
                verdict,
                approvers=[_who(item) for item in self.responses],
                requested_by=acting_user(context),
                settings=self.settings,
                key=_run_of(context),
            )
        return approval.to_dict()


class ReleaseModelOperator(UseCaseOperator):
    """Make the approved challenger the champion, if the champion is still the one it was compared with."""

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation", "verdict", "registered", "approval")

    def __init__(self, *, evaluation: Any, verdict: Any, registered: Any, approval: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.verdict = verdict
        self.registered = registered
        self.approval = approval

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the release."""
        from millrace.evaluation.base import Evaluation
        from millrace.governance.release import Approval
        from millrace.registry.base import RegisteredModel
        from millrace.step.release import release_model

        release = release_model(
            self.use_case_spec(),
            self.policy_spec(),
            Evaluation.from_dict(self.evaluation),
            Verdict.from_dict(self.verdict),
            RegisteredModel.from_dict(self.registered),
            Approval.from_dict(self.approval),
            settings=self.settings,
            actor=acting_user(context),
        )
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
            key=_run_of(context),
        )
        return release.to_dict()


def _who(response: Mapping[str, Any]) -> dict[str, str]:
    user = response.get("responded_by_user") or {}
    return {
        "name": str(user.get("name") or user.get("id") or ""),
        "comment": str((response.get("params_input") or {}).get("comment", "")),
    }


def _run_of(context: Mapping[str, Any]) -> str:
    """The DAG run, as the ledger tells one request from the next."""
    return f"{context['dag_run'].dag_id}/{context['dag_run'].run_id}"
