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
from millrace.governance.tuning_record import TuningRecord
from millrace.settings import Settings
from millrace.spec.use_case import Problem

_LATER = frozenset({"classes", "absent", "tuning"})


class _Part(BaseModel):
    """Bundles outlive the code that wrote them: an unknown field is passed over, a new one needs a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(_Part):
    """A figure with the bounds of its 95 % interval; None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class ModelScore(_Part):
    """One model on the holdout.

    Attributes:
        name: candidate of the spec, or `champion`.
        release: release it is, for the champion.
        bytes: size of the package.
    """

    name: str
    trainer: str
    package: str
    release: int = 0
    trained_through: str
    bytes: int
    features: list[str]
    metrics: dict[str, Estimate]


class Comparison(_Part):
    """The challenger against another model, on the same rows and the same resampled days.

    Attributes:
        gain: in the metric's own direction, so that more is better whatever the metric.
        reason: why there is no figure, where there is none.
    """

    against: str
    package: str = ""
    release: int = 0
    gain: Estimate = Estimate()
    reason: str = ""


class SliceScore(_Part):
    """The ranking metric on the rows that have one value of a column."""

    column: str
    value: str
    rows: int
    mean_label: float
    score: Estimate
    champion: Estimate | None = None


class CalibrationPoint(_Part):
    """One bin of probabilities: what was predicted on average, and the share of ones that came.

    Of several classes it is about the most probable one: its probability, and how often it came.
    """

    rows: int
    predicted: float
    observed: float


class ClassScore(_Part):
    """The challenger on one of several classes.

    Attributes:
        rows: rows of the holdout that are of it.
        training_rows: rows of training that are of it.
        named: rows that it is the most probable class of.
        precision: share of those named that are of it; None where none is named.
        recall: share of its rows that are named so; None where it has none.
        auc: of its probability, it against the rest.
    """

    name: str
    rows: int
    training_rows: int
    named: int
    precision: float | None = None
    recall: float | None = None
    auc: float | None = None


class Contribution(_Part):
    """How much one feature moves the predictions, on average over rows."""

    feature: str
    share: float
    value: float


class Explanation(_Part):
    """What moves the challenger.

    Attributes:
        method: `contributions` (mean absolute contribution, by the booster) or `permutation` (how much worse the
            metric gets when a column is shuffled).
    """

    method: Literal["contributions", "permutation", "none"]
    rows: int
    features: list[Contribution]


class Sufficiency(_Part):
    """How well one feature alone predicts the label: AUC or R², fitted on training rows, measured on the holdout."""

    feature: str
    score: float


class TimeOrder(_Part):
    """Instants (ISO) and counts that show whether training saw its future."""

    training_partitions: list[str]
    holdout: str
    training_last_event: str
    holdout_first_event: str
    holdout_last_event: str
    holdout_start: str
    cut: str
    last_label_known_at: str
    rows_in_both: int


class DataIdentity(_Part):
    """The rows everything here was measured on, by content digest; labels of several classes have no mean, it is 0."""

    training_set: str
    training_rows: int
    holdout_digest: str
    holdout_rows: int
    holdout_days: int
    known_until: str
    mean_label: float
    training_mean_label: float
    missing_share: dict[str, float]


class Evidence(_Part):
    """The bundle.

    Attributes:
        classes: the challenger class by class, where there are several.
        absent: candidates of the use case that were not trained, and so are not judged.
        tuning: candidate → how its parameters were found, where they were searched for.
    """

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
    tuning: dict[str, TuningRecord] = {}

    @property
    def challenger_score(self) -> ModelScore:
        """The candidate that was chosen."""
        return next(item for item in self.candidates if item.name == self.challenger)

    def document(self) -> dict[str, Any]:
        """JSON types, as stored; what came to the layout later stands there only where it says something."""
        plain = self.model_dump(mode="json")
        return {name: value for name, value in plain.items() if value or name not in _LATER}

    @property
    def digest(self) -> str:
        """Address of the bundle."""
        return digest_of(self.document())


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
