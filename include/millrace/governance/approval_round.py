"""One round of approval: what one run asks people about one evidence, and every answer, in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.artifact import digest_of, iso
from millrace.governance.approval import (
    Approval,
    Proposal,
    Question,
    approvals_of,
    check_tree,
    granted,
    require_approval,
)
from millrace.governance.approval_request import Asking, Decision, Outcome, Request, Response
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.person import plain_text, same_person
from millrace.governance.policy import effective_at, policy_digest
from millrace.governance.requester import SYSTEM, Requester, barred, objection
from millrace.governance.state import moment_of
from millrace.governance.waiver import waivers_of
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

_ANSWERS = ("approved", "rejected", "approval_refused", "approval_expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRound:
    """All that one run asks about one proposal.

    Attributes:
        settings: this installation.
        use_case: its use case.
        policy: says how many people must approve, and what an unanswered request counts as.
        proposal: what they judge.
        run: names the run, such as `flight_delay_train/manual__2026-01-01`.
        requester: on whose behalf it asks; may not approve.
    """

    settings: Settings
    use_case: UseCaseSpec
    policy: PolicySpec
    proposal: Proposal
    run: str
    requester: Requester

    def entries(self, *kinds: str) -> list[Entry]:
        """Entries of these kinds on this evidence under this policy, whichever run wrote them."""
        package, wanted = self.proposal.challenger.digest, (self.proposal.evidence, policy_digest(self.policy))
        found = Ledger(self.settings).entries(self.use_case.name, kinds=kinds, subject=package)
        return [entry for entry in found if (entry.payload.get("evidence"), entry.payload.get("policy")) == wanted]

    def asked_otherwise(self, task: str) -> str:
        """Digest of the other evidence that this run's task asked about first; "" where there is none.

        Airflow keeps a task's first request through retries and clears, with the text it had (3.3.2).
        """
        asked = Ledger(self.settings).entries(self.use_case.name, kinds=("approval_requested",))
        of_task = [entry for entry in asked if (entry.payload["run"], entry.payload["task"]) == (self.run, task)]
        first = str(of_task[0].payload["evidence"]) if of_task else self.proposal.evidence
        return "" if first == self.proposal.evidence else first

    @property
    def _question(self) -> Question:
        return Question(
            use_case=self.use_case,
            policy=self.policy,
            proposal=self.proposal,
            run=self.run,
            requester=self.requester,
        )

    def approved(self) -> list[Entry]:
        """Approvals that count: people's, given in this run since the evidence was last rejected."""
        if not self.policy.approvals:
            return []
        return approvals_of(Ledger(self.settings), self._question)

    def open(self, asking: Asking, *, now: datetime) -> Request:
        """Ask: the request goes to the ledger, once an attempt.

        After a refused answer the request is due when it was before; otherwise its time starts now.
        """
        told = [
            entry for entry in self.entries("approval_requested", *_ANSWERS) if entry.payload.get("run") == self.run
        ]
        approved = self.approved()
        mine = [entry for entry in approved if entry.payload.get("task") == asking.task]
        others = [entry.actor for entry in approved if entry.payload.get("task") != asking.task]
        may_not = barred(self.use_case, self.requester)
        due = _carried(told, asking.task) or now + timedelta(hours=self.policy.approval_timeout_hours)
        if not mine:
            entry = self._append(
                "approval_requested",
                asking,
                actor=self.requester.name,
                payload={"due": iso(due), "on_timeout": self.policy.on_timeout, "barred": may_not},
            )
            due = moment_of(entry.payload["due"])
        waivers = waivers_of(Ledger(self.settings), self.use_case, self.proposal.challenger.digest)
        return Request(
            due=due,
            barred=may_not,
            approved=others,
            answers=[str(entry.payload.get("sentence", "")) for entry in told if entry.kind in _ANSWERS],
            waivers=[_waived(entry, may_not) for entry in waivers],
            settled=mine[-1] if mine else None,
        )

    def unheard(self, task: str, response: Response) -> Asking | None:
        """The request that an answer was given to which the ledger does not have; None where it has it.

        Airflow keeps an answer from when it was given; whoever was to write it down may have died before they did.
        """
        told = self._told(task)
        asked = [entry for entry in told if entry.kind == "approval_requested"]
        heard = {entry.payload.get("answered_at") for entry in told}
        if not asked or iso(response.at) in heard or asked[-1].payload["evidence"] != self.proposal.evidence:
            return None
        return Asking(task=task, attempt=int(asked[-1].payload["attempt"]))

    def is_open(self, task: str) -> bool:
        """Whether a task of this run asked before, and the ledger has no answer."""
        told = self._told(task)
        return bool(told) and told[-1].kind == "approval_requested"

    def _told(self, task: str) -> list[Entry]:
        """Requests and answers of one task of this run, on whatever evidence."""
        found = Ledger(self.settings).entries(self.use_case.name, kinds=("approval_requested", *_ANSWERS))
        return [entry for entry in found if (entry.payload.get("run"), entry.payload.get("task")) == (self.run, task)]

    def close(self, asking: Asking, response: Response | None, *, now: datetime) -> Outcome:
        """Take an answer, or that there was none in time (None); what it is goes to the ledger.

        Args:
            asking: the request.
            response: what Airflow recorded; one given after it was due counts as none.
            now: when the answer, or its absence, was noticed; Airflow notices late.
        """
        due = self._due(asking)
        if response is None or (due is not None and response.at > due):
            return self._expire(asking, response, due=due, now=now)
        name, said = plain_text(response.name), plain_text(response.comment)
        what = {"comment": said, "answered_at": iso(response.at), "by": "person"}
        if why := self._why_not(asking, response):
            return self._settle("refused", asking, name, what, f"{why}; it is asked again")
        comment = f": {said}" if said else ""
        if response.approves:
            return self._settle("approved", asking, name, what, f"approved by {name}{comment}")
        return self._settle("rejected", asking, name, what, f"rejected by {name}{comment}; nothing was released")

    def grant(self) -> Approval:
        """The approval that this run's answers amount to.

        Raises:
            ReleaseRefusedError: too few people approved in this run, or the policy refuses the working tree.
        """
        check_tree(self.settings, self.use_case, self.policy, self.proposal.challenger.digest)
        counted = require_approval(Ledger(self.settings), self._question)
        return granted(self.use_case, self.policy, self.proposal, counted)

    def note_stale(self, what: str) -> Entry:
        """Write that the champion changed since the evidence was made, so that no approval of it counts."""
        return self._write(
            "approval_stale",
            actor=SYSTEM,
            payload={
                "champion": self.proposal.champion,
                "approvers": [entry.actor for entry in self.approved()],
                "started_by": "" if self.requester.automatic else self.requester.name,
                "sentence": what,
            },
            key=f"{self.run}/{self.proposal.evidence}",
        )

    def _why_not(self, asking: Asking, response: Response) -> str:
        """Why an answer does not count; a rejection counts whoever gave it, if only they have a name."""
        if response.approves is None:
            return f"{plain_text(response.name) or 'somebody'} neither approved nor rejected"
        if not response.approves and response.name.strip():
            return ""
        others = [entry.actor for entry in self.approved() if entry.payload.get("task") != asking.task]
        return objection(self.use_case, self.requester, response.name, others)

    def _expire(self, asking: Asking, response: Response | None, *, due: datetime | None, now: datetime) -> Outcome:
        when = iso(due.replace(microsecond=0)) if due else "in time"
        late = ""
        if response is not None:
            at = iso(response.at.replace(microsecond=0))
            late = f"; {plain_text(response.name)} answered at {at}, too late"
        what: dict[str, Any] = {
            "due": iso(due) if due else "",
            "noticed": iso(now),
            "on_timeout": self.policy.on_timeout,
            "by": "policy",
            **({"answered_at": iso(response.at)} if response else {}),
        }
        said = f"nobody answered by {when}{late}"
        by = f"policy:{self.policy.tier}"
        if self.policy.on_timeout == "ask_again":
            return self._settle("expired", asking, by, what, f"{said}; it is asked again")
        return self._settle(
            "rejected", asking, by, what, f"{said}, which policy {self.policy.tier!r} counts as a rejection"
        )

    def _settle(
        self,
        decision: Decision,
        asking: Asking,
        name: str,
        what: dict[str, Any],
        sentence: str,
    ) -> Outcome:
        kind = decision if decision in {"approved", "rejected"} else f"approval_{decision}"
        entry = self._append(kind, asking, actor=name, payload={**what, "sentence": sentence})
        return Outcome(decision=decision, name=name, sentence=sentence, entry=entry.seq)

    def _append(self, kind: str, asking: Asking, *, actor: str, payload: dict[str, Any]) -> Entry:
        said = {**payload, "task": asking.task, "attempt": asking.attempt, "requested_by": self.requester.name}
        return self._write(kind, actor=actor, payload=said, key=f"{self.run}/{asking.key}/{self.proposal.evidence}")

    def _write(self, kind: str, *, actor: str, payload: dict[str, Any], key: str) -> Entry:
        what = {
            "package": self.proposal.challenger.digest,
            "evidence": self.proposal.evidence,
            "policy": policy_digest(self.policy),
            "run": self.run,
        }
        return Ledger(self.settings).append(
            kind,
            use_case=self.use_case.name,
            subject=self.proposal.challenger.digest,
            effective_at=effective_at(self.use_case, self.proposal.challenger.holdout, settings=self.settings),
            actor=actor,
            payload={**what, **payload},
            key=digest_of({"kind": kind, "key": key, "actor": actor}),
        )

    def _due(self, asking: Asking) -> datetime | None:
        """By when the request was to be answered, under whatever policy it was asked."""
        asked = [
            entry
            for entry in Ledger(self.settings).entries(self.use_case.name, kinds=("approval_requested",))
            if tuple(entry.payload.get(name) for name in ("run", "task", "attempt"))
            == (self.run, asking.task, asking.attempt)
        ]
        return moment_of(asked[-1].payload["due"]) if asked else None


