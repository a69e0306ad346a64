"""One release after another: a proven challenger takes over, or an earlier release is put back, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from millrace.artifact import Verdict, digest_of, iso
from millrace.errors import LedgerError, ReleaseRefusedError, StaleEvidenceError
from millrace.governance.approval import Proposal, check_tree, require_approval, require_pass, require_verdict
from millrace.governance.ledger import Ledger, lock_head
from millrace.governance.policy import effective_at, policy_digest, store_policy
from millrace.governance.proof import prove_in_whole, prove_release, require_evidence, require_whole_ledger
from millrace.governance.recipe import find_recipes
from millrace.governance.release import Release, Releases
from millrace.governance.requester import SYSTEM, Requester
from millrace.governance.state import moment_of, reading, writing
from millrace.settings import Settings
from millrace.spec.policy import PolicySpec
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """What a rollback is asked to do.

    Attributes:
        version: release to go back to; None for the one that the release in force replaced.
        reason: why.
        actor: who asks.
        key: names this act; the same key does it once.
        away_from: where no version is named, the release that has to be in force still; None for any.
    """

    version: int | None
    reason: str
    actor: str
    key: str
    away_from: int | None = None


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
    decision = _Decision(
        settings=settings,
        use_case=use_case,
        policy=policy,
        proposal=proposal,
        registry_version=registry_version,
        run=run,
        requester=requester or Requester(name=SYSTEM, automatic=True),
    )
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
    use_case: UseCaseSpec
    policy: PolicySpec
    proposal: Proposal
    registry_version: int
    run: str
    requester: Requester

    def grounds(self, connection: Connection) -> dict[str, Any]:
        """The entries that allow it, by their numbers, and who was asked for whom; refused where one is missing."""
        what = (self.settings, self.use_case, self.policy, self.proposal)
        verdict = _require_verdict(*what, connection)
        registered = _require_registered(*what, version=self.registry_version, connection=connection)
        approvals = require_approval(
            Ledger(self.settings), *what[1:], run=self.run, requester=self.requester, connection=connection
        )
        return {
            "verdict": verdict,
            "registered": registered,
            "approvals": [entry.seq for entry in approvals],
            "approvers": [entry.actor for entry in approvals],
            "run": self.run if self.policy.approvals else "",
            "requested_by": self.requester.name if self.policy.approvals else SYSTEM,
        }

    def release(self, moment: datetime, connection: Connection) -> Release:
        """The next release of the use case, with the challenger in it."""
        made = Releases(self.settings).list(self.use_case, connection=connection)
        model = self.proposal.challenger
        return Release(
            use_case=self.use_case.name,
            version=1 + max((item.version for item in made), default=0),
            package=model.digest,
            candidate=model.candidate,
            trainer=model.trainer,
            trained_through=model.trained_through,
            holdout=model.holdout,
            effective_at=iso(moment),
            evidence=self.proposal.evidence,
            policy=policy_digest(self.policy),
            feature_service=self.use_case.features.name,
            threshold=self.use_case.threshold,
            reference=self.proposal.reference,
            registry_version=self.registry_version,
            replaces=self.proposal.champion,
        )


def restore(settings: Settings, use_case: UseCaseSpec, asked: Rollback) -> Release:
    """Put an earlier release back in force, at the newest instant in data time that anything was decided on.

    Raises:
        ReleaseRefusedError: no such release, or none before (the message lists those there are), or it is not proven;
            or no version is named, and the release to go away from is not in force any more; or an entry of the ledger
            was changed.
        LedgerError: the key was used for another version.
    """
    ledger, releases = Ledger(settings), Releases(settings)
    with writing(settings) as connection:
        lock_head(connection)
        require_whole_ledger(connection, f"rollback of {use_case.name}")
        if (done := _done(ledger, use_case, asked, connection)) is not None:
            return releases.get(use_case, done, connection=connection)
        current = releases.in_force(use_case, connection=connection)
        _require_still_meant(asked, current)
        if current is None or (asked.version is None and not current.replaces):
            raise ReleaseRefusedError(
                "nothing was ever released" if current is None else f"there is no release before {current.version}",
                where=f"rollback of {use_case.name}",
                remedy="train and release a model first" if current is None else "name the release to go back to",
            )
        version = current.replaces if asked.version is None else asked.version
        target = releases.get(use_case, version, connection=connection)
        if target.version == current.version:
            log.info("%s: release %d is in force already, nothing to roll back", use_case.name, target.version)
            return target
        prove_in_whole(target, settings=settings, connection=connection)
        clock = ledger.newest_effective(use_case.name, connection=connection)
        ledger.append(
            "rolled_back",
            use_case=use_case.name,
            subject=target.package,
            effective_at=clock or moment_of(target.effective_at),
            actor=asked.actor,
            payload={"version": target.version, "from": current.version, "reason": asked.reason},
            key=asked.key,
            connection=connection,
        )
    log.info("%s: rolled back from release %d to %d", use_case.name, current.version, target.version)
    return target


def _require_still_meant(asked: Rollback, current: Release | None) -> None:
    """Two who mean "away from this one" at the same time go one back, not two."""
    if asked.version is None and current is not None and asked.away_from not in {None, current.version}:
        raise ReleaseRefusedError(
            f"release {asked.away_from} is not in force any more, {current.version} is: somebody was faster",
            where=f"rollback of {current.use_case}",
            remedy="look at the ledger (`millrace ledger show`); to go further back, name the release",
        )


def _done(ledger: Ledger, use_case: UseCaseSpec, asked: Rollback, connection: Connection) -> int | None:
    """The release that a rollback of the same key went to."""
    for entry in ledger.entries(use_case.name, kinds=("rolled_back",), connection=connection):
        if entry.key == asked.key:
            went_to = int(entry.payload["version"])
            if asked.version not in {None, went_to}:
                raise LedgerError(
                    f"rollback {asked.key!r} went to release {went_to}, not to {asked.version}",
                    where=f"ledger of {use_case.name}",
                    remedy="start a new run for another rollback",
                )
            return went_to
    return None


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
