"""One release after another: a proven challenger takes over from the champion, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from millrace.artifact import Verdict, digest_of, iso
from millrace.errors import ReleaseRefusedError, StaleEvidenceError
from millrace.governance.approval import (
    Proposal,
    Question,
    check_tree,
    require_approval,
    require_pass,
    require_verdict,
)
from millrace.governance.ledger import Ledger, lock_head
from millrace.governance.policy import effective_at, policy_digest, store_policy
from millrace.governance.proof import prove_release, require_evidence, require_whole_ledger
from millrace.governance.recipe import find_recipes
from millrace.governance.release import Release, Releases
from millrace.governance.requester import SYSTEM, Requester
from millrace.governance.state import reading, writing
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)


def require_decided(
    settings: Settings, use_case: UseCaseSpec, policy: PolicySpec, proposal: Proposal, verdict: Verdict
) -> datetime:
    """The instant a release would take effect, once verdict and champion are as the proposal says.

    Raises:
        ReleaseRefusedError: no pass, not one that the ledger has, the evidence is gone or about something else, or a
            later decision is in force already; or an entry of the ledger was changed.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    where = f"approval of {use_case.name}"
    require_pass(verdict, proposal, where)
    _require_evidence(settings, use_case, policy, proposal, where)
    moment = effective_at(use_case, proposal.challenger.holdout, settings=settings)
    with reading(settings) as connection:
        require_whole_ledger(connection, where)
        _require_verdict(settings, use_case, policy, proposal, connection)
        if _existing(settings, use_case, proposal, moment, connection) is None:
            _require_champion(settings, use_case, proposal, moment, connection)
    return moment


