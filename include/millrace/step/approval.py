"""Approval: the policy's own leave, or that of people, with its proof in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace.artifact import Verdict, digest_of
from millrace.errors import ReleaseRefusedError
from millrace.governance.approval import SYSTEM, Answer, Approval, Proposal, check_answers, write_approval
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import effective_at, policy_digest
from millrace.governance.succession import require_decided
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec


def approve_by_policy(
    use_case: UseCaseSpec, policy: PolicySpec, evaluation: Proposal, verdict: Verdict, *, settings: Settings
) -> Approval:
    """Approve in the name of a policy that asks for nobody.

    Raises:
        ReleaseRefusedError: the policy asks for people, the verdict is no pass, or the tree is refused.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    if policy.approvals:
        raise ReleaseRefusedError(
            f"policy {policy.tier!r} asks for {policy.approvals} approvals",
            where=f"approval of {use_case.name}",
            remedy="let people approve, through the approval tasks of the training DAG",
        )
    moment = require_decided(settings, use_case, policy, evaluation, verdict)
    return write_approval(settings, use_case, policy, evaluation, answers=[], effective_at=moment)


def record_approval(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    evaluation: Proposal,
    verdict: Verdict,
    *,
    approvers: Sequence[Mapping[str, str]],
    settings: Settings,
    requested_by: str = SYSTEM,
    key: str = "",
) -> Approval:
    """Write the approvals that people gave; who they are is what Airflow recorded.

    Args:
        use_case: its use case.
        policy: says how many are needed.
        evaluation: what they were shown.
        verdict: what the gates said of it.
        approvers: `name` and `comment` of each.
        settings: this installation.
        requested_by: who started the run; may not approve.
        key: tells a second request on the same evidence from the first, such as a run's id after a rejection.

    Raises:
        ReleaseRefusedError: too few people, an owner or the requester among them, no pass, or the tree is refused.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    answers = [Answer(name=str(item.get("name", "")), comment=str(item.get("comment", ""))) for item in approvers]
    check_answers(use_case, policy, answers, requested_by)
    moment = require_decided(settings, use_case, policy, evaluation, verdict)
    return write_approval(settings, use_case, policy, evaluation, answers=answers, effective_at=moment, key=key)


def record_rejection(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    evaluation: Proposal,
    *,
    name: str,
    comment: str,
    settings: Settings,
    key: str = "",
) -> Entry:
    """Write that a person refused; approvals given before it no longer count."""
    digest = policy_digest(policy)
    what = {"package": evaluation.challenger.digest, "evidence": evaluation.evidence, "policy": digest, "by": "person"}
    return Ledger(settings).append(
        "rejected",
        use_case=use_case.name,
        subject=evaluation.challenger.digest,
        effective_at=effective_at(use_case, evaluation.challenger.holdout, settings=settings),
        actor=name,
        payload={**what, "comment": comment},
        key=digest_of({**what, "name": name, "key": key}),
    )
