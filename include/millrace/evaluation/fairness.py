"""How alike the groups of a sensitive column are treated: rates by fairlearn, with intervals from sums by day.

What counts as decided 1: for a binary problem, a probability that reaches the threshold; of several classes, each of
them in turn, where it is the most probable one; for a number, a prediction above the median label of the holdout
(and a row is 1 where its label is).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from millrace.errors import SettingsError
from millrace.evaluation.audit_finding import FairnessScore, GroupScore
from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats
from millrace.evaluation.finding import Estimate, shortened
from millrace.evaluation.gate import load_gates
from millrace.evaluation.gates.fairness import Fairness
from millrace.evaluation.holdout import Holdout
from millrace.evaluation.score import estimate
from millrace.evaluation.slice import largest_named, slice_names
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

if TYPE_CHECKING:
    from millrace.evaluation.fairlearn_fairness import GroupRates, Rate

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSize:
    """What a group needs to be compared.

    Attributes:
        min_rows: rows.
        min_of_each: rows that are 1, and rows that are not, for its true and false positive rates.
    """

    min_rows: int
    min_of_each: int

    @classmethod
    def of(cls, policy: PolicySpec, use_case: UseCaseSpec) -> GroupSize:
        """What the fairness gates of a policy ask for, which all ask for the same; their defaults where there is none.

        Raises:
            SpecError: a gate of the policy is wrong.
        """
        gates = [gate for _, gate in load_gates(policy, use_case) if isinstance(gate, Fairness)]
        gate = gates[0] if gates else Fairness.model_validate({})
        return cls(min_rows=gate.min_rows, min_of_each=gate.min_of_each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a model decides on each row, and what came.

    Attributes:
        decides: what counts as decided 1, for people.
        truth: (n,) rows that are 1.
        decided: (n,) rows that are decided 1.
    """

    decides: str
    truth: Flags
    decided: Flags

    def take(self, rows: NDArray[np.int64]) -> Decision:
        """The same of some of the rows."""
        return Decision(decides=self.decides, truth=self.truth[rows], decided=self.decided[rows])


def fairlearn_fault(use_case: UseCaseSpec) -> SettingsError | None:
    """What is wrong where sensitive columns are declared and fairlearn is not installed; None where all is well."""
    if not use_case.evaluation.sensitive or importlib.util.find_spec("fairlearn") is not None:
        return None
    return SettingsError(
        "sensitive columns are measured by fairlearn, which is not installed",
        where=f"use_cases/{use_case.name}.yaml: evaluation.sensitive",
        remedy='install the extra (`pip install -c constraints.txt -e ".[fairness]"`)',
    )


def decisions(
    use_case: UseCaseSpec, label: Floats, prediction: Floats, *, threshold: float | None = None
) -> list[Decision]:
    """What the predictions decide: one decision, or one a class.

    Args:
        use_case: problem, classes and threshold.
        label: (n,) labels.
        prediction: (n,), or (n, classes).
        threshold: in place of the use case's.
    """
    if use_case.problem == "multiclass":
        named = prediction.argmax(axis=1)
        return [
            Decision(decides=f"{name} is the most probable class", truth=label == place, decided=named == place)
            for place, name in enumerate(use_case.classes)
        ]
    if use_case.problem == "regression":
        median = float(np.median(label))
        told = f"a prediction above {median:.6g}, the median label"
        return [Decision(decides=told, truth=label > median, decided=prediction > median)]
    limit = use_case.threshold if threshold is None else threshold
    return [Decision(decides=f"a probability of {limit:g} or more", truth=label == 1, decided=prediction >= limit)]


def measure_fairness(
    use_case: UseCaseSpec,
    holdout: Holdout,
    prediction: Floats,
    *,
    size: GroupSize,
    threshold: float | None = None,
) -> list[FairnessScore]:
    """Every sensitive column of a use case; none where it declares none.

    Args:
        use_case: names the columns.
        holdout: rows with them.
        prediction: of the model that is judged.
        size: rows a group needs.
        threshold: what it decides by, in place of the use case's.

    Raises:
        SettingsError: fairlearn is not installed.
    """
    if fault := fairlearn_fault(use_case):
        raise fault
    found: list[FairnessScore] = []
    for column in use_case.evaluation.sensitive:
        values = holdout.audited([column], use_case.features.categories)[column]
        groups = largest_named(slice_names(values, codes=True))
        for decision in decisions(use_case, holdout.label, prediction, threshold=threshold):
            found.append(score_fairness(column, groups, decision, holdout.blocks, size))
    return found


