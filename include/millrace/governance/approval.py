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
from millrace.governance.policy import policy_digest
from millrace.governance.recipe import find_recipes
from millrace.governance.requester import SYSTEM, Requester, objection
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

__all__ = [
    "DIRTY_TREE",
    "SYSTEM",
    "Answer",
    "Approval",
    "Proposal",
    "check_answers",
    "check_tree",
    "require_approval",
    "require_pass",
    "require_verdict",
    "write_approval",
]
DIRTY_TREE = "dirty_tree"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A person's answer to a request.

    Attributes:
        name: Airflow user name.
        comment: what they wrote with it.
    """

    name: str
    comment: str = ""


def check_answers(use_case: UseCaseSpec, policy: PolicySpec, answers: Sequence[Answer], requester: Requester) -> None:
    """Four eyes: enough different people, none of whom owns the use case or asks for the release.

    Raises:
        ReleaseRefusedError: too few, an owner, the requester, or an answer without a name.
    """
    where = f"approval of {use_case.name}, policy {policy.tier!r}"
    people: list[str] = []
    for answer in answers:
        if answer.name.casefold() in {name.casefold() for name in people}:
            continue
        if why := objection(use_case, requester, answer.name):
            raise ReleaseRefusedError(why, where=where, remedy="let somebody else approve, who is logged in")
        people.append(answer.name)
    if len(people) < max(policy.approvals, 1):
        raise ReleaseRefusedError(
            f"{len(people)} of {policy.approvals} people approved",
            where=where,
            remedy="ask for the missing approvals; one person counts once",
        )


def write_approval(
    settings: Settings,
    use_case: UseCaseSpec,
    policy: PolicySpec,
    proposal: Proposal,
    *,
    answers: Sequence[Answer],
    effective_at: datetime,
    key: str = "",
) -> Approval:
    """Write one `approved` entry an answer (one in the policy's name where there are none); returns what they grant.

    Raises:
        ReleaseRefusedError: the policy refuses the state of the working tree.
    """
    ledger, package, digest = Ledger(settings), proposal.challenger.digest, policy_digest(policy)
    by = "person" if answers else "policy"
    given = answers or [Answer(name=f"policy:{policy.tier}", comment=policy.description)]
    what = {"package": package, "evidence": proposal.evidence, "policy": digest, "by": by}
    keys = [digest_of({**what, "name": answer.name, "key": key}) for answer in given]
    known = {entry.key: entry for entry in ledger.entries(use_case.name, kinds=("approved",), subject=package)}
    tree = None if all(item in known for item in keys) else check_tree(settings, use_case, policy, package)
    entries = [
        known.get(item)
        or ledger.append(
            "approved",
            use_case=use_case.name,
            subject=package,
            effective_at=effective_at,
            actor=answer.name,
            payload={**what, "comment": answer.comment, "tree": tree.to_dict() if tree else {}},
            key=item,
        )
        for item, answer in zip(keys, given, strict=True)
    ]
    return Approval(
        use_case=use_case.name,
        package=package,
        evidence=proposal.evidence,
        policy=digest,
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
    waivers = Ledger(settings).entries(use_case.name, kinds=("waiver",), subject=package)
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


def require_approval(
    ledger: Ledger,
    use_case: UseCaseSpec,
    policy: PolicySpec,
    proposal: Proposal,
    *,
    connection: Connection | None = None,
) -> list[Entry]:
    """The approvals of this package on this evidence under this policy since it was last rejected; enough of them.

    Raises:
        ReleaseRefusedError: too few.
    """
    package, digest = proposal.challenger.digest, policy_digest(policy)
    answers = [
        entry
        for entry in ledger.entries(
            use_case.name, kinds=("approved", "rejected"), subject=package, connection=connection
        )
        if (entry.payload.get("evidence"), entry.payload.get("policy")) == (proposal.evidence, digest)
    ]
    rejected = max((entry.seq for entry in answers if entry.kind == "rejected"), default=0)
    wanted = "person" if policy.approvals else "policy"
    granted = [entry for entry in answers if entry.seq > rejected and entry.payload.get("by") == wanted]
    people = {entry.actor.casefold() for entry in granted} - {owner.casefold() for owner in use_case.owners}
    if len(people) >= max(policy.approvals, 1):
        return granted
    raise ReleaseRefusedError(
        f"the ledger has {len(people)} of {max(policy.approvals, 1)} approvals of package {package[:12]}"
        + (" since its rejection" if rejected else ""),
        where=f"ledger of {use_case.name}, policy {policy.tier!r}",
        remedy="have it approved on this evidence; an approval given on other evidence does not count",
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
