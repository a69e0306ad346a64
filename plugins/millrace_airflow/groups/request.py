"""What a training run asks for on its way: the approval of people, and evidence made anew where it went stale."""

from __future__ import annotations

from airflow.sdk import TriggerRule

from millrace.spec import PolicySpec, UseCaseSpec
from millrace_airflow.assets import retrain_request_of
from millrace_airflow.groups.form import approval_form
from millrace_airflow.operators.approval import RequestApprovalOperator, RequestEvaluationOperator
from millrace_airflow.operators.evaluation import CheckGatesOperator, EvaluateCandidatesOperator

HOLDOUT = "{{ params.holdout or partition_key or '' }}"
"""Key of the partition that a run keeps back: what its form names, else the run's own."""


def approval_requests(
    spec: UseCaseSpec,
    policy: PolicySpec,
    evaluation: EvaluateCandidatesOperator,
    verdict: CheckGatesOperator,
    *,
    again: bool,
) -> list[RequestApprovalOperator]:
    """One task for each person that the policy asks for, to stand one after the other.

    Args:
        spec: the use case.
        policy: of its risk tier.
        evaluation: the task that made the evidence.
        verdict: the task that held it against the gates.
        again: whether evidence that went stale while people were asked is made anew by itself.
    """
    people = policy.approvals
    return [
        RequestApprovalOperator(
            task_id=f"request_approval_{number}",
            use_case=spec.name,
            subject=f"Release a new {spec.name}?{f' ({number} of {people})' if people > 1 else ''}",
            evaluation=evaluation.output,
            verdict=verdict.output,
            params=approval_form(),
            timeout_hours=policy.approval_timeout_hours,
            again=again,
            owner=spec.owners[0],
        )
        for number in range(1, people + 1)
    ]


def evaluation_request(spec: UseCaseSpec) -> RequestEvaluationOperator:
    """Asks for a new run of the same partition where the task before it failed for stale evidence."""
    return RequestEvaluationOperator(
        task_id="request_evaluation",
        use_case=spec.name,
        partition=HOLDOUT,
        trigger_rule=TriggerRule.ONE_FAILED,
        outlets=[retrain_request_of(spec)],
    )
