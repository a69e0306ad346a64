"""Evaluation: candidates and the champion on one holdout, and the gates' verdict on the best of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.artifact import DatasetRef, ModelRef, Verdict
from millrace.document import store_document
from millrace.errors import EvaluationError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import Evidence, evidence_folder, load_evidence, store_evidence
from millrace.evaluation.finding import Estimate, TimeOrder
from millrace.governance.ledger import Ledger
from millrace.governance.recipe import find_tuning
from millrace.governance.release import Release
from millrace.governance.verdict_record import note_verdict
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain
from millrace.step.comparison import Compared, run_comparison
from millrace.step.examination import explain_challenger, try_challenger
from millrace.step.imported import declared_time
from millrace.step.origin import find_origin

if TYPE_CHECKING:
    from millrace.evaluation.assessment import Examined
    from millrace.governance.tuning_record import TuningRecord

log = logging.getLogger(__name__)


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
    from millrace.evaluation.assessment import gather_evidence

    compared = run_comparison(use_case, domain, policy, training_set, candidates, settings=settings)
    examined = _examine(
        use_case, domain, compared, candidates=candidates, known_until=training_set.known_until, settings=settings
    )
    evidence = gather_evidence(
        use_case,
        policy,
        compared.field,
        compared.holdout,
        compared.training,
        training_set=training_set,
        examined=examined,
    )
    if evidence.absent:
        log.warning("%s: evaluated without %s, which did not train", use_case.name, ", ".join(evidence.absent))
    digest, card = _store(use_case, policy, evidence, settings)
    best = compared.challenger
    log.info("evidence %s: challenger %s of %s on %s", digest, best.candidate, use_case.name, compared.partition)
    return _summarise(evidence, best, compared.release, digest=digest, card=card)


def _examine(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    compared: Compared,
    *,
    candidates: list[ModelRef],
    known_until: str,
    settings: Settings,
) -> Examined:
    """What is known of the challenger but for its predictions on the holdout."""
    from millrace.evaluation.assessment import Examined
    from millrace.evaluation.latency import latency_of
    from millrace.monitoring.reference import build_reference

    best, challenger, predictor = compared.field.challenger, compared.challenger, compared.predictor
    seen = _time_order(domain, compared, known_until=known_until)
    return Examined(
        time=declared_time(domain, seen, compared.package.manifest),
        explanation=explain_challenger(use_case, best.features, predictor, compared.holdout),
        reference=build_reference(use_case, compared.training, best.prediction, settings=settings),
        tuning=_searches(use_case, candidates, settings),
        stability=try_challenger(use_case, best.features, predictor, compared.holdout),
        latency=latency_of(challenger.digest, settings),
        origin=find_origin(use_case.name, challenger.candidate, compared.package, settings),
        known_late=domain.sources[use_case.entity.source].known_late,
    )


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
    note_verdict(
        Ledger(settings),
        use_case.name,
        verdict.subject,
        effective_at=load_domain(settings.dags, use_case.domain).partition(evidence.time.holdout).end,
        actor=actor,
        payload={
            "outcome": verdict.outcome,
            "evidence": evaluation.evidence,
            "policy": evidence.policy,
            "verdict": digest,
            "champion": evidence.versus_champion.release,
            "candidate": evidence.challenger,
            "holdout": evidence.time.holdout,
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


def _time_order(domain: DomainSpec, compared: Compared, *, known_until: str) -> TimeOrder:
    from millrace.evaluation.holdout import time_order

    return time_order(
        domain,
        compared.partition,
        training_partitions=sorted({key for record in compared.records for key in record.partitions}),
        training=compared.training,
        rows=compared.rows,
        known_until=known_until,
        first=compared.held_out[0].key,
    )


def _searches(use_case: UseCaseSpec, candidates: list[ModelRef], settings: Settings) -> dict[str, TuningRecord]:
    """How the parameters of each candidate that is tuned were found, as its recipe says."""
    tuned = [ref for ref in candidates if (spec := use_case.candidates.get(ref.candidate)) and spec.tuning]
    found = {ref.candidate: find_tuning(use_case.name, ref.candidate, ref.digest, settings) for ref in tuned}
    return {name: record for name, record in sorted(found.items()) if record is not None}


def _figures(estimate: Estimate) -> dict[str, float]:
    return {name: value for name, value in estimate.model_dump().items() if value is not None}
