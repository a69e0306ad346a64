"""Approvals: who allowed a release, and the proof in the ledger without which there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from millrace.artifact import ModelRef, PlainValue, Verdict, digest_of
from millrace.errors import ReleaseRefusedError
from millrace.governance.git_tree import GitTree, git_tree
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.person import different_people
from millrace.governance.policy import policy_digest
from millrace.governance.recipe import find_recipes
from millrace.governance.requester import Requester, barred
from millrace.governance.waiver import DIRTY_TREE, waivers_of
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec


class Proposal(Protocol):
    """What governance needs to know of an evaluation."""

    @property
    def challenger(self) -> ModelRef:
        """The model that is to be released."""

    @property
    def champion(self) -> int:
        """Version of the release it was compared with; 0 for none."""

    @property
    def evidence(self) -> str:
        """Digest of the evidence bundle."""

    @property
    def reference(self) -> str:
        """Digest of the drift reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(PlainValue):
    """Leave to release one package on one evidence under one policy.

    Attributes:
        use_case: its use case.
        package: digest of the package.
        evidence: digest of the evidence bundle it was given on.
        policy: digest of the policy it was asked by.
        approvers: people who approved, or `policy:<tier>`.
        entries: numbers of the ledger entries.
    """

    use_case: str
    package: str
    evidence: str
    policy: str
    approvers: list[str]
    entries: list[int] = field(default_factory=list)


def approve_in_name_of(
    settings: Settings, use_case: UseCaseSpec, policy: PolicySpec, proposal: Proposal, *, effective_at: datetime
) -> Approval:
    """Write the `approved` entry of a policy that asks for nobody, once; returns what it grants.

    Raises:
        ReleaseRefusedError: the policy refuses the state of the working tree.
    """
    ledger, package, digest = Ledger(settings), proposal.challenger.digest, policy_digest(policy)
    name, what = f"policy:{policy.tier}", {"package": package, "evidence": proposal.evidence, "policy": digest}
    key = digest_of({**what, "by": "policy", "name": name, "key": ""})
    known = [entry for entry in ledger.entries(use_case.name, kinds=("approved",), subject=package) if entry.key == key]
    entry = (
        known[0]
        if known
        else ledger.append(
            "approved",
            use_case=use_case.name,
            subject=package,
            effective_at=effective_at,
            actor=name,
            payload={
                **what,
                "by": "policy",
                "comment": policy.description,
                "tree": check_tree(settings, use_case, policy, package).to_dict(),
            },
            key=key,
        )
    )
    return granted(use_case, policy, proposal, [entry])


def granted(use_case: UseCaseSpec, policy: PolicySpec, proposal: Proposal, entries: Sequence[Entry]) -> Approval:
    """What entries of the ledger amount to."""
    return Approval(
        use_case=use_case.name,
        package=proposal.challenger.digest,
        evidence=proposal.evidence,
        policy=policy_digest(policy),
        approvers=[entry.actor for entry in entries],
        entries=[entry.seq for entry in entries],
    )


def check_tree(settings: Settings, use_case: UseCaseSpec, policy: PolicySpec, package: str) -> GitTree:
    """The state of the working tree, where the policy or a waiver for this package lets it pass.

    Both count: the tree now, and the one that the package was trained from by its recipe. Where the same bytes also
    came of a clean tree, that one counts.

    Raises:
        ReleaseRefusedError: the policy wants a clean tree and there is no waiver.
    """
    tree = git_tree(settings.root)
    trained = next(iter(find_recipes(package, settings)), None)
    unclean = [f"a working tree that is {tree.describe()}"] if tree.state != "clean" else []
    if trained is not None and trained.tree != "clean":
        unclean.append(f"a model that was trained from a working tree that was {trained.describe_tree()}")
    if not unclean or policy.dirty_tree == "note":
        return tree
    waivers = waivers_of(Ledger(settings), use_case, package)
    if any(waiver.payload.get("rule") == DIRTY_TREE for waiver in waivers):
        return tree
    raise ReleaseRefusedError(
        f"policy {policy.tier!r} refuses {' and '.join(unclean)}",
        where=str(settings.root),
        remedy=f"commit the changes and train again, or record a waiver of {DIRTY_TREE!r} for package {package}",
    )


