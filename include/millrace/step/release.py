"""Approval, release and rollback: each asks the ledger for proof, and writes it in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from millrace.artifact import Verdict, digest_of
from millrace.errors import RegistryUnavailableError, ReleaseRefusedError
from millrace.features.applied import apply_lock
from millrace.governance.approval import SYSTEM, Answer, Proposal, check_answers, require_pass, write_approval
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import effective_at, policy_digest
from millrace.governance.release import Approval, Release, Releases
from millrace.governance.succession import Rollback, require_decided, restore, succeed
from millrace.registry.base import CHAMPION, RegisteredModel
from millrace.registry.mlflow_registry import set_alias
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec
from millrace.step.service_guard import require_service_unchanged

log = logging.getLogger(__name__)


def approve_by_policy(
    use_case: UseCaseSpec, policy: PolicySpec, evaluation: Proposal, verdict: Verdict, *, settings: Settings
) -> Approval:
    """Approve in the name of a policy that asks for nobody.

    Raises:
        ReleaseRefusedError: the policy asks for people, the verdict is no pass, or the tree is refused.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    if policy.approvals:
        raise ReleaseRefusedError(
            f"policy {policy.tier!r} asks for {policy.approvals} approvals",
            where=f"approval of {use_case.name}",
            remedy="let people approve, through the approval tasks of the training DAG",
        )
    moment = require_decided(settings, use_case, policy, evaluation, verdict)
    return write_approval(settings, use_case, policy, evaluation, answers=[], effective_at=moment)


def record_approval(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    evaluation: Proposal,
    verdict: Verdict,
    *,
    approvers: Sequence[Mapping[str, str]],
    settings: Settings,
    requested_by: str = SYSTEM,
    key: str = "",
) -> Approval:
    """Write the approvals that people gave; who they are is what Airflow recorded.

    Args:
        use_case: its use case.
        policy: says how many are needed.
        evaluation: what they were shown.
        verdict: what the gates said of it.
        approvers: `name` and `comment` of each.
        settings: this installation.
        requested_by: who started the run; may not approve.
        key: tells a second request on the same evidence from the first, such as a run's id after a rejection.

    Raises:
        ReleaseRefusedError: too few people, an owner or the requester among them, no pass, or the tree is refused.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    answers = [Answer(name=str(item.get("name", "")), comment=str(item.get("comment", ""))) for item in approvers]
    check_answers(use_case, policy, answers, requested_by)
    moment = require_decided(settings, use_case, policy, evaluation, verdict)
    return write_approval(settings, use_case, policy, evaluation, answers=answers, effective_at=moment, key=key)


def record_rejection(
    use_case: UseCaseSpec,
    policy: PolicySpec,
    evaluation: Proposal,
    *,
    name: str,
    comment: str,
    settings: Settings,
    key: str = "",
) -> Entry:
    """Write that a person refused; approvals given before it no longer count."""
    digest = policy_digest(policy)
    what = {"package": evaluation.challenger.digest, "evidence": evaluation.evidence, "policy": digest, "by": "person"}
    return Ledger(settings).append(
        "rejected",
        use_case=use_case.name,
        subject=evaluation.challenger.digest,
        effective_at=effective_at(use_case, evaluation.challenger.holdout, settings=settings),
        actor=name,
        payload={**what, "comment": comment},
        key=digest_of({**what, "name": name, "key": key}),
    )


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
        release = succeed(settings, use_case, policy, evaluation, registry_version=registered.version, actor=actor)
    align_champion(use_case, settings=settings)
    return release


def rollback_release(
    use_case: UseCaseSpec,
    version: int | None,
    reason: str,
    actor: str,
    *,
    settings: Settings,
    key: str,
) -> Release:
    """Put an earlier release back in force as one unit; the same `key` does it once.

    It takes effect at the newest instant in data time that anything was decided on. The ledger is what counts: a
    registry that is away does not hold a rollback up, its alias follows with the next act.

    Args:
        use_case: its use case.
        version: release to go back to; None for the one that the release in force replaced.
        reason: why.
        actor: who asks for it.
        settings: this installation.
        key: names this act, such as the id of an Airflow run.

    Returns:
        The release that is in force by this act.

    Raises:
        ReleaseRefusedError: no such release, or none before; the message lists those there are.
        LedgerError: the same key was used for another version.
    """
    if not reason.strip() or not key.strip():
        raise ReleaseRefusedError(
            "a rollback without a reason or key", where=f"rollback of {use_case.name}", remedy="say why"
        )
    asked = Rollback(version=version, reason=reason, actor=actor, key=key)
    release = restore(settings, use_case, asked)
    try:
        align_champion(use_case, settings=settings)
    except RegistryUnavailableError as error:
        log.warning("rolled back, but the alias in MLflow still names another version: %s", error)
    return release


def align_champion(use_case: UseCaseSpec, *, settings: Settings) -> bool:
    """Let MLflow's alias `champion` name what the ledger says is in force; False where it does already.

    Raises:
        RegistryUnavailableError: MLflow does not answer.
    """
    release = Releases(settings).in_force(use_case)
    return release is not None and set_alias(use_case.name, CHAMPION, release.registry_version, settings=settings)


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
