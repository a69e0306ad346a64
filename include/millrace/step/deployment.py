"""Deployment: the release that the ledger says is in force, into the online service, and proof that it answers."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from millrace.artifact import ReleaseRef
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.pointer import deploying, pointer_path, write_pointer
from millrace.deployment.probe import probe_service
from millrace.errors import DeploymentError, ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.proof import InForce, prove_in_force
from millrace.governance.release import Release, Releases
from millrace.governance.requester import SYSTEM
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec, load_domain
from millrace.step.path_proof import prove_paths

log = logging.getLogger(__name__)


def deploy_release(
    use_case: UseCaseSpec, release: Release, *, settings: Settings, actor: str = SYSTEM
) -> dict[str, Any]:
    """Bring what is in force by the ledger into the online service, once the ledger proves it.

    Idempotent: a pointer that says the same is left alone, the ledger has one `deployed` entry a move of the champion,
    and the service loads the same bytes again. Where another release is in force by now, that one is deployed and the
    one asked for is reported as superseded.

    Args:
        use_case: its use case.
        release: the release that the caller wants deployed.
        settings: this installation.
        actor: who has it deployed.

    Returns:
        `release`, `package`, `pointer`, `changed` (whether the pointer moved), `superseded` (the version asked
        for where another is in force, else 0) and `service`.

    Raises:
        ReleaseRefusedError: no release is in force, the one asked for is not one of the ledger's, or what is in force
            is not proven: the pointer stays as it is.
        PackageError: the package in force is not whole; the pointer still names the release before.
        DeploymentError: the service refuses it, or does not answer: the pointer is written, the loading pending.
    """
    with deploying(settings.serving_dir, use_case.name):
        _require_known(use_case, release, settings)
        in_force = _in_force(use_case, settings)
        ref = reference_of(use_case, in_force.release, settings)
        changed = write_pointer(settings.serving_dir, ref)
        _record(use_case, in_force, settings, actor)
        told = _load(use_case, ref, settings)
    if superseded := release.version if release.version != ref.release else 0:
        log.warning("release %d of %s is superseded by %d", superseded, use_case.name, ref.release)
    log.info("release %d of %s loaded by %s", ref.release, use_case.name, settings.serving_url)
    return {
        "use_case": use_case.name,
        "release": ref.release,
        "package": told["package"],
        "pointer": str(pointer_path(settings.serving_dir, use_case.name)),
        "changed": changed,
        "superseded": superseded,
        "service": settings.serving_url,
    }


def verify_deployment(use_case: UseCaseSpec, *, settings: Settings) -> dict[str, Any]:
    """Ask the live service for its golden rows: it must be the release in force that answers, to 1e-6.

    Then real rows of its holdout go both ways: by key through the online store and the service, and as of the same
    instant through the lake and the package. Every feature must be equal, every prediction to 1e-6.

    Returns:
        `use_case`, `release`, `package`, `rows`, `max_abs_diff`, `service`, and `paths` (what was compared both ways).

    Raises:
        ReleaseRefusedError: no release of the use case is in force, or it is not proven.
        DeploymentError: another release or other predictions answer, or nobody does; or a feature is not the same
            online and offline.
    """
    in_force = _in_force(use_case, settings).release
    package = Package.open(settings.packages / in_force.package, in_force.package)
    client = _client(settings)
    report = probe_service(client, use_case.name, in_force.version, package)
    log.info("release %d of %s proven by %d golden rows", report.release, use_case.name, report.rows)
    paths = prove_paths(use_case, in_force, package, client=client, settings=settings)
    return {"use_case": use_case.name, **asdict(report), "service": settings.serving_url, "paths": paths.to_dict()}


def _in_force(use_case: UseCaseSpec, settings: Settings) -> InForce:
    in_force = prove_in_force(use_case, settings=settings)
    if in_force is None:
        raise ReleaseRefusedError(
            f"no release of {use_case.name!r} is in force",
            where="ledger",
            remedy="train and release a model before it is deployed",
        )
    return in_force


def _require_known(use_case: UseCaseSpec, asked: Release, settings: Settings) -> None:
    """The release that the caller hands on is one of the ledger's, in every field.

    Raises:
        ReleaseRefusedError: it is not.
    """
    releases = Releases(settings)
    if releases.list(use_case) and releases.get(use_case, asked.version) != asked:
        raise ReleaseRefusedError(
            f"release {asked.version} that was handed on is not the one of that number in the ledger",
            where=f"deployment of {use_case.name}",
            remedy="hand on what the task that released or rolled back returned",
        )


def _record(use_case: UseCaseSpec, found: InForce, settings: Settings, actor: str) -> None:
    """Note who brought it there, once for each time that it was put in force."""
    release, move = found.release, found.move
    Ledger(settings).append(
        "deployed",
        use_case=use_case.name,
        subject=release.package,
        effective_at=move.effective_at,
        actor=actor,
        payload={"version": release.version, "evidence": release.evidence, "put_in_force_by": move.seq},
        key=f"{release.version}/{move.hash}",
    )


def reference_of(use_case: UseCaseSpec, release: Release, settings: Settings) -> ReleaseRef:
    """What the service is told; the package is checked byte by byte before anything points at it.

    What the package answers is read off the package: the spec may ask another question by now.
    """
    package = Package.open(settings.packages / release.package, release.package)
    return ReleaseRef(
        use_case=use_case.name,
        release=release.version,
        package=release.package,
        package_dir=str(package.folder.resolve()),
        threshold=release.threshold if package.manifest.problem == "binary" else None,
        effective_at=release.effective_at,
        feature_service=release.feature_service,
        request_sample=use_case.monitoring.request_sample,
        personal=_personal(load_domain(settings.dags, use_case.domain)),
    )


def _personal(domain: DomainSpec) -> list[str]:
    """Columns of any source that are personal data."""
    return sorted({name for source in domain.sources.values() for name in source.pii})


def _load(use_case: UseCaseSpec, ref: ReleaseRef, settings: Settings) -> dict[str, Any]:
    try:
        told = _client(settings).load(use_case.name)
    except DeploymentError as error:
        raise DeploymentError(
            f"release {ref.release} of {use_case.name!r} is pending: its pointer is written, but {error.what}",
            where=error.where,
            remedy=error.remedy,
        ) from error
    if (told["version"], told["package"]) != (str(ref.release), ref.package):
        raise DeploymentError(
            f"the online service loaded release {told['version']}, the pointer names {ref.release}",
            where=settings.serving_url,
            remedy="have it read the same folder as MILLRACE_SERVING_DIR says",
        )
    return told


def _client(settings: Settings) -> ServiceClient:
    return ServiceClient(url=settings.serving_url, token=settings.serving_token)
