"""Which partitions an evaluation keeps back: the last ones, up to the one that the holdout is named by."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.errors import SpecError
from millrace.partition import Partition
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
    last = domain.partition(holdout)
    window = last.shift(1 - use_case.evaluation.holdout_partitions).until(last)
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
