"""Registration: a challenger that passed its gates becomes a version of the use case's model."""

from __future__ import annotations

import logging
from pathlib import Path

from millrace.artifact import Verdict
from millrace.evaluation.base import Evaluation
from millrace.governance.approval import SYSTEM, require_pass, require_verdict
from millrace.governance.ledger import Ledger
from millrace.registry.base import CHALLENGER, RegisteredModel
from millrace.registry.mlflow_registry import register_version, set_alias
from millrace.settings import Settings
from millrace.spec.domain import DomainSpec
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)


def register_model(
    use_case: UseCaseSpec, domain: DomainSpec, evaluation: Evaluation, verdict: Verdict, *, settings: Settings
) -> RegisteredModel:
    """Register the challenger in MLflow with its evidence, alias `challenger`; the same package is one version.

    Args:
        use_case: its use case; names the registered model.
        domain: the domain of that.
        evaluation: names challenger, evidence and policy.
        verdict: what the gates said; the ledger is asked whether they did.
        settings: this installation.

    Raises:
        ReleaseRefusedError: the verdict is no pass, or the ledger does not have it.
        RegistryUnavailableError: MLflow does not answer; run it again.
    """
    model, where = evaluation.challenger, f"registration of {use_case.name}"
    require_pass(verdict, evaluation, where)
    ledger = Ledger(settings)
    require_verdict(ledger, use_case.name, model.digest, evaluation.evidence, evaluation.policy)
    facts = {
        "millrace.evidence": evaluation.evidence,
        "millrace.policy": evaluation.policy,
        "millrace.candidate": model.candidate,
        "millrace.trainer": model.trainer,
        "millrace.trained_through": model.trained_through,
        "millrace.holdout": model.holdout,
    }
    version, run_id = register_version(
        use_case,
        model,
        tags=facts,
        description=f"{model.candidate}, trained through {model.trained_through}, held out {model.holdout}. "
        f"Package {model.digest}.",
        evidence=_evidence_files(evaluation, settings),
        settings=settings,
    )
    ledger.append(
        "registered",
        use_case=use_case.name,
        subject=model.digest,
        effective_at=domain.partition(model.holdout).end,
        actor=SYSTEM,
        payload={
            "version": version,
            "package": model.digest,
            "evidence": evaluation.evidence,
            "policy": evaluation.policy,
            "candidate": model.candidate,
        },
        key=f"{model.digest}/{evaluation.evidence}",
    )
    set_alias(use_case.name, CHALLENGER, _newest_challenger(ledger, use_case.name), settings=settings)
    return RegisteredModel(
        name=use_case.name,
        version=version,
        digest=model.digest,
        run_id=run_id,
        evidence=evaluation.evidence,
        policy=evaluation.policy,
    )


def _newest_challenger(ledger: Ledger, use_case: str) -> int:
    """By data time: an earlier run that is repeated does not take the alias back."""
    entries = ledger.entries(use_case, kinds=("registered",))
    newest = max(entries, key=lambda entry: (entry.effective_at, entry.seq))
    return int(newest.payload["version"])


def _evidence_files(evaluation: Evaluation, settings: Settings) -> list[Path]:
    bundle = settings.var / "evidence" / f"{evaluation.evidence}.json"
    card = Path(evaluation.card) if evaluation.card else bundle.with_suffix(".html")
    return [path for path in (bundle, card, card.with_suffix(".md")) if path.is_file()]