def succeed(
    settings: Settings,
    use_case: UseCaseSpec,
    policy: PolicySpec,
    proposal: Proposal,
    *,
    registry_version: int,
    actor: str,
    run: str = "",
    requester: Requester | None = None,
) -> Release:
    """Make the challenger the release in force, or give back the release that it already is.

    Args:
        settings: this installation.
        use_case: its use case.
        policy: the policy as it is now.
        proposal: what was evaluated.
        registry_version: the model's version in MLflow.
        actor: who runs this.
        run: the run that asked people; only what was answered in it counts.
        requester: on whose behalf that run asked; their own approval does not count. `system` where not given.

    Raises:
        ReleaseRefusedError: evidence, verdict, registration, approval or a clean tree is missing, a later decision is
            in force already, or an entry of the ledger was changed.
        StaleEvidenceError: the champion changed since the evaluation.
    """
    where, package = f"release of {use_case.name}", proposal.challenger.digest
    moment = effective_at(use_case, proposal.challenger.holdout, settings=settings)
    with reading(settings) as connection:
        require_whole_ledger(connection, where)
        known = _existing(settings, use_case, proposal, moment, connection)
    if known is not None:
        return known
    _require_evidence(settings, use_case, policy, proposal, where)
    note = {
        "tree": check_tree(settings, use_case, policy, package).to_dict(),
        "recipes": [recipe.digest for recipe in find_recipes(package, settings)],
    }
    store_policy(policy, settings=settings)
    asker = requester or Requester(name=SYSTEM, automatic=True)
    question = Question(use_case=use_case, policy=policy, proposal=proposal, run=run, requester=asker)
    decision = _Decision(settings=settings, question=question, registry_version=registry_version)
    with writing(settings) as connection:
        lock_head(connection)
        if (known := _existing(settings, use_case, proposal, moment, connection)) is not None:
            return known
        _require_champion(settings, use_case, proposal, moment, connection)
        note |= decision.grounds(connection)
        release = decision.release(moment, connection)
        Releases(settings).add(release, actor=actor, note=note, connection=connection)
        prove_release(release, settings=settings, connection=connection)
    log.info("%s: release %d (%s) from %s", use_case.name, release.version, release.candidate, release.effective_at)
    return release


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What a release is made of, as it is asked for."""

    settings: Settings
    question: Question
    registry_version: int

    def grounds(self, connection: Connection) -> dict[str, Any]:
        """The entries that allow it, by their numbers, and who was asked for whom; refused where one is missing."""
        asked = self.question
        what = (self.settings, asked.use_case, asked.policy, asked.proposal)
        verdict = _require_verdict(*what, connection)
        registered = _require_registered(*what, version=self.registry_version, connection=connection)
        approvals = require_approval(Ledger(self.settings), asked, connection=connection)
        return {
            "verdict": verdict,
            "registered": registered,
            "approvals": [entry.seq for entry in approvals],
            "approvers": [entry.actor for entry in approvals],
            "run": asked.run if asked.policy.approvals else "",
            "requested_by": asked.requester.name if asked.policy.approvals else SYSTEM,
        }

    def release(self, moment: datetime, connection: Connection) -> Release:
        """The next release of the use case, with the challenger in it."""
        use_case, proposal = self.question.use_case, self.question.proposal
        made = Releases(self.settings).list(use_case, connection=connection)
        model = proposal.challenger
        return Release(
            use_case=use_case.name,
            version=1 + max((item.version for item in made), default=0),
            package=model.digest,
            candidate=model.candidate,
            trainer=model.trainer,
            trained_through=model.trained_through,
            holdout=model.holdout,
            effective_at=iso(moment),
            evidence=proposal.evidence,
            policy=policy_digest(self.question.policy),
            feature_service=use_case.features.name,
            threshold=use_case.threshold,
            reference=proposal.reference,
            registry_version=self.registry_version,
            replaces=proposal.champion,
        )


def _existing(
    settings: Settings, use_case: UseCaseSpec, proposal: Proposal, moment: datetime, connection: Connection
) -> Release | None:
    digest = proposal.challenger.digest
    return Releases(settings).find(use_case, digest, proposal.evidence, moment, connection=connection)


def _require_verdict(
    settings: Settings, use_case: UseCaseSpec, policy: PolicySpec, proposal: Proposal, connection: Connection
) -> int:
    wanted = (proposal.challenger.digest, proposal.evidence, policy_digest(policy))
    return require_verdict(Ledger(settings), use_case.name, *wanted, connection=connection).seq


def _require_registered(
    settings: Settings,
    use_case: UseCaseSpec,
    policy: PolicySpec,
    proposal: Proposal,
    *,
    version: int,
    connection: Connection,
) -> int:
    """Number of the entry that says that this package was registered with this evidence, as that version."""
    package, where = proposal.challenger.digest, f"release of {use_case.name}"
    wanted = (version, proposal.evidence, policy_digest(policy))
    for entry in Ledger(settings).entries(use_case.name, kinds=("registered",), subject=package, connection=connection):
        if tuple(entry.payload.get(name) for name in ("version", "evidence", "policy")) == wanted:
            return entry.seq
    raise ReleaseRefusedError(
        f"the ledger does not say that package {package[:12]} was registered as version {version} with this evidence",
        where=where,
        remedy="register the model; what the registry does not hold is not released",
    )


def _require_evidence(
    settings: Settings, use_case: UseCaseSpec, policy: PolicySpec, proposal: Proposal, where: str
) -> None:
    """The bundle is there, and was made of this package, under this policy and this version of the use case."""
    model = proposal.challenger
    claims = {
        "use_case": use_case.name,
        "use_case_digest": digest_of(use_case.model_dump(mode="json")),
        "package": model.digest,
        "candidate": model.candidate,
        "trainer": model.trainer,
        "trained_through": model.trained_through,
        "policy": policy_digest(policy),
        "reference": proposal.reference,
        "champion": proposal.champion,
        "holdout": model.holdout,
        "feature_service": use_case.features.name,
    }
    require_evidence(proposal.evidence, claims, settings=settings, where=where)


def _require_champion(
    settings: Settings, use_case: UseCaseSpec, proposal: Proposal, moment: datetime, connection: Connection
) -> None:
    releases = Releases(settings)
    newest = releases.move(use_case, connection=connection)
    if newest is not None and newest.effective_at > moment:
        raise ReleaseRefusedError(
            f"it would take effect at {iso(moment)} and never be in force: release {newest.payload['version']} is, "
            f"from {iso(newest.effective_at)} on (entry {newest.seq}, {newest.kind})",
            where=f"release of {use_case.name} evaluated on {proposal.challenger.holdout}",
            remedy=f"train for a partition that ends at {iso(newest.effective_at)} or later",
        )
    current = releases.in_force(use_case, moment, connection=connection)
    accepted = {current.version if current else 0}
    if current is not None and current.package == proposal.challenger.digest:
        accepted.add(current.replaces)  # the release in force judged anew, under a changed policy say
    if proposal.champion not in accepted:
        now = current.version if current else "(none)"
        raise StaleEvidenceError(
            f"the evidence compares with release {proposal.champion or '(none)'}, in force is {now}",
            where=f"release of {use_case.name}",
            remedy="clear `evaluate_candidates` and what follows: compare with the champion as it is",
        )