def stale_in(settings: Settings, use_case: UseCaseSpec, run: str) -> Entry | None:
    """The note that a run's evidence went stale, where evaluating again can mend it.

    It cannot where another run was stale on the very same evidence: then the evaluation compares with a champion that
    is not the one in force, however often it is done.
    """
    noted: Sequence[Entry] = Ledger(settings).entries(use_case.name, kinds=("approval_stale",))
    for entry in reversed(noted):
        if entry.payload.get("run") == run:
            same = [item for item in noted if item.payload.get("evidence") == entry.payload.get("evidence")]
            return entry if same[0].payload.get("run") == run else None
    return None


def _carried(told: Sequence[Entry], task: str) -> datetime | None:
    """When a task's request is due that was only refused, so that a barred answer wins nobody time."""
    mine = [entry for entry in told if entry.payload.get("task") == task]
    asked = [entry for entry in mine if entry.kind == "approval_requested"]
    return moment_of(asked[-1].payload["due"]) if asked and mine[-1].kind == "approval_refused" else None


def _waived(entry: Entry, may_not: dict[str, str]) -> str:
    """A waiver for those who approve; whoever wrote it may be one who may not approve, and then it says so."""
    why = next((why for name, why in may_not.items() if same_person(name, entry.actor)), "")
    return f"{entry.actor}{f' ({why})' if why else ''} waives {entry.payload['rule']}: {entry.payload['reason']}"
