"""What an audit of the challenger finds: how alike groups are treated, and how predictions stand small changes."""

from __future__ import annotations

from typing import Literal

from millrace.evaluation.finding import Estimate, Part


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