def require_verdict(
    ledger: Ledger, use_case: str, package: str, evidence: str, policy: str, *, connection: Connection | None = None
) -> Entry:
    """The last verdict of the gates on this package, evidence and policy, as the ledger has it, and a pass.

    Raises:
        ReleaseRefusedError: the ledger has none, or the last one is not a pass.
    """
    judged = [
        entry
        for entry in ledger.entries(use_case, kinds=("gates_evaluated",), subject=package, connection=connection)
        if (entry.payload.get("evidence"), entry.payload.get("policy")) == (evidence, policy)
    ]
    if judged and judged[-1].payload.get("outcome") == "pass":
        return judged[-1]
    found = f"the last verdict is {judged[-1].payload.get('outcome')!r}" if judged else "the ledger has no verdict"
    raise ReleaseRefusedError(
        f"{found} on package {package[:12]}, evidence {evidence[:12] or '(none)'}, policy {policy[:12]}",
        where=f"ledger of {use_case}",
        remedy="evaluate the candidates and check the gates again; nothing is released without a passing verdict",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What people are asked in one run.

    Attributes:
        use_case: its use case.
        policy: the policy as it is now.
        proposal: what was evaluated.
        run: the run that asks; only what is answered in it counts.
        requester: on whose behalf it asks; their own approval does not count.
    """

    use_case: UseCaseSpec
    policy: PolicySpec
    proposal: Proposal
    run: str
    requester: Requester


def approvals_of(ledger: Ledger, question: Question, *, connection: Connection | None = None) -> list[Entry]:
    """The approvals that count: of this package, on this evidence, under this policy, since it was last rejected.

    Of people those count that one run asked, each once, and none who may not approve it; asked anew whenever they are
    counted. A policy that asks for nobody counts itself, whichever run it was.
    """
    use_case, policy, proposal, run = question.use_case, question.policy, question.proposal, question.run
    package, wanted = proposal.challenger.digest, (proposal.evidence, policy_digest(policy))
    kinds = ("approved", "rejected")
    answers = [
        entry
        for entry in ledger.entries(use_case.name, kinds=kinds, subject=package, connection=connection)
        if (entry.payload.get("evidence"), entry.payload.get("policy")) == wanted
    ]
    rejected = max((entry.seq for entry in answers if entry.kind == "rejected"), default=0)
    since = [entry for entry in answers if entry.seq > rejected]
    if not policy.approvals:
        return [entry for entry in since if entry.payload.get("by") == "policy"][:1]
    asked = [entry for entry in since if (entry.payload.get("by"), entry.payload.get("run")) == ("person", run)]
    return different_people(asked if run else [], barred(use_case, question.requester))


def require_approval(ledger: Ledger, question: Question, *, connection: Connection | None = None) -> list[Entry]:
    """The approvals that count (`approvals_of`), and they are enough.

    Raises:
        ReleaseRefusedError: too few.
    """
    counted, policy = approvals_of(ledger, question, connection=connection), question.policy
    if len(counted) >= max(policy.approvals, 1):
        return counted
    of_run = f" in run {question.run or '(none)'}" if policy.approvals else ""
    raise ReleaseRefusedError(
        f"the ledger has {len(counted)} of {max(policy.approvals, 1)} approvals of package "
        f"{question.proposal.challenger.digest[:12]}{of_run} that count, since it was last rejected",
        where=f"ledger of {question.use_case.name}, policy {policy.tier!r}",
        remedy="clear the requests for approval of this run: only what different people answer to them counts, none of "
        "them an owner or whoever asks",
    )


def require_pass(verdict: Verdict, proposal: Proposal, where: str) -> None:
    """The verdict that was handed over is a pass, and one on this proposal.

    Raises:
        ReleaseRefusedError: it is not.
    """
    if not verdict.passed:
        raise ReleaseRefusedError(
            f"the verdict is {verdict.outcome!r}: {'; '.join(verdict.reasons)}", where=where, remedy="mend the model"
        )
    if (verdict.subject, verdict.evidence) != (proposal.challenger.digest, proposal.evidence):
        raise ReleaseRefusedError(
            f"the verdict is on package {verdict.subject[:12]}, evidence {verdict.evidence[:12]}, not on package "
            f"{proposal.challenger.digest[:12]}, evidence {proposal.evidence[:12]}",
            where=where,
            remedy="check the gates on this evaluation",
        )
