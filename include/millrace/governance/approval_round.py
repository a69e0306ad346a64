"""One round of approval: what one run asks people about one evidence, and every answer, in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.artifact import digest_of, iso
from millrace.errors import ReleaseRefusedError
from millrace.governance.approval import Approval, Proposal, check_tree
from millrace.governance.approval_request import Asking, Decision, Outcome, Request, Response
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import effective_at, policy_digest
from millrace.governance.requester import SYSTEM, barred, objection
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
    """

    settings: Settings
    use_case: UseCaseSpec
    policy: PolicySpec
    proposal: Proposal
    run: str

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

    def approved(self) -> list[Entry]:
        """Approvals that people gave in this run since the evidence was last rejected."""
        answers = self.entries("approved", "rejected")
        rejected = max((entry.seq for entry in answers if entry.kind == "rejected"), default=0)
        return [
            entry
            for entry in answers
            if entry.seq > rejected and (entry.payload.get("run"), entry.payload.get("by")) == (self.run, "person")
        ]

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
        may_not = barred(self.use_case, asking.requester)
        due = _carried(told, asking.task) or now + timedelta(hours=self.policy.approval_timeout_hours)
        if not mine:
            entry = self._append(
                "approval_requested",
                asking,
                actor=asking.requester.name,
                payload={"due": iso(due), "on_timeout": self.policy.on_timeout, "barred": may_not},
            )
            due = _moment(entry.payload["due"])
        return Request(
            due=due,
            barred=may_not,
            approved=others,
            answers=[str(entry.payload.get("sentence", "")) for entry in told if entry.kind in _ANSWERS],
            settled=mine[-1] if mine else None,
        )

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
        others = [entry.actor for entry in self.approved() if entry.payload.get("task") != asking.task]
        if response.approves is None:
            why = f"{response.name or 'somebody'} neither approved nor rejected"
        elif response.approves or not response.name.strip():
            why = objection(self.use_case, asking.requester, response.name, others)
        else:
            why = ""
        what = {"comment": response.comment, "answered_at": iso(response.at)}
        if why:
            return self._settle("refused", asking, response.name, what, f"{why}; it is asked again")
        comment = f": {response.comment}" if response.comment else ""
        if response.approves:
            return self._settle("approved", asking, response.name, what, f"approved by {response.name}{comment}")
        sentence = f"rejected by {response.name}{comment}; nothing was released"
        return self._settle("rejected", asking, response.name, what, sentence)

    def grant(self) -> Approval:
        """The approval that this run's answers amount to.

        Raises:
            ReleaseRefusedError: too few people approved in this run, or the policy refuses the working tree.
        """
        given = self.approved()
        people = {entry.actor.casefold() for entry in given}
        if len(people) < max(self.policy.approvals, 1):
            raise ReleaseRefusedError(
                f"the ledger has {len(people)} of {self.policy.approvals} approvals of this run",
                where=f"approval of {self.use_case.name}, run {self.run}",
                remedy="clear the requests for approval: only what a person answers to them counts",
            )
        check_tree(self.settings, self.use_case, self.policy, self.proposal.challenger.digest)
        return Approval(
            use_case=self.use_case.name,
            package=self.proposal.challenger.digest,
            evidence=self.proposal.evidence,
            policy=policy_digest(self.policy),
            approvers=[entry.actor for entry in given],
            entries=[entry.seq for entry in given],
        )

    def note_stale(self, what: str) -> Entry:
        """Write that the champion changed since the evidence was made, so that no approval of it counts."""
        return self._write(
            "approval_stale",
            actor=SYSTEM,
            payload={
                "champion": self.proposal.champion,
                "approvers": [entry.actor for entry in self.approved()],
                "sentence": what,
            },
            key=f"{self.run}/{self.proposal.evidence}",
        )

    def _expire(self, asking: Asking, response: Response | None, *, due: datetime | None, now: datetime) -> Outcome:
        when = iso(due.replace(microsecond=0)) if due else "in time"
        late = f"; {response.name} answered at {iso(response.at.replace(microsecond=0))}, too late" if response else ""
        what: dict[str, Any] = {
            "due": iso(due) if due else "",
            "noticed": iso(now),
            "on_timeout": self.policy.on_timeout,
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
        by = "policy" if name.startswith("policy:") else "person"
        entry = self._append(kind, asking, actor=name, payload={**what, "by": by, "sentence": sentence})
        return Outcome(decision=decision, name=name, sentence=sentence, entry=entry.seq)

    def _append(self, kind: str, asking: Asking, *, actor: str, payload: dict[str, Any]) -> Entry:
        said = {**payload, "task": asking.task, "attempt": asking.attempt, "requested_by": asking.requester.name}
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
            key=digest_of({"kind": kind, "key": key, "actor": actor if kind != "approval_requested" else ""}),
        )

    def _due(self, asking: Asking) -> datetime | None:
        asked = [
            entry
            for entry in self.entries("approval_requested")
            if (entry.payload.get("run"), entry.payload.get("task"), entry.payload.get("attempt"))
            == (self.run, asking.task, asking.attempt)
        ]
        return _moment(asked[-1].payload["due"]) if asked else None


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
    return _moment(asked[-1].payload["due"]) if asked and mine[-1].kind == "approval_refused" else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
