"""What every validator does and gives back: one finding for each expectation of a contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from millrace.artifact import DatasetRef, PlainValue, Verdict
from millrace.cleanup import plan
from millrace.spec.contract import ExpectationSpec

ROW = plan.ROW
"""Position of a row in its raw partition. No declared column can be called so: `#` is not allowed in a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """Rows that do not become clean, for one reason.

    Attributes:
        reason: name of the expectation, `duplicate`, `duplicate_superseded`, `late`, or `cleanup.<step>.<column>`.
        columns: the columns judged.
        rows: their positions (`row#`), sorted, each once.
        stage: whether the values judged are those of `raw` or of `clean` columns.
    """

    reason: str
    columns: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    stage: str = "clean"

    def without(self, rows: npt.NDArray[np.int64]) -> SetAside:
        """The same less some rows, given sorted and each once."""
        return dataclasses.replace(self, rows=np.setdiff1d(self.rows, rows, assume_unique=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What a clean-up step did: `rows_in = rows_out + set aside by it`."""

    step: str
    rows_in: int
    rows_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one expectation fared on one partition.

    Attributes:
        expectation: the expectation with what its failure does.
        holds: Great Expectations' own verdict, `mostly` included.
        rows: positions (`row#`) of the rows that fail it, sorted; None for a type that judges the table as a whole,
            and for one whose failure does not quarantine.
        observed: what was seen instead, in words.
        error: why it could not be judged at all; "" where it was.
    """

    expectation: ExpectationSpec
    holds: bool
    rows: npt.NDArray[np.int64] | None = None
    observed: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Findings in the order of the contract, and Great Expectations' result document (JSON types, bounded size).

    Attributes:
        findings: one for each expectation.
        document: the result of the suite as Great Expectations writes it.
        by_engine: how many expectations DuckDB counted and how many ran on Great Expectations' own pandas engine.
    """

    findings: Sequence[Finding]
    document: Mapping[str, Any]
    by_engine: Mapping[str, int] = field(default_factory=dict)


class Validator(Protocol):
    """Judges rows by a contract. Every implementation gives Great Expectations' own verdicts."""

    def validate(self, connection: Any, table: str, contract: Sequence[ExpectationSpec], *, suite: str) -> Validation:
        """Judge all expectations in one go.

        Args:
            connection: a `duckdb.DuckDBPyConnection`.
            table: table or view of it that holds the rows with their column `row#`.
            contract: what they must satisfy.
            suite: name that results and pages carry.

        Raises:
            SpecError: an expectation is unknown, refuses its arguments, or names a column that is not there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport(PlainValue):
    """What became of one partition of one source.

    Attributes:
        source: name of the source.
        partition: key, or "" for a static source.
        clean: the clean snapshot.
        quarantine: the quarantine snapshot, None where nothing of this partition ever went there.
        rows_in: records ingested: rows of the raw snapshot and records set aside before they became rows; always
            `rows_clean + rows_quarantined`.
        rows_clean: rows of the clean snapshot.
        rows_quarantined: rows of the quarantine with status open.
        verdict: `pass`, with warnings and quarantined counts as reasons.
        docs: path of the Data Docs page.
        steps: what each clean-up step did.
        changed: False where rows, contract and quarantine were those of the last time, whose verdict this is.
    """

    source: str
    partition: str
    clean: DatasetRef
    quarantine: DatasetRef | None
    rows_in: int
    rows_clean: int
    rows_quarantined: int
    verdict: Verdict
    docs: str
    steps: Sequence[StepReport] = ()
    changed: bool = True

    @property
    def line(self) -> str:
        """The outcome in one line."""
        return ("unchanged: " if not self.changed else "") + self.verdict.reasons[0]

    def unchanged(self) -> ValidationReport:
        """The same report, given for the same rows again."""
        quarantine = None if self.quarantine is None else dataclasses.replace(self.quarantine, changed=False)
        clean = dataclasses.replace(self.clean, changed=False)
        return dataclasses.replace(self, clean=clean, quarantine=quarantine, changed=False)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ValidationReport:
        """The value that `to_dict` was called on."""
        quarantine = plain["quarantine"]
        return cls(
            **{
                **plain,
                "clean": DatasetRef.from_dict(plain["clean"]),
                "quarantine": None if quarantine is None else DatasetRef.from_dict(quarantine),
                "verdict": Verdict.from_dict(plain["verdict"]),
                "steps": tuple(StepReport(**item) for item in plain.get("steps", ())),
            }
        )