def score_fairness(
    column: str, groups: NDArray[np.str_], decision: Decision, blocks: DayBlocks, size: GroupSize
) -> FairnessScore:
    """One decision, held against each other between the groups of one column.

    Args:
        column: its name.
        groups: (n,) group of each row.
        decision: what is decided.
        blocks: days of the rows, and the draws.
        size: rows a group needs.
    """
    from millrace.evaluation.fairlearn_fairness import measure_groups

    rates = measure_groups(decision.truth, decision.decided, groups)
    large = [name for name, item in rates.items() if item.rows >= size.min_rows]
    both = [name for name in large if _ones(rates[name], size) and _noughts(rates[name], size)]
    selected = _compare(("selected",), large, groups, decision, blocks)
    odds = _compare(("true", "false"), both, groups, decision, blocks)
    return FairnessScore(
        column=column,
        decides=decision.decides,
        min_rows=size.min_rows,
        min_of_each=size.min_of_each,
        compared=len(large),
        odds_compared=len(both),
        demographic_parity=selected.ratio,
        demographic_parity_difference=selected.difference,
        equalized_odds=odds.ratio,
        equalized_odds_difference=odds.difference,
        least=selected.least,
        greatest=selected.greatest,
        odds_rate="" if odds.rate == "selected" else odds.rate,
        odds_least=odds.least,
        odds_greatest=odds.greatest,
        groups=[_group(name, item) for name, item in rates.items()],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    ratio: Estimate = field(default_factory=Estimate)
    difference: Estimate = field(default_factory=Estimate)
    rate: Literal["", "selected", "true", "false"] = ""
    least: str = ""
    greatest: str = ""


def _compare(
    rates: Sequence[Rate], names: list[str], groups: NDArray[np.str_], decision: Decision, blocks: DayBlocks
) -> _Compared:
    """The least alike of some rates between some groups; empty for fewer than two groups, or where nothing is decided.

    Nothing is decided where nobody is selected, or everybody: then groups are neither treated alike nor otherwise.
    """
    from millrace.evaluation.fairlearn_fairness import measure_gap

    if len(names) < 2:
        return _Compared()
    rows = np.flatnonzero(np.isin(groups, names))
    decision, of_row, blocks = decision.take(rows), groups[rows], blocks.take(rows)
    if decision.decided.all() or not decision.decided.any():
        return _Compared()
    gaps = {rate: measure_gap(rate, decision.truth, decision.decided, of_row) for rate in rates}
    ratios = {rate: gap.ratio for rate, gap in gaps.items() if gap.ratio is not None}
    rounds = {rate: _resample(rate, of_row, decision, blocks) for rate in rates}
    days, worst = len(np.unique(blocks.of_row)), min(ratios, key=lambda rate: ratios[rate])
    return _Compared(
        ratio=estimate(ratios[worst], np.fmin.reduce([rounds[rate][0] for rate in ratios]), days=days),
        difference=estimate(
            max(gap.difference for gap in gaps.values()),
            np.maximum.reduce([difference for _, difference in rounds.values()]),
            days=days,
        ),
        rate=worst,
        least=gaps[worst].least,
        greatest=gaps[worst].greatest,
    )


def _resample(rate: Rate, groups: NDArray[np.str_], decision: Decision, blocks: DayBlocks) -> tuple[Floats, Floats]:
    """Ratio and difference of a rate between groups in each round; NaN in rounds where a group has none of its rows.

    The ratio is undefined too in rounds where the rate is nought in every group.
    """
    truth = decision.truth
    counted = {"selected": np.ones_like(truth), "true": truth, "false": ~truth}[rate]
    names, place = np.unique(groups, return_inverse=True)
    cell = blocks.of_row * len(names) + place
    days, cells = len(blocks.days), len(blocks.days) * len(names)
    rows, hits = (
        blocks.draws @ np.bincount(cell[chosen], minlength=cells).reshape(days, len(names)).astype(np.float64)
        for chosen in (counted, counted & decision.decided)
    )
    shares = np.full_like(rows, np.nan)
    np.divide(hits, rows, out=shares, where=rows > 0)
    least, greatest = shares.min(axis=1), shares.max(axis=1)
    ratio = np.full_like(least, np.nan)
    np.divide(least, greatest, out=ratio, where=greatest > 0)
    return ratio, greatest - least


def _ones(rates: GroupRates, size: GroupSize) -> bool:
    return round(rates.rows * rates.share_of_ones) >= size.min_of_each


def _noughts(rates: GroupRates, size: GroupSize) -> bool:
    return round(rates.rows * (1 - rates.share_of_ones)) >= size.min_of_each


def _group(name: str, rates: GroupRates) -> GroupScore:
    return GroupScore(
        value=name,
        rows=rates.rows,
        mean_label=shortened(rates.share_of_ones),
        selected=shortened(rates.selected),
        true_positive_rate=None if rates.true_positive_rate is None else shortened(rates.true_positive_rate),
        false_positive_rate=None if rates.false_positive_rate is None else shortened(rates.false_positive_rate),
    )
