"""The challenger tried on rows of the holdout: what moves it, and what changed or missing inputs do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from millrace.evaluation.audit_finding import StabilityTest
from millrace.evaluation.finding import Explanation
from millrace.package import Predictor
from millrace.spec import UseCaseSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from millrace.evaluation.holdout import Holdout


def explain_challenger(
    use_case: UseCaseSpec, features: list[str], predictor: Predictor, holdout: Holdout
) -> Explanation:
    """What moves a model: its own contributions where it has them, else what shuffling a column costs."""
    from millrace.evaluation import explanation

    rows = explanation.sample_rows(holdout.table.num_rows, explanation.EXPLAINED_ROWS)
    contributions = predictor.explain(holdout.columns(features, rows))
    if contributions is not None:
        return explanation.explain_contributions(features, contributions)
    rows = _rows(use_case, holdout, explanation.SHUFFLED_ROWS)
    return explanation.explain_permutation(
        use_case.problem,
        use_case.evaluation.metric,
        columns=holdout.columns(features, rows),
        features=features,
        label=holdout.label[rows],
        predict=predictor.predict,
        seed=use_case.seed,
    )


def try_challenger(
    use_case: UseCaseSpec, features: list[str], predictor: Predictor, holdout: Holdout
) -> list[StabilityTest]:
    """What noise on all numbers, and each feature missing, do to a model's predictions."""
    from millrace.evaluation.stability import CHANGED_ROWS, Probed, measure_stability

    rows = _rows(use_case, holdout, CHANGED_ROWS)
    columns = holdout.columns(features, rows)
    return measure_stability(
        Probed(
            problem=use_case.problem,
            metric=use_case.evaluation.metric,
            columns=columns,
            categories=[column.name for column in predictor.encoder.columns if column.kind == "category"],
            label=holdout.label[rows],
            predict=predictor.predict,
            seed=use_case.seed,
        )
    )


def _rows(use_case: UseCaseSpec, holdout: Holdout, wanted: int) -> NDArray[Any]:
    from millrace.evaluation import explanation

    if use_case.problem == "multiclass":
        return explanation.sample_classes(holdout.label, wanted)
    return explanation.sample_rows(holdout.table.num_rows, wanted)
