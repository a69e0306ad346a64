"""What stages hand to each other: small references and verdicts, never data."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

import orjson

Outcome = Literal["pass", "fail", "insufficient_data"]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: the bytes a digest is taken of. Floats keep their shortest exact form."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY)


def digest_of(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value)).hexdigest()


class PlainValue:
    """Plain-dict form for XCom, the ledger and the command line."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` gives an equal value back."""
        plain: dict[str, Any] = orjson.loads(canonical(dataclasses.asdict(self)))  # type: ignore[call-overload]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The value that `to_dict` was called on."""
        known = {item.name for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in plain.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef(PlainValue):
    """One snapshot of a Delta table, or one partition of it: names data for ever.

    Attributes:
        table: name in the lake, such as `flights/clean/flights`.
        version: Delta version the rows are read at.
        partition: key, or "" for the whole table.
        rows: number of rows named.
        digest: sha256 over the content as its writer defines it; equal content, equal digest.
        changed: False where the write found nothing new and committed nothing.
        known_until: ISO instant; rows known later are not part of it ("" where that plays no role).
    """

    table: str
    version: int
    partition: str = ""
    rows: int = 0
    digest: str = ""
    changed: bool = True
    known_until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(PlainValue):
    """A sealed package of a trained candidate.

    Attributes:
        use_case: its use case.
        candidate: name of the candidate in the spec (`xgboost`).
        trainer: trainer that made it.
        digest: sha256 of the package's manifest; names folder and bytes.
        trained_through: key of the last training partition.
        holdout: key of the partition kept back for evaluation.
        run_id: MLflow run that trained it ("" before it was logged).
    """

    use_case: str
    candidate: str
    trainer: str
    digest: str
    trained_through: str
    holdout: str
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(PlainValue):
    """The outcome of gates or of a retraining decision, with what it rests on.

    Attributes:
        outcome: `pass`, `fail` or `insufficient_data`; the last never counts as a pass.
        subject: what was judged (a package digest, a partition).
        reasons: sentences for people, the deciding one first.
        evidence: digest of the evidence bundle.
        numbers: the few figures worth showing in the grid.
    """

    outcome: Outcome
    subject: str
    reasons: list[str]
    evidence: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True for `pass` alone."""
        return self.outcome == "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRef(PlainValue):
    """What the online service is told to serve: the content of `<serving_dir>/<use case>/current.json`.

    Attributes:
        use_case: name of the model in the service.
        release: version of the release, and of the model in the service.
        package: digest of the package; the service loads no other bytes.
        package_dir: folder of the package; a relative one lies under the serving folder.
        threshold: probability from which a binary model says yes; None for any other problem.
        effective_at: ISO instant from which the release is in force.
        feature_service: Feast feature service that the package was trained on.
        request_sample: share of the rows asked by key that the service keeps for the comparison with offline features.
        personal: inputs tagged as personal data; the service keeps tokens of them, nothing else.
    """

    use_case: str
    release: int
    package: str
    package_dir: str
    threshold: float | None = None
    effective_at: str = ""
    feature_service: str = ""
    request_sample: float = 0.0
    personal: list[str] = field(default_factory=list)


def iso(moment: datetime) -> str:
    """UTC ISO-8601 with a Z: the one text form of an instant in records of ours."""
    text: str = orjson.loads(orjson.dumps(moment, option=orjson.OPT_UTC_Z))
    return text.replace("+00:00", "Z")
