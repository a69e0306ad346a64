"""What findings amount to: which rows go to quarantine, what blocks the partition, what is only told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.spec.contract import ExpectationSpec
from millrace.spec.source import SourceSpec
from millrace.validation.base import Finding, SetAside

DUPLICATE = "duplicate"
SUPERSEDED = "duplicate_superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be done with a partition.

    Attributes:
        aside: rows to be set aside, by reason, in the order they were found.
        blocked: why the partition may not be published; empty where it may.
        notes: expectations that do not hold and only warn.
    """

    aside: Sequence[SetAside]
    blocked: Sequence[str]
    notes: Sequence[str]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Positions of the rows set aside, sorted, each once."""
        return positions(self.aside)


def positions(aside: Sequence[SetAside]) -> npt.NDArray[np.int64]:
    """Positions of all rows set aside for any reason, sorted, each once."""
    found = [item.rows for item in aside]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def judge(findings: Sequence[Finding], aside: Sequence[SetAside], spec: SourceSpec) -> Judgement:
    """Apply each expectation's `on_failure`, and the policy for duplicates.

    An expectation that holds does nothing, rows within the tolerance of its `mostly` included. One that could not be
    judged blocks, whatever its `on_failure`.

    Args:
        findings: of the expectations on raw and on clean rows.
        aside: rows set aside before any expectation: by clean-up, and for their key.
        spec: their source.
    """
    found = [item for item in aside if len(item.rows)]
    blocked = [
        f"{len(item.rows)} rows share their key ({', '.join(item.columns)}) with others"
        for item in found
        if item.reason == DUPLICATE and spec.duplicates.policy == "block"
    ]
    notes: list[str] = []
    for finding in findings:
        item = finding.expectation
        if finding.error:
            blocked.append(f"{item.name} could not be judged: {finding.error}")
        elif finding.holds:
            continue
        elif item.on_failure == "quarantine" and finding.rows is not None:
            found.append(SetAside(reason=item.name, columns=judged_columns(item), rows=finding.rows, stage=item.stage))
        elif item.on_failure == "warn":
            notes.append(f"{item.name} does not hold: {finding.observed}")
        else:
            blocked.append(f"{item.name} does not hold: {finding.observed}")
    return Judgement(aside=found, blocked=blocked, notes=notes)


def tell_aside(counts: Mapping[str, int]) -> list[str]:
    """How many rows wait for which reason, in words."""
    return [f"{reason}: {count_of(rows, 'row')} quarantined" for reason, rows in counts.items() if rows]


def count_of(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def over_limit(aside: int, rows_in: int, spec: SourceSpec) -> list[str]:
    """Why so many rows in quarantine block the partition; empty where they do not."""
    if not rows_in or aside / rows_in <= spec.max_quarantined_share:
        return []
    return [
        f"{aside} of {rows_in} rows ({aside / rows_in:.2%}) would be quarantined, "
        f"over the limit of {spec.max_quarantined_share:.2%}"
    ]


def judged_columns(item: ExpectationSpec) -> tuple[str, ...]:
    """The columns whose values an expectation looks at."""
    single = [str(item.kwargs[key]) for key in ("column", "column_A", "column_B") if key in item.kwargs]
    return (*single, *(str(name) for name in item.kwargs.get("column_list", [])))
