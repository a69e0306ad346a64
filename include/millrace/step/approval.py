"""Approval: the policy's own leave, or that of people, with its proof in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError, StaleEvidenceError
from millrace.evaluation.evidence import load_evidence
from millrace.governance.approval import Approval, Proposal, approve_in_name_of, require_verdict
from millrace.governance.approval_request import Asking, Request
from millrace.governance.approval_round import ApprovalRound, stale_in
from millrace.governance.ledger import Ledger
from millrace.governance.succession import require_decided
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec
from millrace.step.approval_body import approval_body
from millrace.step.card import restore_card


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A request as a person is shown it.

    Attributes:
        request: by when, who may not, and whether it is settled already.
        body: what there is to read, as Markdown; "" where nobody has to be asked.
    """

    request: Request
    body: str


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
    return approve_in_name_of(settings, use_case, policy, evaluation, effective_at=moment)


def request_approval(
    asked: ApprovalRound, asking: Asking, verdict: Verdict, *, card: str, now: datetime
) -> OpenRequest:
    """Ask a person: the request goes to the ledger; what they are to read comes back.

    Args:
        asked: the run, and what it asks about.
        asking: which of its requests this is.
        verdict: what the gates said.
        card: address of the model card.
        now: the wall clock; the request's time starts then.

    Raises:
        ReleaseRefusedError: the verdict is no pass, or the ledger does not have it.
        StaleEvidenceError: the champion changed since the evaluation, or the run asked about other evidence before and
            Airflow goes on showing that: nobody is asked.
        DocumentError: the evidence is gone or was changed.
    """
    require_decided(asked.settings, asked.use_case, asked.policy, asked.proposal, verdict)
    if other := asked.asked_otherwise(asking.task):
        raise StaleEvidenceError(
            f"this run asked about evidence {other[:12]} before, and Airflow goes on showing that",
            where=f"{asking.task} of {asked.run}",
            remedy="trigger a new run for the same partition: people must see what they approve",
        )
    evidence = load_evidence(asked.proposal.evidence, asked.settings)
    wanted = (asked.use_case.name, evidence.challenger_score.package, evidence.digest, evidence.policy)
    restore_card(require_verdict(Ledger(asked.settings), *wanted), settings=asked.settings)
    request = asked.open(asking, now=now)
    if request.settled is not None:
        return OpenRequest(request=request, body="")
    return OpenRequest(request=request, body=approval_body(evidence, verdict, asked.policy, request, card=card))


def grant_approval(asked: ApprovalRound, verdict: Verdict) -> Approval:
    """What people's answers in this run amount to, as the ledger has them.

    Raises:
        ReleaseRefusedError: too few approved, no pass, or the policy refuses the working tree.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    if not asked.policy.approvals:
        return approve_by_policy(asked.use_case, asked.policy, asked.proposal, verdict, settings=asked.settings)
    require_decided(asked.settings, asked.use_case, asked.policy, asked.proposal, verdict)
    return asked.grant()


@contextmanager
def noting_stale(asked: ApprovalRound, *, again: bool) -> Iterator[None]:
    """Write to the ledger that the evidence went stale, where what is done meets that.

    Args:
        asked: the run, and what it asks about.
        again: whether the run evaluates again by itself; said in the message.

    Raises:
        StaleEvidenceError: the champion changed since the evaluation.
    """
    try:
        yield
    except StaleEvidenceError as error:
        asked.note_stale(error.what)
        if not again or stale_in(asked.settings, asked.use_case, asked.run) is None:
            raise
        raise StaleEvidenceError(
            f"stale: {error.what}",
            where=error.where,
            remedy="none is needed: a new run for the same partition is asked for, which evaluates again",
        ) from error
