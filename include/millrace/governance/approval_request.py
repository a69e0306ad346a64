"""A request for approval: who is asked for, by when, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from millrace.artifact import PlainValue
from millrace.governance.ledger import Entry

Decision = Literal["approved", "rejected", "refused", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request for an answer.

    Attributes:
        task: which of the round's requests it is, such as `request_approval_1`.
        attempt: how often that was asked, from 1.
    """

    task: str
    attempt: int

    @property
    def key(self) -> str:
        """Tells this request from the others of its round."""
        return f"{self.task}/{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An open request, as people are shown it.

    Attributes:
        due: by when it is to be answered.
        barred: who may not approve → why.
        approved: people who approved in this round before; they may not approve twice.
        answers: what became of earlier requests of this round, as sentences, oldest first.
        waivers: rules that somebody let this package pass, as sentences.
        settled: the approval that this task has already; nobody has to be asked.
    """

    due: datetime
    barred: dict[str, str]
    approved: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    waivers: list[str] = field(default_factory=list)
    settled: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What Airflow recorded of an answer.

    Attributes:
        name: Airflow user name; "" where it recorded none.
        approves: whether they approved; None for neither yes nor no.
        comment: what they wrote with it.
        at: when they answered.
    """

    name: str
    approves: bool | None
    comment: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(PlainValue):
    """What became of a request.

    Attributes:
        decision: `refused` and `expired` are no answers: it is asked again.
        name: who answered.
        sentence: the same for people.
        entry: number of the ledger entry.
    """

    decision: Decision
    name: str
    sentence: str
    entry: int
