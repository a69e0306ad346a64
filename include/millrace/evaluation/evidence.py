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

_LATER = frozenset({"classes", "absent", "tuning", "fairness", "stability", "latency", "value", "curves", "origin"})


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
    """The ranking metric on the rows that have one value of a column.

    Attributes:
        column: the column; crossed ones are joined by ` × `, and so are their values.
        gain: of the challenger over the champion, paired; None without one.
    """

    column: str
    value: str
    rows: int
    mean_label: float
    score: Estimate
    champion: Estimate | None = None
    gain: Estimate | None = None


class GroupScore(_Part):
    """Decisions on the rows that have one value of a sensitive column.

    Attributes:
        selected: share decided 1 (of several classes or a number: see `FairnessScore.decides`).
        true_positive_rate: share decided 1 of those that are; None where none is.
        false_positive_rate: share decided 1 of those that are not; None where all are.
    """

    value: str
    rows: int
    mean_label: float
    selected: float
    true_positive_rate: float | None = None
    false_positive_rate: float | None = None


class FairnessScore(_Part):
    """How alike the groups of one sensitive column are treated; groups of too few rows are shown, not compared.

    Attributes:
        decides: what counts as decided 1, for people.
        compared: groups with rows enough.
        demographic_parity: least share selected over the greatest; 1 is alike.
        equalized_odds: least over greatest of the true and of the false positive rates, the worse of both; 1 is alike.
        least: group with the least share selected.
        greatest: group with the greatest.
    """

    column: str
    decides: str
    min_rows: int
    compared: int
    demographic_parity: Estimate = Estimate()
    demographic_parity_difference: Estimate = Estimate()
    equalized_odds: Estimate = Estimate()
    equalized_odds_difference: Estimate = Estimate()
    least: str = ""
    greatest: str = ""
    groups: list[GroupScore]


class StabilityTest(_Part):
    """What becomes of predictions when inputs are changed a little, or are missing.

    Attributes:
        change: `perturbed` or `missing`.
        feature: the feature that was changed; "" for all numbers at once.
        moved: mean absolute change of the prediction (of a number: in standard deviations of the label).
        metric: the ranking metric on the changed rows.
        broken: predictions that are not finite any more.
    """

    change: Literal["perturbed", "missing"]
    feature: str
    rows: int
    moved: float
    metric: float | None = None
    broken: int = 0


class Latency(_Part):
    """How long the challenger's package takes, measured once a package and kept: milliseconds."""

    rows: int
    load: float
    one_median: float
    one_p99: float
    batch: float


class BusinessValue(_Part):
    """What the challenger's decisions on the holdout are worth, in money.

    Attributes:
        total: over all rows.
        per_row: on average, with the interval of the day-block bootstrap.
        champion: the same of the champion's decisions, where one was compared.
        baseline: the same of the best decision that looks at no feature.
        gain: paired, over the champion; over that best decision without one.
    """

    currency: str
    rows: int
    total: float
    per_row: Estimate
    champion: Estimate | None = None
    baseline: Estimate
    gain: Estimate


class Curve(_Part):
    """Points of a plot, few enough for a page.

    Attributes:
        kind: `roc`, `precision_recall`, or `residuals` (quantiles of the error along the prediction).
        of: `challenger` or `champion`.
    """

    kind: Literal["roc", "precision_recall", "residuals"]
    of: str
    x: list[float]
    y: list[float]


class Origin(_Part):
    """Where the challenger comes from, as its first recipe says.

    Attributes:
        commit: of the code it was trained by; "" outside git.
        tree: `clean`, `dirty` or `none`.
        lock: digest of the lock of its software.
        recipe: digest of the recipe; "" where there is none (a model from elsewhere).
        source: where a model from elsewhere came from; "" for one trained here.
    """

    commit: str
    tree: str
    lock: str
    recipe: str
    source: str = ""


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
        fairness: sensitive column by column.
        stability: what changed and missing inputs do.
        latency: of the challenger's package; None in bundles from before it was measured.
        value: in money, where the use case says what decisions are worth.
        curves: what the card draws.
        origin: code, lock and recipe of the challenger.
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
