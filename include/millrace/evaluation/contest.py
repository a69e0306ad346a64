"""Who runs on one holdout: candidates and the champion scored on the same rows, and the challenger chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from millrace.errors import EvaluationError
from millrace.evaluation.holdout import Holdout
from millrace.evaluation.metric import METRICS, DecisionRule, direction_of
from millrace.evaluation.score import Scored, score
from millrace.spec.use_case import UseCaseSpec

BASELINE = "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One package with its predictions on the holdout.

    Attributes:
        name: candidate of the spec, or `champion`.
        trainer: trainer that made it.
        package: its digest.
        release: release it is; 0 for a candidate.
        trained_through: last training partition.
        bytes: size of the package.
        features: columns it sees, in order.
        prediction: on the rows of the holdout: (n,), or (n, classes) of several classes.
        threshold: what it decides by where it serves; the use case's where None.
    """

    name: str
    trainer: str
    package: str
    release: int = 0
    trained_through: str
    bytes: int
    features: list[str]
    prediction: NDArray[np.float64]
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """All that ran on one holdout.

    Attributes:
        candidates: in the order of their names.
        challenger: the best of them.
        champion: what is released, where it could be compared.
        champion_release: version of the release in force; 0 where there is none.
        champion_reason: why it could not be compared, where that is so.
        scored: metrics by name of the contender.
    """

    candidates: list[Contender]
    challenger: Contender
    champion: Contender | None
    champion_release: int
    champion_reason: str
    scored: dict[str, Scored]


def run_field(
    use_case: UseCaseSpec,
    holdout: Holdout,
    candidates: list[Contender],
    champion: Contender | None,
    *,
    champion_release: int = 0,
    champion_reason: str = "",
) -> Field:
    """Score everybody on the same rows and choose the challenger: the best candidate, one that learned first.

    Raises:
        EvaluationError: no candidates, two of one name, or predictions that no metric is defined on.
    """
    names = [item.name for item in candidates]
    if not names or len(set(names)) < len(names):
        raise EvaluationError(
            f"candidates are {names}", where=use_case.name, remedy="give at least one, and each name once"
        )
    scored, rule = {}, decision_rule(use_case)
    for item in [*candidates, *([champion] if champion else [])]:
        try:
            scored[item.name] = score(use_case.problem, holdout.label, item.prediction, holdout.blocks, rule=rule)
        except EvaluationError as error:
            raise EvaluationError(
                error.what, where=f"{item.name} ({item.package[:12]}) on {holdout.label.size} rows", remedy=error.remedy
            ) from error
    metric, way = use_case.evaluation.metric, direction_of(use_case.evaluation.metric)
    _require_ranked(use_case, holdout, scored)
    ranked = sorted(
        candidates, key=lambda item: (item.trainer == BASELINE, -way * scored[item.name].value[metric], item.name)
    )
    return Field(
        candidates=sorted(candidates, key=lambda item: item.name),
        challenger=ranked[0],
        champion=champion,
        champion_release=champion_release,
        champion_reason=champion_reason,
        scored=scored,
    )


def decision_rule(use_case: UseCaseSpec) -> DecisionRule:
    """How the use case turns a probability into a decision."""
    return DecisionRule(threshold=use_case.threshold, beta=use_case.evaluation.beta)


def _require_ranked(use_case: UseCaseSpec, holdout: Holdout, scored: dict[str, Scored]) -> None:
    metric = use_case.evaluation.metric
    if undefined := sorted(name for name, item in scored.items() if not np.isfinite(item.value[metric])):
        there = set(holdout.label.tolist())
        lacking = [name for place, name in enumerate(use_case.classes) if place not in there]
        why = f": no row of the holdout is of class {', '.join(lacking)}" if lacking else ""
        raise EvaluationError(
            f"{METRICS[metric].title} of {', '.join(undefined)} is undefined{why}",
            where=f"{use_case.name}: {holdout.label.size} rows",
            remedy="evaluate on a partition with rows of every class, or rank by log_loss",
        )
