"""Registration: a challenger that passed its gates becomes a version of the use case's model."""

from __future__ import annotations

import logging
from pathlib import Path

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError
from millrace.evaluation.base import Evaluation
from millrace.evaluation.evidence import evidence_folder
from millrace.governance.approval import require_pass, require_verdict
from millrace.governance.ledger import Ledger
from millrace.governance.proof import require_evidence
from millrace.governance.requester import SYSTEM
from millrace.registry.base import CHALLENGER, RegisteredModel
from millrace.registry.mlflow_alias import moving_aliases, set_alias
from millrace.registry.mlflow_registry import register_version
from millrace.settings import Settings
from millrace.spec.domain import DomainSpec
from millrace.spec.holdout import held_out, span
from millrace.spec.use_case import UseCaseSpec
from millrace.step.card import restore_card

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
        ReleaseRefusedError: the verdict is no pass, the ledger does not have it, or its evidence is gone.
        DocumentError: the evidence or the gates' answers were changed.
        RegistryUnavailableError: MLflow does not answer; run it again.
    """
    model, where = evaluation.challenger, f"registration of {use_case.name}"
    require_pass(verdict, evaluation, where)
    ledger = Ledger(settings)
    judged = require_verdict(ledger, use_case.name, model.digest, evaluation.evidence, evaluation.policy)
    claims = {"use_case": use_case.name, "package": model.digest, "policy": evaluation.policy, "holdout": model.holdout}
    require_evidence(evaluation.evidence, claims, settings=settings, where=where)
    restore_card(judged, settings=settings)
    version, run_id = register_version(
        use_case,
        model,
        tags=_facts(evaluation),
        description=f"{model.candidate}, trained through {model.trained_through}, "
        f"held out {span(held_out(use_case, domain, model.holdout))}. Package {model.digest}.",
        evidence=_evidence_files(evaluation.evidence, settings, where),
        settings=settings,
    )
    with moving_aliases(use_case.name, settings):
        _note(ledger, use_case, domain, evaluation, version)
        set_alias(use_case.name, CHALLENGER, newest_challenger(ledger, use_case.name), settings=settings)
    return RegisteredModel(
        name=use_case.name,
        version=version,
        digest=model.digest,
        run_id=run_id,
        evidence=evaluation.evidence,
        policy=evaluation.policy,
    )


def newest_challenger(ledger: Ledger, use_case: str) -> int:
    """The version that `challenger` names; 0 where nothing was registered.

    By data time: an earlier run that is repeated does not take the alias back.
    """
    entries = ledger.entries(use_case, kinds=("registered",))
    newest = max(entries, key=lambda entry: (entry.effective_at, entry.seq), default=None)
    return int(newest.payload["version"]) if newest else 0


def _facts(evaluation: Evaluation) -> dict[str, str]:
    """What the version in MLflow is tagged with."""
    model = evaluation.challenger
    return {
        "millrace.evidence": evaluation.evidence,
        "millrace.policy": evaluation.policy,
        "millrace.candidate": model.candidate,
        "millrace.trainer": model.trainer,
        "millrace.trained_through": model.trained_through,
        "millrace.holdout": model.holdout,
    }


def _note(ledger: Ledger, use_case: UseCaseSpec, domain: DomainSpec, evaluation: Evaluation, version: int) -> None:
    model = evaluation.challenger
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
        key=f"{model.digest}/{evaluation.evidence}/{version}",
    )


def _evidence_files(digest: str, settings: Settings, where: str) -> list[Path]:
    """Bundle and model card, found by the digest and not by what the caller says of them."""
    paths = [evidence_folder(settings) / f"{digest}.{kind}" for kind in ("json", "html", "md")]
    if absent := [path.name for path in paths if not path.is_file()]:
        raise ReleaseRefusedError(
            f"the evidence has no {', '.join(absent)}",
            where=where,
            remedy="evaluate the candidates again: bundle and model card are written together",
        )
    return paths
