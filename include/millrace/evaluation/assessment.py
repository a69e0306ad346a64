"""From predictions on one holdout to the evidence bundle: who is best, by how much, for whom, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.artifact import DatasetRef, digest_of
from millrace.evaluation.audit_finding import FairnessScore, StabilityTest
from millrace.evaluation.bootstrap import measure_metric
from millrace.evaluation.contest import BASELINE, Contender, Field, decision_rule
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
    Sufficiency,
    TimeOrder,
    shortened,
)
from millrace.evaluation.holdout import Holdout, missing_shares, numbers, plain_columns
from millrace.evaluation.metric import direction_of
from millrace.evaluation.score import Scored, gain
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

_COMPARED_ROWS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is known of the candidates but for their predictions on the holdout.

    Attributes:
        time: whether training saw its future.
        explanation: what moves the challenger.
        reference: digest of the drift reference.
        tuning: candidate → how its parameters were found, where they were searched for.
        stability: what changed and missing inputs do to the challenger.
        latency: of its package.
        origin: its code, lock and recipe.
        known_late: columns that the domain says are known too late to be a feature.
    """

    time: TimeOrder
    explanation: Explanation
    reference: str
    tuning: Mapping[str, TuningRecord] = field(default_factory=dict)
    stability: Sequence[StabilityTest] = ()
    latency: Latency | None = None
    origin: Origin | None = None
    known_late: Sequence[str] = ()


def gather_evidence(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    field: Field,
    holdout: Holdout,
    training: pa.Table,
    *,
    training_set: DatasetRef,
    examined: Examined,
) -> Evidence:
    """The bundle of a field that ran; `training` are the rows it is compared with, a part of `training_set`."""
    label, several = numbers(training.column("label")), use_case.problem == "multiclass"
    prediction = field.challenger.prediction
    return Evidence(
        **_question(use_case, policy, examined.known_late),
        **_ranking(use_case, field),
        data=_identity(use_case, holdout, training, label, training_set),
        slices=_slices(use_case, field, holdout),
        calibration=_calibration(use_case, holdout.label, prediction),
        sufficiency=_sufficiency(use_case, holdout, training),
        classes=_classes(use_case, holdout.label, prediction, label) if several else [],
        curves=_curves(use_case, field, holdout),
        value=_value(use_case, field, holdout),
        fairness=_fairness(use_case, policy, field, holdout),
        time=examined.time,
        explanation=examined.explanation,
        reference=examined.reference,
        tuning=dict(examined.tuning),
        stability=list(examined.stability),
        latency=examined.latency,
        origin=examined.origin,
    )


def _question(use_case: UseCaseSpec, policy: PolicySpec, known_late: Sequence[str]) -> dict[str, Any]:
    """What the use case asks, and under which policy."""
    return {
        "use_case": use_case.name,
        "use_case_digest": digest_of(use_case.model_dump(mode="json")),
        "description": use_case.description,
        "owners": list(use_case.owners),
        "tier": use_case.tier,
        "policy": policy_digest(policy),
        "problem": use_case.problem,
        "metric": use_case.evaluation.metric,
        "label": use_case.label.expression,
        "feature_service": use_case.features.name,
        "declared_features": use_case.features.columns,
        "declared_leaks": list(dict.fromkeys([*use_case.leaks, *known_late])),
        "seed": use_case.seed,
        "rounds": use_case.evaluation.bootstrap,
        "rule": decision_rule(use_case) if use_case.problem == "binary" else None,
    }


def _ranking(use_case: UseCaseSpec, field: Field) -> dict[str, Any]:
    """Who ran, and how far apart they are."""
    champion = field.champion
    return {
        "candidates": [_model_score(item, field.scored[item.name]) for item in field.candidates],
        "challenger": field.challenger.name,
        "champion": _model_score(champion, field.scored[champion.name]) if champion else None,
        "versus_champion": _versus_champion(use_case, field),
        "versus_baseline": _versus_baseline(use_case, field),
        "absent": sorted(set(use_case.candidates) - {item.name for item in field.candidates}),
    }


def _identity(
    use_case: UseCaseSpec, holdout: Holdout, training: pa.Table, label: NDArray[np.float64], training_set: DatasetRef
) -> DataIdentity:
    several = use_case.problem == "multiclass"
    return DataIdentity(
        training_set=training_set.digest,
        training_rows=training.num_rows,
        holdout_digest=content_digest(holdout.content),
        holdout_rows=holdout.table.num_rows,
        holdout_days=len(holdout.blocks.days),
        known_until=training_set.known_until,
        mean_label=0.0 if several else shortened(holdout.label.mean()),
        training_mean_label=shortened(label.mean()) if len(label) and not several else 0.0,
        missing_share=missing_shares(training, use_case.features.columns),
    )


def _sufficiency(use_case: UseCaseSpec, holdout: Holdout, training: pa.Table) -> list[Sufficiency]:
    names, categories = use_case.features.columns, use_case.features.categories
    step = max(1, training.num_rows // _COMPARED_ROWS)
    sample = training.take(pa.array(np.arange(0, training.num_rows, step)))
    return measure_sufficiency(
        use_case.problem,
        plain_columns(sample, names, categories),
        numbers(sample.column("label")),
        plain_columns(holdout.table, names, categories),
        holdout.label,
    )


def _fairness(use_case: UseCaseSpec, policy: PolicySpec, field: Field, holdout: Holdout) -> list[FairnessScore]:
    challenger, size = field.challenger, GroupSize.of(policy, use_case)
    return measure_fairness(use_case, holdout, challenger.prediction, size=size, threshold=challenger.threshold)


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
                precision=shortened(hits / guesses) if guesses else None,
                recall=shortened(hits / rows) if rows else None,
                auc=shortened(area) if np.isfinite(area) else None,
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
                    predicted=shortened(prediction[rows].mean()),
                    observed=shortened(label[rows].mean()),
                )
            )
    return found
