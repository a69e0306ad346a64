"""Steps of features: what Feast's registry is told of a domain and its use cases, and what it may not be told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from millrace.artifact import digest_of
from millrace.errors import FeatureError, PackageError
from millrace.features.applied import (
    Definition,
    applied_definitions,
    applied_digests,
    apply_lock,
    record_applied,
    revision,
)
from millrace.features.definition import SERVICE, define_features, service_shape
from millrace.features.plan import Plan, Standing, make_plan
from millrace.governance.ledger import Ledger
from millrace.governance.release import Release, Releases
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, list_specs, load_use_case
from millrace.step.feature_proof import prove

log = logging.getLogger(__name__)
KIND = "features_applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyReport:
    """What an apply did.

    Attributes:
        domain: its domain.
        plan: what was changed.
        revision: number of the apply; that of the last one where nothing was to be done.
        verified: objects that were read back from the registry and are as declared; 0 where nothing was written.
        repaired: objects that the registry did not hold as declared though nothing changed; they were written anew.
    """

    domain: str
    plan: Plan
    revision: int
    verified: int = 0
    repaired: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "domain": self.domain,
            **self.plan.to_dict(),
            "revision": self.revision,
            "verified": self.verified,
            "repaired": list(self.repaired),
        }


def apply_features(domain: DomainSpec, use_cases: list[UseCaseSpec], *, settings: Settings) -> str:
    """Register a domain's views and its use cases' services with Feast, where anything about them changed.

    What releases stand on is changed no more by this than by `millrace features apply`. Services of use cases that are
    not named stay as they are.

    Returns:
        digest of the definitions.

    Raises:
        FeatureError: a definition that is wrong, or a change that a release forbids.
        StateUnavailableError: the registry's database, or the ledger's, does not answer.
    """
    declared = define_features(domain, use_cases, settings.sql_folder)
    digests = {subject: digest_of(definition) for subject, definition in declared.items()}
    if not _all_applied(digests, settings):
        with apply_lock(settings.registry_url):
            if not _all_applied(digests, settings):
                plan = _plan(domain, declared, complete=False, settings=settings)
                _carry_out(domain, use_cases, plan, settings=settings, actor="system")
    return digest_of(digests)


def require_allowed(domain: DomainSpec, *, settings: Settings) -> None:
    """Refuse a changed feature table that a release forbids, before anything is computed by it.

    Raises:
        FeatureError: the change, the releases it would change under, and the remedy.
        StateUnavailableError: the registry's database, or the ledger's, does not answer.
    """
    declared = define_features(domain, [], settings.sql_folder)
    applied = applied_digests(settings.registry_url)
    if any(applied.get(subject) not in {None, digest_of(item)} for subject, item in declared.items()):
        _refuse(domain, _plan(domain, declared, complete=False, settings=settings))


def plan_features(domain: DomainSpec, *, settings: Settings) -> Plan:
    """What `apply_domain` would do: the domain and all use cases on it against what was applied.

    Raises:
        FeatureError: a definition that is wrong.
    """
    declared = define_features(domain, use_cases_on(domain, settings), settings.sql_folder)
    return _plan(domain, declared, complete=True, settings=settings)


def apply_domain(domain: DomainSpec, *, settings: Settings, actor: str, expected: str | None = None) -> ApplyReport:
    """Apply a domain and all use cases on it; what somebody else changed in the registry is written anew.

    Args:
        domain: the domain.
        settings: this installation.
        actor: who applies.
        expected: digest of the plan that was agreed to; None where any will do.

    Raises:
        FeatureError: a definition that is wrong, a change that a release forbids, or another plan than the expected.
        StateUnavailableError: the registry's database, or the ledger's, does not answer.
    """
    from millrace.features.feast_registry import find_drift

    folder, use_cases = settings.sql_folder, use_cases_on(domain, settings)
    declared = define_features(domain, use_cases, folder)
    with apply_lock(settings.registry_url):
        plan = _plan(domain, declared, complete=True, settings=settings)
        if expected is not None and plan.digest != expected:
            raise FeatureError(
                "somebody else applied, or changed a file, since the plan was shown",
                where=f"features of {domain.name}",
                remedy="look at the plan again: `millrace features apply`",
            )
        if plan.changes:
            return _carry_out(domain, use_cases, plan, settings=settings, actor=actor)
        drifted = tuple(find_drift(domain, use_cases, settings=settings, folder=folder))
        if drifted:
            report = _carry_out(domain, use_cases, plan, settings=settings, actor=actor, repaired=drifted)
            log.warning("%s: written anew, as they were not as declared: %s", domain.name, ", ".join(drifted))
            return report
    return ApplyReport(domain=domain.name, plan=plan, revision=revision(settings.registry_url))


def use_cases_on(domain: DomainSpec, settings: Settings) -> list[UseCaseSpec]:
    """The use cases of this installation that are on a domain."""
    found = (load_use_case(settings.dags, name) for name in list_specs(settings.dags, "use_cases"))
    return [use_case for use_case in found if use_case.domain == domain.name]


def standing(settings: Settings) -> Standing:
    """What is in the registry, and the releases that stand on it.

    A released service that the registry does not know is known by the release's sealed package.
    """
    applied = dict(applied_definitions(settings.registry_url))
    by_service = Releases(settings).by_service()
    for service, releases in by_service.items():
        if f"{SERVICE}:{service}" not in applied and (found := _sealed(releases, settings)) is not None:
            applied[f"{SERVICE}:{service}"] = found
    names = {release.use_case for releases in by_service.values() for release in releases}
    serving = [release for name in sorted(names) for release in _serving(name, settings)]
    return Standing(
        applied=applied,
        releases={service: [_label(release) for release in releases] for service, releases in by_service.items()},
        in_force={_label(release) for release in serving},
    )


def _plan(domain: DomainSpec, declared: dict[str, Definition], *, complete: bool, settings: Settings) -> Plan:
    here = standing(settings)
    plan = make_plan(domain.name, declared, here, complete=complete)
    changes = [
        prove(change, here.applied[change.subject], domain, settings=settings) if change.prove else change
        for change in plan.changes
    ]
    return replace(plan, changes=changes)


def _carry_out(
    domain: DomainSpec,
    use_cases: Sequence[UseCaseSpec],
    plan: Plan,
    *,
    settings: Settings,
    actor: str,
    repaired: tuple[str, ...] = (),
) -> ApplyReport:
    """Apply a plan; call under `apply_lock`. The registry's own record comes last: until then it is all done again."""
    from millrace.features.feast_registry import apply_definitions

    _refuse(domain, plan)
    url, folder = settings.registry_url, settings.sql_folder
    verified = apply_definitions(domain, use_cases, settings=settings, folder=folder, drop=plan.drop)
    changes = [
        {"action": item.action, "kind": item.kind, "name": item.name, "note": item.note} for item in plan.changes
    ]
    number = revision(url) + 1
    Ledger(settings).append(
        KIND,
        use_case=domain.name,
        subject=f"{domain.name}/features",
        effective_at=_data_time(domain, settings),
        actor=actor,
        payload={"plan": plan.digest, "changes": changes, "repaired": list(repaired)},
        key=digest_of([str(url.rpartition("@")[2]), number, plan.digest]),
    )
    number = record_applied(url, plan.put, plan.drop, digest=plan.digest)
    return ApplyReport(domain=domain.name, plan=plan, revision=number, verified=verified, repaired=repaired)


