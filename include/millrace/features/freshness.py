"""How far each view of the online store lies behind the data, against its objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from millrace.artifact import PlainValue, iso
from millrace.partition import Partition
from millrace.spec import DomainSpec

FreshnessVerdict = Literal["fresh", "stale", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFreshness(PlainValue):
    """How fresh one view is.

    Attributes:
        view: the view.
        verdict: `fresh`; `stale` where the lag is over the objective; `never` where nothing was materialized.
        objective_hours: how far the view may lie behind; 0 where it may lie behind as far as it does.
        reference: ISO instant the lag is counted from: the end of the last partition that was over; "" for none.
        high_water_mark: ISO instant as of which the online store answers; None for `never`.
        newest_event: ISO instant of the newest fact it had then; None where that is not known.
        lag_hours: hours from the high-water mark to the reference, 0 where it is past that; None for `never`.
        rows: rows of the view in the store; None for `never`.
    """

    view: str
    verdict: FreshnessVerdict
    objective_hours: int = 0
    reference: str = ""
    high_water_mark: str | None = None
    newest_event: str | None = None
    lag_hours: float | None = None
    rows: int | None = None

    @property
    def sentence(self) -> str:
        """The verdict with its figures, for people."""
        if self.verdict == "never" or self.lag_hours is None:
            return f"{self.view} was never brought to the online store."
        behind = f"{self.lag_hours:.4g} h behind" if self.lag_hours else "up to date"
        objective = f", {self.objective_hours} h are allowed" if self.objective_hours else ""
        return f"{self.view} is {behind}{objective} (online as of {self.high_water_mark})."


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessReport(PlainValue):
    """How fresh the views are that a use case reads: input for alerts.

    Attributes:
        use_case: its use case.
        partition: key of the partition at whose end it was asked.
        verdict: `fresh`; `stale` where a view with an objective is stale or was never brought to the store;
            `unreachable` where the store did not answer.
        stale: those views.
        reasons: a sentence for each of them; empty for `fresh`.
        views: all views, as plain values.
    """

    use_case: str
    partition: str
    verdict: Literal["fresh", "stale", "unreachable"] = "fresh"
    stale: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)

    def of(self, views: Sequence[ViewFreshness]) -> FreshnessReport:
        """The report on these views."""
        stale = [view for view in views if view.verdict != "fresh" and view.objective_hours and view.reference]
        return replace(
            self,
            verdict="stale" if stale else "fresh",
            stale=[view.view for view in stale],
            reasons=[f"Not fresh: {view.sentence}" for view in stale],
            views=[view.to_dict() for view in views],
        )

    def unreachable(self, what: str) -> FreshnessReport:
        """The report on a store that did not answer, and what it said."""
        return replace(self, verdict="unreachable", reasons=[f"Freshness is not known: {what}."])


def judge_freshness(
    domain: DomainSpec,
    view: str,
    *,
    at: datetime,
    high_water_mark: datetime | None,
    newest_event: datetime | None = None,
    rows: int | None = None,
) -> ViewFreshness:
    """Hold a view against its objective.

    Args:
        domain: its domain.
        view: name of the feature table.
        at: the instant as of which.
        high_water_mark: the view's, in the online store; None before the first time.
        newest_event: of the newest fact in it.
        rows: rows of it.
    """
    objective = domain.feature_tables[view].freshness_hours
    reference = last_end(domain, at)
    told = "" if reference is None else iso(reference)
    if high_water_mark is None:
        return ViewFreshness(view=view, verdict="never", objective_hours=objective, reference=told)
    lag = 0.0 if reference is None else max(0.0, (reference - high_water_mark).total_seconds() / 3600)
    return ViewFreshness(
        view=view,
        verdict="stale" if objective and lag > objective else "fresh",
        objective_hours=objective,
        reference=told,
        high_water_mark=iso(high_water_mark),
        newest_event=None if newest_event is None else iso(newest_event),
        lag_hours=lag,
        rows=rows,
    )


def last_end(domain: DomainSpec, at: datetime) -> datetime | None:
    """End of the domain's last partition that is over at an instant; None where not even the first is."""
    if domain.last is not None and (end := domain.partition(domain.last).end) <= at:
        return end
    running = Partition.at(at, domain.grain, domain.timezone)
    return None if running.start <= domain.first_start else running.start
