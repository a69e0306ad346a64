"""The evidence bundle: all that was measured of the candidates of one training run, and what it was measured on.

It holds no time, run id, path or author, so that the same data and packages give the same bytes; what it says of a
search for parameters is what the package's recipe says. Gates answer from the bundle alone, and so does the model card.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.artifact import digest_of
from millrace.document import load_document, store_document
from millrace.errors import DocumentError
from millrace.evaluation.audit_finding import FairnessScore, StabilityTest
from millrace.evaluation.finding import (
    BusinessValue,
    CalibrationPoint,
    ClassScore,
    Comparison,
    Curve,
    DataIdentity,
    Explanation,
    Latency,
    ModelScore,
    Origin,
    SliceScore,
    Sufficiency,
    TimeOrder,
)
from millrace.evaluation.metric import DecisionRule
from millrace.governance.tuning_record import TuningRecord
from millrace.settings import Settings
from millrace.spec.use_case import Problem

_LATER = frozenset(
    {"classes", "absent", "rule", "tuning", "fairness", "stability", "latency", "value", "curves", "origin"}
)

_LATER_OF_TIME = frozenset({"holdout_first", "training_label_known_at"})


class Evidence(BaseModel):
    """The bundle.

    Attributes:
        classes: the challenger class by class, where there are several.
        absent: candidates of the use case that were not trained, and so are not judged.
        rule: how a probability becomes a decision, where there are two classes.
        tuning: candidate → how its parameters were found, where they were searched for.
        fairness: sensitive column by column.
        stability: what changed and missing inputs do.
        latency: of the challenger's package; None in bundles from before it was measured.
        value: in money, where the use case says what decisions are worth.
        curves: what the card draws.
        origin: code, lock and recipe of the challenger.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    use_case: str
    use_case_digest: str
    description: str
    owners: list[str]
    tier: str
    policy: str
    problem: Problem
    metric: str
    label: str
    feature_service: str
    declared_features: list[str]
    declared_leaks: list[str]
    seed: int
    rounds: int
    data: DataIdentity
    time: TimeOrder
    candidates: list[ModelScore]
    challenger: str
    champion: ModelScore | None = None
    versus_champion: Comparison
    versus_baseline: Comparison
    slices: list[SliceScore]
    calibration: list[CalibrationPoint]
    explanation: Explanation
    sufficiency: list[Sufficiency]
    reference: str
    classes: list[ClassScore] = []
    absent: list[str] = []
    rule: DecisionRule | None = None
    tuning: dict[str, TuningRecord] = {}
    fairness: list[FairnessScore] = []
    stability: list[StabilityTest] = []
    latency: Latency | None = None
    value: BusinessValue | None = None
    curves: list[Curve] = []
    origin: Origin | None = None

    @property
    def challenger_score(self) -> ModelScore:
        """The candidate that was chosen."""
        return next(item for item in self.candidates if item.name == self.challenger)

    def document(self) -> dict[str, Any]:
        """JSON types, as stored; what came to the layout later stands there only where it says something."""
        plain = self.model_dump(mode="json")
        plain["time"] = _said(plain["time"], _LATER_OF_TIME)
        return _said(plain, _LATER)

    @property
    def digest(self) -> str:
        """Address of the bundle."""
        return digest_of(self.document())


def _said(plain: dict[str, Any], later: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if value or name not in later}


def evidence_folder(settings: Settings) -> Path:
    """Where bundles, verdicts and cards lie."""
    return settings.var / "evidence"


def store_evidence(evidence: Evidence, settings: Settings) -> str:
    """Store a bundle and give back its digest."""
    return store_document(evidence_folder(settings), evidence.document())


def load_evidence(digest: str, settings: Settings) -> Evidence:
    """The bundle of a digest.

    Raises:
        DocumentError: there is none, its bytes were changed, or this version of Millrace cannot read it.
    """
    try:
        return Evidence.model_validate(load_document(evidence_folder(settings), digest))
    except ValidationError as error:
        raise DocumentError(
            f"not a bundle of a layout this version reads: {error.errors()[0]['loc']}",
            where=f"{evidence_folder(settings)}/{digest}.json",
            remedy="evaluate the candidates again",
        ) from error
