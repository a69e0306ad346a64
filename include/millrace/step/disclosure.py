"""A quarantined record of a source with personal columns, in the clear: for an owner of the domain, and on record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millrace.artifact import iso
from millrace.errors import IdentityError, SpecError
from millrace.governance.ledger import Ledger
from millrace.governance.person import same_person
from millrace.ingestion import UNASSIGNED
from millrace.privacy import installation_key, reveal
from millrace.settings import Settings
from millrace.spec import DomainSpec

KIND = "record_disclosed"


def disclose(
    domain: DomainSpec,
    source: str,
    entry: Mapping[str, Any],
    *,
    settings: Settings,
    by: str,
    reason: str,
    now: datetime | None = None,
) -> str:
    """The text of a record that could not be read, as it came. That it was shown stands in the ledger before it is.

    Columns of rows hold tokens, which lead back to nothing.

    Args:
        domain: the domain.
        source: one of its sources.
        entry: of the quarantine.
        settings: the installation.
        by: who asks.
        reason: why.
        now: when (the wall clock by default).

    Raises:
        IdentityError: who asks is no owner of the domain.
        SpecError: no reason is given, or the text was not kept.
        SettingsError: it was encrypted under another key.
    """
    where = f"{domain.name}/{source}, row {entry['row_id']}"
    if not any(same_person(by, owner) for owner in domain.owners):
        raise IdentityError(
            f"{by!r} is no owner of domain {domain.name!r}",
            where=where,
            remedy=f"one of these may look: {', '.join(domain.owners)} (`owners` of the domain)",
        )
    if not reason.strip():
        raise SpecError("a record is disclosed for a reason", where=where, remedy='say why: --because "…"')
    if entry["raw"] is None:
        raise SpecError("the text was too long to be kept", where=where, remedy="look at file, offset and length")
    text = reveal(str(entry["raw"]), installation_key(settings))
    moves = entry["partition"] not in ("", UNASSIGNED)
    Ledger(settings).append(
        KIND,
        use_case=domain.name,
        subject=f"{domain.name}/{source}/{entry['row_id']}",
        effective_at=domain.partition(entry["partition"]).end if moves else domain.first_start,
        actor=by,
        payload={"reason": reason, "by": by, "at": iso(now or datetime.now(UTC))},
    )
    return text
