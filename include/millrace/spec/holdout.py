"""Which partitions an evaluation keeps back, and how many each look at a model takes: always the last ones."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.errors import SpecError
from millrace.partition import Partition
from millrace.spec.candidate import CandidateSpec
from millrace.spec.domain import DomainSpec
from millrace.spec.use_case import UseCaseSpec

LEAST_DAYS = 7
"""A whole week, so that each weekday is judged; fewer days leave an interval of little use: Student's t of 95 % is 12.7
deviations wide on either side for two days, 4.3 for three, 2.4 for seven and 2.2 for fourteen."""


def held_out(use_case: UseCaseSpec, domain: DomainSpec, holdout: str) -> list[Partition]:
    """The partitions that are kept back, in order; those before the domain's first do not exist.

    Args:
        use_case: says how many.
        domain: its domain.
        holdout: key of the last of them.
    """
    return last_partitions(domain, domain.partition(holdout), use_case.evaluation.holdout_partitions)


def last_partitions(domain: DomainSpec, last: Partition, count: int) -> list[Partition]:
    """So many partitions through one, in order; those before the domain's first do not exist."""
    window = last.shift(1 - count).until(last)
    return [partition for partition in window if partition.key >= domain.first] or [last]


def span(partitions: Sequence[Partition]) -> str:
    """Partitions in a row as people write them: the one, or the first and the last."""
    first, last = partitions[0].key, partitions[-1].key
    return first if first == last else f"{first} to {last}"


def find_short_holdout(use_case: UseCaseSpec, domain: DomainSpec) -> list[SpecError]:
    """A holdout of too few days to say within bounds how good a model is; empty where it is long enough."""
    count = use_case.evaluation.holdout_partitions
    if domain.grain != "day" or count >= LEAST_DAYS:
        return []
    days = "one day, which has no interval: no gate that wants one can pass" if count == 1 else f"{count} days"
    return [
        SpecError(
            f"partitions of {domain.name!r} are days, and the holdout is {days}; intervals are drawn from whole days",
            where=f"use_cases/{use_case.name}.yaml: evaluation.holdout_partitions",
            remedy=f"say {LEAST_DAYS} or more; 14 or 28 keep weekdays even",
        )
    ]


def find_odd_windows(use_case: UseCaseSpec, domain: DomainSpec) -> list[SpecError]:
    """Windows that make no sense together: of live days, and of what is validated on and what is left to train on."""
    return [*_short_live(use_case, domain), *_no_room(use_case)]


def _short_live(use_case: UseCaseSpec, domain: DomainSpec) -> list[SpecError]:
    """Too few days for a verdict on what is live; a window that is not said is the holdout's, which has its finding."""
    count = use_case.monitoring.window_partitions
    if domain.grain != "day" or count is None or count >= LEAST_DAYS:
        return []
    days = "one day, which has no interval: a drop never asks for training" if count == 1 else f"{count} days"
    return [
        SpecError(
            f"partitions of {domain.name!r} are days, and live performance is measured on {days}",
            where=f"use_cases/{use_case.name}.yaml: monitoring.window_partitions",
            remedy=f"say {LEAST_DAYS} or more, or leave it out: it is then as long as the holdout",
        )
    ]


def _no_room(use_case: UseCaseSpec) -> list[SpecError]:
    """Candidates that cannot be trained or tuned on the fewest partitions that a training run may have."""
    count, fewest = use_case.evaluation.validated, use_case.min_training_partitions
    if count == 1:
        return []
    found = []
    for name, candidate in use_case.candidates.items():
        needed, why = _needed(candidate, count)
        if needed > fewest:
            found.append(
                SpecError(
                    f"candidate {name!r} takes {needed} partitions before the holdout: {why}; a run may have {fewest}",
                    where=f"use_cases/{use_case.name}.yaml: evaluation.validation_partitions, min_training_partitions",
                    remedy=f"say min_training_partitions: {needed}, or lower evaluation.validation_partitions",
                )
            )
    return found


def _needed(candidate: CandidateSpec, count: int) -> tuple[int, str]:
    """Partitions that a candidate takes, and what for."""
    tuning = candidate.tuning
    stops = bool(candidate.params.get("early_stopping")) or (tuning is not None and "early_stopping" in tuning.space)
    trained, parts = (count + 1, f"early stopping keeps {count} back") if stops else (1, "")
    if tuning is None:
        return trained, parts
    gap = f", after a gap of {tuning.gap}" if tuning.gap else ""
    return trained + tuning.gap + count, "; ".join([f"a fold predicts {count}{gap}", *([parts] if parts else [])])