def _refuse(domain: DomainSpec, plan: Plan) -> None:
    if refused := plan.refused:
        raise FeatureError(
            "; ".join(f"{change.title} may not be {change.action}d: {change.refusal}" for change in refused),
            where=f"domains/{domain.name}.yaml and its use cases",
            remedy="; ".join(dict.fromkeys(change.remedy for change in refused if change.remedy))
            or "take the change back",
        )


def _all_applied(digests: dict[str, str], settings: Settings) -> bool:
    applied = applied_digests(settings.registry_url)
    return all(applied.get(subject) == digest for subject, digest in digests.items())


def _sealed(releases: Sequence[Release], settings: Settings) -> Definition | None:
    """A service's definition as far as the packages of its releases tell it."""
    for release in releases:
        try:
            features = Package.open(settings.packages / release.package, release.package).features
        except PackageError:
            log.warning("the package of release %s is not at hand, so its service is not known", _label(release))
            continue
        return {"meta": {"use_case": release.use_case}, "shape": service_shape(features.service_spec()), "logic": {}}
    return None


def _label(release: Release) -> str:
    return f"{release.use_case} {release.version}"


def _data_time(domain: DomainSpec, settings: Settings) -> Any:
    """End of the newest partition that has features, else the domain's first instant."""
    built = [
        key for name in domain.feature_tables for key in Table(settings.lake, domain.feature_table(name)).partitions()
    ]
    newest = max((key for key in built if key), default=None)
    return domain.first_start if newest is None else domain.partition(newest).end


def _serving(use_case: str, settings: Settings) -> list[Release]:
    """What is in force, and the first release, which may be scored along."""
    releases = Releases(settings)
    found = [releases.in_force(use_case), releases.first(use_case)]
    return list({item.version: item for item in found if item is not None}.values())
