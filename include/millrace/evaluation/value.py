"""What decisions on the holdout are worth in money, by what the use case says each of them costs or brings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from millrace.evaluation.block import DayBlocks
from millrace.evaluation.bootstrap import Floats, resample_mean
from millrace.evaluation.finding import BusinessValue, Estimate, ValueCell, shortened
from millrace.evaluation.score import paired
from millrace.spec.use_case import UseCaseSpec, ValueSpec

_SHOWN_CELLS = 40


def measure_value(
    use_case: UseCaseSpec,
    label: Floats,
    challenger: Floats,
    blocks: DayBlocks,
    *,
    champion: Floats | None = None,
    champion_threshold: float | None = None,
) -> BusinessValue | None:
    """The worth of the challenger's decisions; None where the use case does not say what decisions are worth.

    Args:
        use_case: its matrix, or costs of an error, and its threshold.
        label: (n,) labels of the holdout.
        challenger: predictions of the challenger: (n,), or (n, classes).
        blocks: days of the rows, and the draws.
        champion: predictions of the champion, where one is compared.
        champion_threshold: what the champion decides by where it serves; the use case's where None.

    Returns:
        Money in all and per row; the gain is over the champion, or over the best decision that looks at no feature.
    """
    spec = use_case.evaluation.value
    if spec is None:
        return None
    money = _money(use_case, spec, label, challenger, use_case.threshold)
    best = _best_blind(use_case, spec, label)
    threshold = use_case.threshold if champion_threshold is None else champion_threshold
    theirs = None if champion is None else _money(use_case, spec, label, champion, threshold)
    return BusinessValue(
        currency=spec.currency,
        rows=len(label),
        total=shortened(money.sum()),
        per_row=_mean(money, blocks),
        champion=None if theirs is None else _mean(theirs, blocks),
        baseline=_mean(best, blocks),
        gain=_mean(money - (best if theirs is None else theirs), blocks),
        cells=_cells(use_case, label, challenger, money),
    )


def _names(use_case: UseCaseSpec) -> list[str]:
    return list(use_case.classes) if use_case.problem == "multiclass" else ["0", "1"]


def _matrix(use_case: UseCaseSpec, spec: ValueSpec) -> Floats:
    """(classes, classes): money a row, by what came and what was decided."""
    names = _names(use_case)
    return np.array([[spec.matrix.get(came, {}).get(said, 0.0) for said in names] for came in names], np.float64)


def _decide(use_case: UseCaseSpec, prediction: Floats, threshold: float) -> NDArray[np.int64]:
    """Place of the class that is decided for each row, as the service decides."""
    if use_case.problem == "multiclass":
        return prediction.argmax(axis=1).astype(np.int64)
    return (prediction >= threshold).astype(np.int64)


def _money(use_case: UseCaseSpec, spec: ValueSpec, label: Floats, prediction: Floats, threshold: float) -> Floats:
    if use_case.problem == "regression":
        return _error_money(spec, prediction - label)
    found: Floats = _matrix(use_case, spec)[label.astype(np.int64), _decide(use_case, prediction, threshold)]
    return found


def _error_money(spec: ValueSpec, error: Floats) -> Floats:
    return spec.over * np.maximum(error, 0.0) + spec.under * np.maximum(-error, 0.0)


def _best_blind(use_case: UseCaseSpec, spec: ValueSpec, label: Floats) -> Floats:
    """(n,) money of the best single answer to all rows, chosen with the labels in sight: it is hard to beat.

    For a number it is the quantile under / (over + under) of the labels (Koenker and Bassett 1978).
    """
    if use_case.problem == "regression":
        answer = np.quantile(label, spec.under / (spec.over + spec.under), method="inverted_cdf")
        return _error_money(spec, answer - label)
    by_answer = _matrix(use_case, spec)[label.astype(np.int64)]
    found: Floats = by_answer[:, int(by_answer.sum(axis=0).argmax())]
    return found


def _mean(money: Floats, blocks: DayBlocks) -> Estimate:
    return paired(float(money.mean()), resample_mean(money, blocks), days=len(blocks.days))


def _cells(use_case: UseCaseSpec, label: Floats, prediction: Floats, money: Floats) -> list[ValueCell]:
    """Where the money comes from and goes to, the largest sums first."""
    if use_case.problem == "regression":
        kinds = [("", "too much", prediction > label), ("", "too little", prediction < label)]
    else:
        names, decided = _names(use_case), _decide(use_case, prediction, use_case.threshold)
        kinds = [
            (came, said, (label == i) & (decided == j)) for i, came in enumerate(names) for j, said in enumerate(names)
        ]
    found = [
        ValueCell(came=came, decided=said, rows=int(rows.sum()), total=shortened(money[rows].sum()))
        for came, said, rows in kinds
        if rows.any()
    ]
    return sorted(found, key=lambda item: (-abs(item.total), item.came, item.decided))[:_SHOWN_CELLS]
