"""Before a release: what its model was trained on must still be what its feature service means."""

from __future__ import annotations

from millrace.errors import ReleaseRefusedError
from millrace.features.applied import applied_definitions
from millrace.features.definition import ON_DEMAND, SERVICE, TABLE, tables_read
from millrace.features.plan import IN_PLACE
from millrace.governance.ledger import Ledger
from millrace.settings import Settings
from millrace.spec import UseCaseSpec
from millrace.step.feature_registry import KIND


def require_service_unchanged(use_case: UseCaseSpec, package: str, *, settings: Settings) -> None:
    """Refuse a release whose feature service, or anything it reads, changed in place since the gates first judged it.

    Until a model is released its service may change under its name; the ledger tells whether it did. Call it under
    `apply_lock`, so that nobody applies between this and the release.

    Args:
        use_case: its use case.
        package: digest of the package to be released.
        settings: this installation.

    Raises:
        ReleaseRefusedError: the model was trained on other features than the service has now.
    """
    ledger = Ledger(settings)
    judged = ledger.entries(use_case.name, kinds=("gates_evaluated",), subject=package)
    applied = applied_definitions(settings.registry_url)
    subject = f"{SERVICE}:{use_case.features.name}"
    if not judged or subject not in applied:
        return
    tables, computed = tables_read(applied[subject]["shape"], applied)
    reads = {subject, *(f"{TABLE}:{name}" for name in tables), *(f"{ON_DEMAND}:{name}" for name in computed)}
    for entry in ledger.entries(use_case.domain, kinds=(KIND,)):
        changed = {f"{item['kind']}:{item['name']}" for item in entry.payload["changes"] if item["note"] == IN_PLACE}
        if entry.seq > judged[0].seq and (wrong := sorted(changed & reads)):
            raise ReleaseRefusedError(
                f"{', '.join(wrong)} changed in place after the model was trained (ledger entry {entry.seq})",
                where=f"release of {use_case.name}, package {package[:12]}",
                remedy=f"train again on {use_case.features.name!r} as it is now",
            )
