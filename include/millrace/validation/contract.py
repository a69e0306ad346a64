"""What findings amount to: which rows go to quarantine, what blocks the partition, what is only told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.spec.domain import SourceSpec
from millrace.validation.base import Finding

DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one row is set aside.

    Attributes:
        row: its position in the raw partition (`row#`).
        expectation: name of the expectation, or `duplicate`.
        columns: the columns it judges.
    """

    row: int
    expectation: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be done with a partition.

    Attributes:
        reasons: one for each row and expectation it fails, ordered by row, then by contract.
        blocked: why the partition may not be published; empty where it may.
        notes: what people should know about a partition that is published.
    """

    reasons: Sequence[Reason]
    blocked: Sequence[str]
    notes: Sequence[str]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Positions of the rows set aside, sorted, each once."""
        return np.unique(np.fromiter((item.row for item in self.reasons), np.int64))


def judge(findings: Sequence[Finding], duplicates: npt.NDArray[np.int64], rows_in: int, spec: SourceSpec) -> Judgement:
    """Apply each expectation's `on_failure`, and the limit on the share of quarantined rows.

    An expectation that holds does nothing, rows within the tolerance of its `mostly` included. One that could not be
    judged blocks, whatever its `on_failure`.
    """
    reasons = [Reason(row=int(row), expectation=DUPLICATE, columns=tuple(spec.key)) for row in duplicates]
    blocked: list[str] = []
    notes = [f"{DUPLICATE}: {len(duplicates)} rows quarantined"] if len(duplicates) else []
    for finding in findings:
        item = finding.expectation
        if finding.error:
            blocked.append(f"{item.name} could not be judged: {finding.error}")
        elif finding.holds:
            continue
        elif item.on_failure == "quarantine" and finding.rows is not None:
            columns = judged_columns(finding)
            reasons += [Reason(row=int(row), expectation=item.name, columns=columns) for row in finding.rows]
            notes.append(f"{item.name}: {len(finding.rows)} rows quarantined")
        elif item.on_failure == "warn":
            notes.append(f"{item.name} does not hold: {finding.observed}")
        else:
            blocked.append(f"{item.name} does not hold: {finding.observed}")
    aside = len({item.row for item in reasons})
    if rows_in and aside / rows_in > spec.max_quarantined_share:
        blocked.append(
            f"{aside} of {rows_in} rows ({aside / rows_in:.2%}) would be quarantined, "
            f"over the limit of {spec.max_quarantined_share:.2%}"
        )
    return Judgement(reasons=sorted(reasons, key=lambda reason: reason.row), blocked=blocked, notes=notes)


def judged_columns(finding: Finding) -> tuple[str, ...]:
    """The columns whose values the expectation of a finding looks at."""
    kwargs = finding.expectation.kwargs
    single = [str(kwargs[key]) for key in ("column", "column_A", "column_B") if key in kwargs]
    return (*single, *(str(name) for name in kwargs.get("column_list", [])))
