"""What an evaluation finds, piece by piece: the parts of the evidence bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

_SHOWN_SLICES = 8


def shortened(value: float, digits: int = 10) -> float:
    """A figure of few significant digits: enough for any reader, and a last bit that differs changes no digest."""
    return float(f"{float(value):.{digits}g}")


class Part(BaseModel):
    """Bundles outlive the code that wrote them: an unknown field is passed over, a new one needs a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Estimate(Part):
    """A figure with the bounds of its 95 % interval; None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class ModelScore(Part):
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


class Comparison(Part):
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


class SliceScore(Part):
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

    @property
    def name(self) -> str:
        """Column and value."""
        return f"{self.column} {self.value}"


def slice_list(slices: Sequence[SliceScore]) -> str:
    """Names of slices; of many the first ones, and how many more there are."""
    shown = ", ".join(item.name for item in slices[:_SHOWN_SLICES])
    more = len(slices) - _SHOWN_SLICES
    return f"{shown} and {more} more" if more > 0 else shown


class GroupScore(Part):
    """Decisions on the rows that have one value of a sensitive column.

    Attributes:
        mean_label: share of its rows that are 1.
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


class FairnessScore(Part):
    """How alike the groups of one sensitive column are treated; groups of too few rows are shown, not compared.

    Attributes:
        decides: what counts as decided 1, for people; of several classes there is a score for each.
        min_rows: rows a group needs to be compared.
        min_of_each: rows that are 1, and rows that are not, that a group needs for its rates to be compared.
        compared: groups whose shares selected are compared.
        odds_compared: groups whose true and false positive rates are compared.
        demographic_parity: least share selected over the greatest; 1 is alike. None where nobody is selected, or
            everybody: then nothing is decided, alike or not.
        equalized_odds: least over greatest of the true and of the false positive rates, the worse of both; 1 is alike.
            A rate that is nought in every group is not compared.
        least: group with the least share selected, of those compared.
        greatest: group with the greatest.
        odds_rate: `true` or `false` positive rate: the one that is less alike.
        odds_least: group with the least of that rate.
        odds_greatest: group with the greatest.
    """

    column: str
    decides: str
    min_rows: int
    min_of_each: int = 1
    compared: int
    odds_compared: int = 0
    demographic_parity: Estimate = Estimate()
    demographic_parity_difference: Estimate = Estimate()
    equalized_odds: Estimate = Estimate()
    equalized_odds_difference: Estimate = Estimate()
    least: str = ""
    greatest: str = ""
    odds_rate: Literal["", "true", "false"] = ""
    odds_least: str = ""
    odds_greatest: str = ""
    groups: list[GroupScore]


class StabilityTest(Part):
    """What becomes of predictions when inputs are changed a little, or are missing.

    Attributes:
        change: `perturbed` or `missing`.
        feature: the feature that was changed; "" for all numbers at once.
        moved: mean absolute change of the predictions that stay finite (of a number: in standard deviations of the
            label; of several classes: the share of probability that goes to another class).
        metric: the ranking metric on the changed rows; None where a prediction broke, or it is undefined.
        drop: what the metric lost against the same rows unchanged, in its own direction: more is worse.
        broken: predictions that are not finite any more, or that the model refused to make.
    """

    change: Literal["perturbed", "missing"]
    feature: str
    rows: int
    moved: float
    metric: float | None = None
    drop: float | None = None
    broken: int = 0


class Latency(Part):
    """How long the challenger's package takes, measured once a package and kept: milliseconds.

    Attributes:
        rows: rows of the batch.
        load: from the first import of a library to a model that answers, in a process of its own.
        one_median: one row, the median of many.
        one_p99: one row, 99 of 100 at most.
        batch: all rows of the batch at once, the median of several.
    """

    rows: int
    load: float
    one_median: float
    one_p99: float
    batch: float


class ValueCell(Part):
    """Rows of one outcome and one decision.

    Attributes:
        came: class that came; "" where the label is a number.
        decided: class that was decided; `too much` or `too little` of a number.
        total: money of these rows.
    """

    came: str
    decided: str
    rows: int
    total: float


class BusinessValue(Part):
    """What the challenger's decisions on the holdout are worth, in money.

    Attributes:
        total: over all rows.
        per_row: on average, with the interval of the day-block bootstrap.
        champion: the same of the champion's decisions, by its own threshold, where one was compared.
        baseline: the same of the best single answer to all rows, which looks at no feature.
        gain: per row, paired, over the champion; over that single answer without one.
        cells: where the money comes from and goes to, the largest sums first.
    """

    currency: str
    rows: int
    total: float
    per_row: Estimate
    champion: Estimate | None = None
    baseline: Estimate
    gain: Estimate
    cells: list[ValueCell] = []


class Curve(Part):
    """Points of a plot, few enough for a page.

    Attributes:
        kind: `roc` (false against true positive rate), `precision_recall` (recall against precision), or `residuals`
            (prediction against the median error, prediction less label).
        of: `challenger` or `champion`.
        low: of residuals, what a twentieth of the errors lie below.
        high: of residuals, what a twentieth of the errors lie above.
    """

    kind: Literal["roc", "precision_recall", "residuals"]
    of: str
    x: list[float]
    y: list[float]
    low: list[float] = []
    high: list[float] = []


class Origin(Part):
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


class CalibrationPoint(Part):
    """One bin of probabilities: what was predicted on average, and the share of ones that came.

    Of several classes it is about the most probable one: its probability, and how often it came.
    """

    rows: int
    predicted: float
    observed: float


class ClassScore(Part):
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


class Contribution(Part):
    """How much one feature moves the predictions, on average over rows."""

    feature: str
    share: float
    value: float


class Explanation(Part):
    """What moves the challenger.

    Attributes:
        method: `contributions` (mean absolute contribution, by the booster) or `permutation` (how much worse the
            metric gets when a column is shuffled).
    """

    method: Literal["contributions", "permutation", "none"]
    rows: int
    features: list[Contribution]


class Sufficiency(Part):
    """How well one feature alone predicts the label: AUC or R², fitted on training rows, measured on the holdout."""

    feature: str
    score: float


class TimeOrder(Part):
    """Instants (ISO) and counts that show whether training saw its future.

    Attributes:
        declared: whether the challenger was trained elsewhere, so that its training is told and not seen.
    """

    training_partitions: list[str]
    holdout: str
    training_last_event: str
    holdout_first_event: str
    holdout_last_event: str
    holdout_start: str
    cut: str
    last_label_known_at: str
    rows_in_both: int
    declared: bool = False


class DataIdentity(Part):
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
