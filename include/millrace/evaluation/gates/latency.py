"""The package must answer as fast as it is needed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, Gate
from millrace.spec.use_case import UseCaseSpec


class LatencyGate(Gate):
    """Fails where the challenger's package takes longer than is allowed, on one thread in a process of its own.

    Attributes:
        max_one_ms: one row, the median.
        max_p99_ms: one row, 99 of 100.
        max_batch_ms: a batch of 1,000 rows.
        max_load_ms: from the first import to a model that answers.
    """

    max_one_ms: Annotated[float, Field(gt=0)] | None = None
    max_p99_ms: Annotated[float, Field(gt=0)] | None = None
    max_batch_ms: Annotated[float, Field(gt=0)] | None = None
    max_load_ms: Annotated[float, Field(gt=0)] | None = None

    def answer(self, evidence: Evidence) -> Answer:
        """Insufficient where it was not measured."""
        found = evidence.latency
        if found is None:
            return Answer(outcome="insufficient_data", sentence="How long the package takes was not measured.")
        asked = [
            ("one_ms", "one row", found.one_median, self.max_one_ms),
            ("p99_ms", "one row, in 99 of 100 cases,", found.one_p99, self.max_p99_ms),
            ("batch_ms", f"a batch of {found.rows:,} rows", found.batch, self.max_batch_ms),
            ("load_ms", "loading", found.load, self.max_load_ms),
        ]
        numbers = {name: value for name, _, value, _ in asked}
        numbers |= {f"max_{name}": limit for name, _, _, limit in asked if limit is not None}
        slow = [
            f"{what} takes {value:.4g} ms, {limit:g} ms are allowed"
            for _, what, value, limit in asked
            if limit is not None and value > limit
        ]
        if slow:
            return Answer(outcome="fail", numbers=numbers, sentence=f"{_start(slow)}.")
        sentence = f"One row takes {found.one_median:.4g} ms, a batch of {found.rows:,} rows {found.batch:.4g} ms."
        return Answer(outcome="pass", numbers=numbers, sentence=sentence)

    def check(self, use_case: UseCaseSpec) -> str:
        """At least one limit must be given."""
        if all(limit is None for limit in (self.max_one_ms, self.max_p99_ms, self.max_batch_ms, self.max_load_ms)):
            return "it has no limit; give max_one_ms, max_p99_ms, max_batch_ms or max_load_ms"
        return super().check(use_case)


def _start(parts: list[str]) -> str:
    told = "; ".join(parts)
    return told[:1].upper() + told[1:]


GATE = LatencyGate
