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
        holdout: the partition held out, the last where there are several.
        declared: whether the challenger was trained elsewhere, so that its training is told and not seen.
        holdout_first: the first partition held out, where there are several.
        training_label_known_at: when the last label trained on became known, where several partitions are held out.
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
    holdout_first: str = ""
    training_label_known_at: str = ""

    @property
    def measured_on(self) -> str:
        """The partitions held out, as people write them."""
        return f"{self.holdout_first} to {self.holdout}" if self.holdout_first else self.holdout


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
