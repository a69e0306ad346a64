"""Release: asks the ledger for proof, and writes the release in one transaction; MLflow's alias follows."""

from __future__ import annotations

import logging

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError
from millrace.features.applied import apply_lock
from millrace.governance.approval import Approval, Proposal, require_pass
from millrace.governance.policy import policy_digest
from millrace.governance.proof import prove_in_force
from millrace.governance.release import Release
from millrace.governance.requester import SYSTEM, Requester
from millrace.governance.succession import succeed
from millrace.registry.base import CHAMPION, RegisteredModel
from millrace.registry.mlflow_alias import moving_aliases, set_alias
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec
from millrace.step.service_guard import require_service_unchanged

log = logging.getLogger(__name__)


def release_model(  # noqa: PLR0917 - each of them is one thing that has to be there
    use_case: UseCaseSpec,
    policy: PolicySpec,
    evaluation: Proposal,
    verdict: Verdict,
    registered: RegisteredModel,
    approval: Approval,
    *,
    settings: Settings,
    actor: str = SYSTEM,
    run: str = "",
    requester: Requester | None = None,
) -> Release:
    """Make the approved challenger the champion, if the champion is still the one it was compared with.

    The caller's word is checked against the ledger: verdict and approvals of this package, on this evidence, under
    this policy. Release and ledger entry are written in one transaction, then MLflow's alias follows the ledger. The
    same package on the same evidence for the same instant is one release.

    Args:
        use_case: its use case.
        policy: the policy as it is now.
        evaluation: names challenger, champion, evidence and reference.
        verdict: what the gates said.
        registered: the model's version in MLflow.
        approval: who allowed it.
        settings: this installation.
        actor: who runs this.
        run: the run that asked people; where the policy asks for any, only what was answered in it counts.
        requester: on whose behalf that run asked; their own approval does not count.

    Raises:
        ReleaseRefusedError: something is not proven, or does not belong together.
        StaleEvidenceError: the champion changed since the evaluation: evaluate again.
        RegistryUnavailableError: released, but MLflow's alias is not moved yet; run it again.
    """
    where = f"release of {use_case.name}"
    require_pass(verdict, evaluation, where)
    _require_together(policy, evaluation, registered, approval, where)
    with apply_lock(settings.registry_url):
        require_service_unchanged(use_case, evaluation.challenger.digest, settings=settings)
        with moving_aliases(use_case.name, settings):
            release = succeed(
                settings,
                use_case,
                policy,
                evaluation,
                registry_version=registered.version,
                actor=actor,
                run=run,
                requester=requester,
            )
            align_champion(use_case, settings=settings)
    return release


def align_champion(use_case: UseCaseSpec, *, settings: Settings) -> bool:
    """Let MLflow's alias `champion` name what the ledger proves to be in force; False where it does already.

    Raises:
        ReleaseRefusedError: what is in force is not proven.
        RegistryUnavailableError: MLflow does not answer.
    """
    found = prove_in_force(use_case, settings=settings)
    if found is None:
        return False
    return set_alias(use_case.name, CHAMPION, found.release.registry_version, settings=settings)


def _require_together(
    policy: PolicySpec, evaluation: Proposal, registered: RegisteredModel, approval: Approval, where: str
) -> None:
    wanted = (evaluation.challenger.digest, evaluation.evidence, policy_digest(policy))
    for name, found in (
        ("registered model", (registered.digest, registered.evidence, registered.policy)),
        ("approval", (approval.package, approval.evidence, approval.policy)),
    ):
        for part, is_, must in zip(("package", "evidence", "policy"), found, wanted, strict=True):
            if is_ != must:
                raise ReleaseRefusedError(
                    f"the {name} is for {part} {is_ or '(none)'}, the evaluation for {must}",
                    where=where,
                    remedy="evaluate, register and approve again; what was judged is what is released",
                )
