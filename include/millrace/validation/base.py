"""What every validator does and gives back: one finding for each expectation of a contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from millrace.artifact import DatasetRef, Verdict, canonical
from millrace.spec.domain import ExpectationSpec

ROW = "row#"
"""Position of a row in its raw partition. No declared column can be called so: `#` is not allowed in a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one expectation fared on one partition.

    Attributes:
        expectation: the expectation with what its failure does.
        holds: Great Expectations' own verdict, `mostly` included.
        rows: positions (`row#`) of the rows that fail it; None for a type that judges the table as a whole.
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
    """Findings in the order of the contract, and Great Expectations' result document (JSON types, bounded size)."""

    findings: Sequence[Finding]
    document: Mapping[str, Any]


class Validator(Protocol):
    """Judges rows by a contract. Every implementation gives Great Expectations' own verdicts."""

    def validate(self, rows: pa.Table, contract: Sequence[ExpectationSpec], *, suite: str) -> Validation:
        """Judge all expectations in one go.

        Args:
            rows: clean rows with their column `row#`.
            contract: what they must satisfy.
            suite: name that results and pages carry.

        Raises:
            SpecError: an expectation is unknown, refuses its arguments, or names a column that is not there.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What became of one partition of one source.

    Attributes:
        source: name of the source.
        partition: key, or "" for a static source.
        clean: the clean snapshot.
        quarantine: the quarantine snapshot, None where nothing of this partition ever went there.
        rows_in: rows of the raw snapshot; always `rows_clean + rows_quarantined`.
        verdict: `pass`, with warnings and quarantined counts as reasons.
        docs: path of the Data Docs page.
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

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, under 4 KB; `from_dict` gives an equal value back."""
        plain: dict[str, Any] = orjson.loads(canonical(dataclasses.asdict(self)))
        return plain

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
            }
        )
