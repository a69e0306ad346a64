"""Evaluation: candidates and the champion on one holdout, and the gates' verdict on the best of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from millrace.artifact import DatasetRef, ModelRef, Verdict
from millrace.document import store_document
from millrace.errors import EvaluationError, FeatureError, SpecError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import Evidence, evidence_folder, load_evidence, store_evidence
from millrace.evaluation.finding import Estimate, TimeOrder
from millrace.governance.ledger import Ledger
from millrace.governance.recipe import find_tuning
from millrace.governance.release import Release, Releases
from millrace.package import Package, Predictor, TrainingRecord
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain
from millrace.step.attribute import read_attributes
from millrace.step.examination import explain_challenger, try_challenger
from millrace.step.imported import compared_partitions, declared_time
from millrace.step.origin import find_origin
from millrace.step.released import require_same_question, rows_of_package, spec_of

if TYPE_CHECKING:
    from millrace.evaluation.assessment import Contender
    from millrace.evaluation.holdout import Holdout
    from millrace.governance.tuning_record import TuningRecord

log = logging.getLogger(__name__)
CHAMPION = "champion"


def evaluate_candidates(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    policy: PolicySpec,
    training_set: DatasetRef,
    candidates: list[ModelRef],
    *,
    settings: Settings,
) -> Evaluation:
    """Measure candidates and the champion on the holdout's rows; store evidence, drift reference and model card.

    Args:
        use_case: its use case.
        domain: the domain of that.
        policy: what the candidates will be judged by; its digest stands in the evidence.
        training_set: what `build_training_set` gave.
        candidates: what was trained, all on the same partitions.
        settings: this installation.

    Returns:
        The challenger, the champion it was compared with and the digests of what was stored; equal inputs give an
        equal evaluation.

    Raises:
        EvaluationError: fewer candidates than the policy asks for, of different holdouts, or nothing to measure on.
        SpecError: a column to tell rows apart by does not exist, or a gate is wrong.
        PackageError: a package is not what its digest says.
        DocumentError: the recipe of a candidate is not what its digest says.
    """
    from millrace.evaluation.assessment import gather_evidence, run_field
    from millrace.evaluation.holdout import make_holdout
    from millrace.evaluation.latency import latency_of
    from millrace.monitoring.reference import build_reference
    from millrace.training.data.training_set import load_training_set

    partition = domain.partition(_common_holdout(use_case, policy, candidates))
    opened = [(ref, _open(ref.digest, settings)) for ref in sorted(candidates, key=lambda item: item.candidate)]
    records = [_record(ref, package) for ref, package in opened]
    training = load_training_set(
        use_case,
        training_set,
        lake=settings.lake,
        partitions=compared_partitions(use_case, domain, training_set, records, partition.key, settings=settings),
        known_until=max((record.known_until for record in records), key=datetime.fromisoformat),
    )
    rows = load_training_set(use_case, training_set, lake=settings.lake, partitions=[partition.key])
    attributes = read_attributes(use_case, domain, rows, partition.key, training_set, settings=settings)
    holdout = make_holdout(use_case, domain, rows, partition.key, attributes=attributes)
    predictors = {ref.candidate: package.predictor() for ref, package in opened}
    release = Releases(settings).champion_for(use_case, partition.end, [ref.digest for ref in candidates])
    champion, reason = _champion(use_case, domain, release, holdout, settings)
    field = run_field(
        use_case,
        holdout,
        [_contend(ref.candidate, package, predictors[ref.candidate], holdout) for ref, package in opened],
        champion,
        champion_release=release.version if release else 0,
        champion_reason=reason,
    )
    challenger = next(ref for ref in candidates if ref.candidate == field.challenger.name)
    evidence = gather_evidence(
        use_case,
        policy,
        field,
        holdout,
        training,
        training_set=training_set,
        time=declared_time(
            domain,
            _time_order(domain, partition.key, records, training, rows, known_until=training_set.known_until),
            next(package.manifest for ref, package in opened if ref == challenger),
        ),
        explanation=explain_challenger(use_case, field.challenger.features, predictors[challenger.candidate], holdout),
        reference=build_reference(use_case, training, field.challenger.prediction, settings=settings),
        tuning=_searches(use_case, candidates, settings),
        stability=try_challenger(use_case, field.challenger.features, predictors[challenger.candidate], holdout),
        latency=latency_of(challenger.digest, settings),
        origin=find_origin(use_case.name, challenger.candidate, dict(opened)[challenger], settings),
        known_late=domain.sources[use_case.entity.source].known_late,
    )
    if evidence.absent:
        log.warning("%s: evaluated without %s, which did not train", use_case.name, ", ".join(evidence.absent))
    digest, card = _store(use_case, policy, evidence, settings)
    log.info("evidence %s: challenger %s of %s on %s", digest, challenger.candidate, use_case.name, partition.key)
    return _summarise(evidence, challenger, release, digest=digest, card=card)


def check_gates(
    use_case: UseCaseSpec, policy: PolicySpec, evaluation: Evaluation, *, settings: Settings, actor: str = "system"
) -> Verdict:
    """Ask every gate of the policy and of the use case, from the stored evidence alone; the verdict goes to the ledger.

    A verdict that is no pass is an answer, not an error.

    Raises:
        SpecError: a gate is unknown or has wrong arguments.
        DocumentError: the evidence is gone or was changed.
        EvaluationError: policy or use case changed since the evidence was made.
    """
    from millrace.evaluation.verdict import answer_gates, conclude, verdict_document

    evidence = load_evidence(evaluation.evidence, settings)
    if evidence.challenger_score.package != evaluation.challenger.digest:
        raise EvaluationError(
            f"the evidence is on package {evidence.challenger_score.package[:12]}, not on that of the challenger",
            where=f"evidence {evaluation.evidence}",
            remedy="evaluate the candidates again",
        )
    answers = answer_gates(policy, use_case, evidence)
    verdict = conclude(evidence, evaluation.evidence, answers)
    digest = store_document(
        evidence_folder(settings), verdict_document(evidence, evaluation.evidence, verdict, answers)
    )
    domain = load_domain(settings.dags, use_case.domain)
    Ledger(settings).append(
        "gates_evaluated",
        use_case=use_case.name,
        subject=verdict.subject,
        effective_at=domain.partition(evaluation.holdout).end,
        actor=actor,
        payload={
            "outcome": verdict.outcome,
            "evidence": evaluation.evidence,
            "policy": evidence.policy,
            "verdict": digest,
            "champion": evaluation.champion,
            "candidate": evaluation.challenger.candidate,
            "holdout": evaluation.holdout,
            "answers": {item.gate: item.outcome for item in answers},
            "reasons": verdict.reasons,
            "numbers": verdict.numbers,
        },
    )
    log.info(
        "gates of %s on %s: %s: %s", use_case.name, verdict.subject[:12], verdict.outcome, "; ".join(verdict.reasons)
    )
    return verdict


def _store(use_case: UseCaseSpec, policy: PolicySpec, evidence: Evidence, settings: Settings) -> tuple[str, Path]:
    """Bundle and card, with what the gates say to it; digest of the one and path of the other."""
    from millrace.evaluation.model_card import render_card, store_card
    from millrace.evaluation.verdict import answer_gates

    answers = answer_gates(policy, use_case, evidence)
    digest = store_evidence(evidence, settings)
    return digest, store_card(evidence_folder(settings), digest, render_card(evidence, digest, answers))


def _summarise(
    evidence: Evidence, challenger: ModelRef, release: Release | None, *, digest: str, card: Path
) -> Evaluation:
    metric = evidence.metric
    models = [*evidence.candidates, *([evidence.champion] if evidence.champion else [])]
    return Evaluation(
        use_case=evidence.use_case,
        challenger=challenger,
        champion=release.version if release else 0,
        champion_package=release.package if release else "",
        holdout=evidence.time.holdout,
        rows=evidence.data.holdout_rows,
        metric=metric,
        metrics={item.name: _figures(item.metrics[metric]) for item in models},
        gain=_figures(evidence.versus_champion.gain),
        evidence=digest,
        reference=evidence.reference,
        policy=evidence.policy,
        card=str(card),
        absent=evidence.absent,
    )


def _time_order(
    domain: DomainSpec,
    holdout: str,
    records: list[TrainingRecord],
    training: pa.Table,
    rows: pa.Table,
    *,
    known_until: str,
) -> TimeOrder:
    from millrace.evaluation.holdout import time_order

    return time_order(
        domain,
        holdout,
        training_partitions=sorted({key for record in records for key in record.partitions}),
        training=training,
        rows=rows,
        known_until=known_until,
    )


def _common_holdout(use_case: UseCaseSpec, policy: PolicySpec, candidates: list[ModelRef]) -> str:
    names = [ref.candidate for ref in candidates]
    if len(candidates) < policy.min_candidates:
        raise EvaluationError(
            f"{len(candidates)} candidates were trained ({', '.join(names) or 'none'}), "
            f"policy {policy.tier!r} asks for {policy.min_candidates}",
            where=f"{use_case.name}: candidates",
            remedy="look why the others failed, then run training again",
        )
    holdouts = sorted({ref.holdout for ref in candidates})
    if len(holdouts) != 1:
        raise EvaluationError(
            f"candidates have different holdouts: {holdouts}",
            where=f"{use_case.name}: {', '.join(names)}",
            remedy="train them in one run",
        )
    return holdouts[0]


def _record(ref: ModelRef, package: Package) -> TrainingRecord:
    """What a package says it was trained on, which the reference must not contradict."""
    record = package.manifest.training
    if (record.trained_through, record.holdout) != (ref.trained_through, ref.holdout):
        raise EvaluationError(
            f"the reference says trained through {ref.trained_through} for holdout {ref.holdout}, "
            f"the package {record.trained_through} for {record.holdout}",
            where=f"candidate {ref.candidate}, package {ref.digest[:12]}",
            remedy="hand on the reference that training gave",
        )
    return record


def _open(digest: str, settings: Settings) -> Package:
    return Package.open(settings.packages / digest, expected_digest=digest)


def _contend(name: str, package: Package, predictor: Predictor, holdout: Holdout, release: int = 0) -> Contender:
    from millrace.evaluation.assessment import Contender

    columns = package.features.columns
    if absent := sorted(set(columns) - set(holdout.table.column_names)):
        raise FeatureError(
            f"the training set lacks {', '.join(absent)}",
            where=f"package {package.digest[:12]}",
            remedy="train on the feature service as it is now",
        )
    return Contender(
        name=name,
        trainer=package.manifest.trainer,
        package=package.digest,
        release=release,
        trained_through=package.manifest.training.trained_through,
        bytes=sum(path.stat().st_size for path in package.folder.iterdir() if path.is_file()),
        features=columns,
        prediction=predictor.predict(holdout.columns(columns)),
    )


def _searches(use_case: UseCaseSpec, candidates: list[ModelRef], settings: Settings) -> dict[str, TuningRecord]:
    """How the parameters of each candidate that is tuned were found, as its recipe says."""
    tuned = [ref for ref in candidates if (spec := use_case.candidates.get(ref.candidate)) and spec.tuning]
    found = {ref.candidate: find_tuning(use_case.name, ref.candidate, ref.digest, settings) for ref in tuned}
    return {name: record for name, record in sorted(found.items()) if record is not None}


def _champion(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    release: Release | None,
    holdout: Holdout,
    settings: Settings,
) -> tuple[Contender | None, str]:
    """What is released, on the same rows, with the features it was made on; or why that cannot be."""
    if release is None:
        return None, ""
    package = _open(release.package, settings)
    try:
        require_same_question(use_case, package)
    except SpecError as error:
        return None, f"release {release.version} answers another question: {error.what}"
    try:
        if package.features.service != use_case.features.name:
            own = spec_of(use_case, package)
            holdout = _holdout_of(own, domain, package, holdout, settings)
        contender = _contend(CHAMPION, package, package.predictor(), holdout, release.version)
        return replace(contender, threshold=release.threshold), ""
    except (FeatureError, SpecError) as error:
        return None, f"release {release.version} reads other features: {error.what}"


def _holdout_of(
    own: UseCaseSpec, domain: DomainSpec, package: Package, holdout: Holdout, settings: Settings
) -> Holdout:
    """The holdout's rows with the features of another service.

    Raises:
        FeatureError: these features cannot be had for the very same rows.
    """
    keys, partition = holdout.table.column("key"), holdout.table.column("partition")[0].as_py()
    rows = rows_of_package(own, domain, partition, package, keys=keys, settings=settings).sort_by("key")
    if rows.column("key").to_pylist() != keys.to_pylist():
        raise FeatureError(f"the rows of {partition} changed since the training set was built")
    kept = {name: holdout.table.column(name) for name in ("label", "partition")}
    return replace(holdout, table=pa.table({**{name: rows.column(name) for name in rows.column_names}, **kept}))


def _figures(estimate: Estimate) -> dict[str, float]:
    return {name: value for name, value in estimate.model_dump().items() if value is not None}
