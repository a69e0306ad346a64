"""From predictions on one holdout to the evidence bundle: who is best, by how much, for whom, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import EvaluationError
from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.fairness import GroupSize, measure_fairness
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
    StabilityTest,
    TimeOrder,
)
from millrace.evaluation.holdout import Holdout, missing_shares, numbers, plain_columns
from millrace.evaluation.metric import METRICS, DecisionRule, direction_of
from millrace.evaluation.score import Scored, gain, score
from millrace.evaluation.sklearn_curve import draw_curves
from millrace.evaluation.sklearn_metric import CALIBRATION_BINS, calibration_bin, held_against
from millrace.evaluation.slice import CROSS, crossed_names, score_slices
from millrace.evaluation.sufficiency import measure_sufficiency
from millrace.evaluation.value import measure_value
from millrace.governance.policy import policy_digest
from millrace.governance.tuning_record import TuningRecord
from millrace.lake.digest import content_digest
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

BASELINE = "baseline"
_COMPARED_ROWS = 50_000


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


def gather_evidence(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    field: Field,
    holdout: Holdout,
    training: pa.Table,
    *,
    training_set: DatasetRef,
    time: TimeOrder,
    explanation: Explanation,
    reference: str,
    tuning: Mapping[str, TuningRecord] | None = None,
    stability: Sequence[StabilityTest] = (),
    latency: Latency | None = None,
    origin: Origin | None = None,
    known_late: Sequence[str] = (),
) -> Evidence:
    """The bundle of a field that ran.

    `tuning` tells of the candidates whose parameters were searched for, `known_late` of what the domain says is known
    too late to be a feature.
    """
    label = numbers(training.column("label"))
    several = use_case.problem == "multiclass"
    names, categories = use_case.features.columns, use_case.features.categories
    step = max(1, training.num_rows // _COMPARED_ROWS)
    sample = training.take(pa.array(np.arange(0, training.num_rows, step)))
    return Evidence(
        use_case=use_case.name,
        use_case_digest=digest_of(use_case.model_dump(mode="json")),
        description=use_case.description,
        owners=list(use_case.owners),
        tier=use_case.tier,
        policy=policy_digest(policy),
        problem=use_case.problem,
        metric=use_case.evaluation.metric,
        label=use_case.label.expression,
        feature_service=use_case.features.name,
        declared_features=names,
        declared_leaks=list(dict.fromkeys([*use_case.leaks, *known_late])),
        seed=use_case.seed,
        rounds=use_case.evaluation.bootstrap,
        data=DataIdentity(
            training_set=training_set.digest,
            training_rows=training.num_rows,
            holdout_digest=content_digest(holdout.content),
            holdout_rows=holdout.table.num_rows,
            holdout_days=len(holdout.blocks.days),
            known_until=training_set.known_until,
            mean_label=0.0 if several else _short(holdout.label.mean()),
            training_mean_label=_short(label.mean()) if len(label) and not several else 0.0,
            missing_share=missing_shares(training, names),
        ),
        time=time,
        candidates=[_model_score(item, field.scored[item.name]) for item in field.candidates],
        challenger=field.challenger.name,
        champion=_model_score(field.champion, field.scored[field.champion.name]) if field.champion else None,
        versus_champion=_versus_champion(use_case, field),
        versus_baseline=_versus_baseline(use_case, field),
        slices=_slices(use_case, field, holdout),
        calibration=_calibration(use_case, holdout.label, field.challenger.prediction),
        explanation=explanation,
        sufficiency=measure_sufficiency(
            use_case.problem,
            plain_columns(sample, names, categories),
            numbers(sample.column("label")),
            plain_columns(holdout.table, names, categories),
            holdout.label,
        ),
        reference=reference,
        classes=_classes(use_case, holdout.label, field.challenger.prediction, label) if several else [],
        absent=sorted(set(use_case.candidates) - {item.name for item in field.candidates}),
        rule=decision_rule(use_case) if use_case.problem == "binary" else None,
        tuning=dict(tuning or {}),
        curves=_curves(use_case, field, holdout),
        value=_value(use_case, field, holdout),
        fairness=measure_fairness(
            use_case,
            holdout,
            field.challenger.prediction,
            size=GroupSize.of(policy, use_case),
            threshold=field.challenger.threshold,
        ),
        stability=list(stability),
        latency=latency,
        origin=origin,
    )


def _curves(use_case: UseCaseSpec, field: Field, holdout: Holdout) -> list[Curve]:
    found = draw_curves(use_case.problem, holdout.label, field.challenger.prediction, "challenger")
    if field.champion is not None:
        found += draw_curves(use_case.problem, holdout.label, field.champion.prediction, "champion")
    return found


def _value(use_case: UseCaseSpec, field: Field, holdout: Holdout) -> BusinessValue | None:
    champion = field.champion
    return measure_value(
        use_case,
        holdout.label,
        field.challenger.prediction,
        holdout.blocks,
        champion=None if champion is None else champion.prediction,
        champion_threshold=None if champion is None else champion.threshold,
    )


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


def _classes(
    use_case: UseCaseSpec, label: NDArray[np.float64], prediction: NDArray[np.float64], training: NDArray[np.float64]
) -> list[ClassScore]:
    named = prediction.argmax(axis=1)
    found = []
    for place, name in enumerate(use_case.classes):
        of_it, said = label == place, named == place
        rows, guesses, hits = int(of_it.sum()), int(said.sum()), int((of_it & said).sum())
        area = measure_metric("binary", "auc", of_it.astype(np.float64), prediction[:, place])
        found.append(
            ClassScore(
                name=name,
                rows=rows,
                training_rows=int((training == place).sum()),
                named=guesses,
                precision=_short(hits / guesses) if guesses else None,
                recall=_short(hits / rows) if rows else None,
                auc=_short(area) if np.isfinite(area) else None,
            )
        )
    return found


def _model_score(item: Contender, scored: Scored) -> ModelScore:
    return ModelScore(
        name=item.name,
        trainer=item.trainer,
        package=item.package,
        release=item.release,
        trained_through=item.trained_through,
        bytes=item.bytes,
        features=item.features,
        metrics=scored.estimates(),
    )


def _versus_champion(use_case: UseCaseSpec, field: Field) -> Comparison:
    champion = field.champion
    if champion is None:
        return Comparison(against="champion", release=field.champion_release, reason=field.champion_reason)
    return Comparison(
        against="champion",
        package=champion.package,
        release=champion.release,
        gain=gain(use_case.evaluation.metric, field.scored[field.challenger.name], field.scored[champion.name]),
    )


def _versus_baseline(use_case: UseCaseSpec, field: Field) -> Comparison:
    metric, way = use_case.evaluation.metric, direction_of(use_case.evaluation.metric)
    baselines = [item for item in field.candidates if item.trainer == BASELINE]
    if not baselines:
        return Comparison(against=BASELINE, reason="no candidate of the baseline trainer was trained")
    best = min(baselines, key=lambda item: (-way * field.scored[item.name].value[metric], item.name))
    return Comparison(
        against=best.name,
        package=best.package,
        gain=gain(metric, field.scored[field.challenger.name], field.scored[best.name]),
    )


def _slices(use_case: UseCaseSpec, field: Field, holdout: Holdout) -> list[SliceScore]:
    predictions = [field.challenger.prediction, *([field.champion.prediction] if field.champion else [])]
    found: list[SliceScore] = []
    for columns in use_case.evaluation.crossings:
        values = holdout.audited(list(columns), use_case.features.categories)
        found += score_slices(
            use_case.problem,
            use_case.evaluation.metric,
            CROSS.join(columns),
            values=values[columns[0]] if len(columns) == 1 else crossed_names(columns, values),
            label=holdout.label,
            predictions=predictions,
            blocks=holdout.blocks,
        )
    return found


def _calibration(
    use_case: UseCaseSpec, label: NDArray[np.float64], prediction: NDArray[np.float64]
) -> list[CalibrationPoint]:
    if use_case.problem == "regression":
        return []
    label, prediction = held_against(use_case.problem, label, prediction)
    of_row = calibration_bin(prediction)
    found = []
    for number in range(CALIBRATION_BINS):
        rows = of_row == number
        if rows.any():
            found.append(
                CalibrationPoint(
                    rows=int(rows.sum()),
                    predicted=_short(prediction[rows].mean()),
                    observed=_short(label[rows].mean()),
                )
            )
    return found


def _short(value: float) -> float:
    return float(f"{float(value):.10g}")
