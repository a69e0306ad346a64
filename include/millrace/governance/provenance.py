"""What served at an instant, who approved it, on what evidence: read off the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.governance.ledger import Entry, Ledger
from millrace.governance.release import Release, Releases
from millrace.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """A release with the decisions behind it.

    Attributes:
        release: what is in force; None where nothing is.
        entries: verdict, registration, waivers, approvals and release of its package, and rollbacks to it.
    """

    release: Release | None
    entries: list[Entry]

    @property
    def approvers(self) -> list[str]:
        """Who approved it, on the evidence it was released on."""
        evidence = self.release.evidence if self.release else None
        found = [e.actor for e in self.entries if e.kind == "approved" and e.payload.get("evidence") == evidence]
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "release": self.release.to_dict() if self.release else None,
            "approvers": self.approvers,
            "entries": [entry.to_dict() for entry in self.entries],
        }


def as_of(use_case: str, at: datetime, *, settings: Settings, recorded: bool = False) -> Provenance:
    """What was in force at `at`: an instant of data time, or of wall time where `recorded`."""
    releases = Releases(settings)
    release = releases.recorded(use_case, at) if recorded else releases.in_force(use_case, at)
    if release is None:
        return Provenance(release=None, entries=[])
    entries = [
        entry
        for entry in Ledger(settings).entries(use_case, subject=release.package)
        if (entry.recorded_at if recorded else entry.effective_at) <= at
    ]
    return Provenance(release=release, entries=entries)
