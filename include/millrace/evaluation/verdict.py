"""From the answers of gates to one verdict."""

from __future__ import annotations

from typing import Any

from millrace.artifact import Outcome, Verdict, digest_of
from millrace.errors import EvaluationError
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gate import Answer, load_gates
from millrace.governance.policy import policy_digest
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

_ORDER: dict[Outcome, int] = {"fail": 0, "insufficient_data": 1, "pass": 2}
_SENTENCE = 300


def answer_gates(policy: PolicySpec, use_case: UseCaseSpec, evidence: Evidence) -> list[Answer]:
    """Every gate's answer, in the order of the policy.

    Raises:
        SpecError: a gate is unknown or has wrong arguments.
        EvaluationError: the evidence was made under another policy or another version of the use case.
    """
    if evidence.policy != policy_digest(policy):
        raise EvaluationError(
            f"the evidence was made under another version of policy {policy.tier!r}",
            where=f"policies/{policy.tier}.yaml",
            remedy="evaluate the candidates again under the policy as it is now",
        )
    if evidence.use_case_digest != digest_of(use_case.model_dump(mode="json")):
        raise EvaluationError(
            f"the evidence was made for another version of use case {use_case.name!r}",
            where=f"use_cases/{use_case.name}.yaml",
            remedy="train and evaluate again with the use case as it is now",
        )
    return [
        gate.answer(evidence).model_copy(update={"gate": spec.name, "kind": spec.kind})
        for spec, gate in load_gates(policy, use_case)
    ]


def conclude(evidence: Evidence, digest: str, answers: list[Answer]) -> Verdict:
    """`pass` only where every gate says so; reasons with the deciding ones first."""
    ranked = sorted(answers, key=lambda item: _ORDER[item.outcome])
    outcome: Outcome = ranked[0].outcome if ranked else "insufficient_data"
    reasons = [f"{item.gate}: {_short(item.sentence)}" for item in ranked]
    numbers = {"gates": float(len(answers)), "passed": float(sum(item.outcome == "pass" for item in answers))}
    score = evidence.challenger_score.metrics[evidence.metric]
    champion = evidence.champion.metrics[evidence.metric] if evidence.champion else None
    gain = evidence.versus_champion.gain
    figures = {
        evidence.metric: score.value,
        "champion": champion.value if champion else None,
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
    }
    numbers |= {name: value for name, value in figures.items() if value is not None}
    return Verdict(
        outcome=outcome,
        subject=evidence.challenger_score.package,
        reasons=reasons or ["The policy names no gate, so nothing was judged."],
        evidence=digest,
        numbers=numbers,
    )


def verdict_document(evidence: Evidence, digest: str, verdict: Verdict, answers: list[Answer]) -> dict[str, Any]:
    """The verdict as stored: what was judged, on what, under which policy, and every answer."""
    return {
        "format": 1,
        "use_case": evidence.use_case,
        "package": verdict.subject,
        "evidence": digest,
        "policy": evidence.policy,
        "champion": evidence.versus_champion.release,
        "outcome": verdict.outcome,
        "answers": [item.model_dump(mode="json") for item in answers],
    }


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= _SENTENCE else sentence[: _SENTENCE - 1] + "…"
