"""What served at an instant, who approved it, on what evidence: read off the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.proof import bundle_folder, prove_release
from millrace.governance.release import Release, Releases
from millrace.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """A release with the decisions behind it.

    Attributes:
        release: what is in force; None where nothing is.
        entries: verdict, registration, waivers, approvals and release of its package, its deployments, and rollbacks
            to it.
        fault: why the release is not proven; "" where it is.
        card: its model card (HTML); None where the file is gone.
    """

    release: Release | None
    entries: list[Entry] = field(default_factory=list)
    fault: str = ""
    card: Path | None = None

    @property
    def approvals(self) -> list[Entry]:
        """The approvals that it was released by; one that counted for nothing is not among them."""
        named = self._made.payload.get("approvals", []) if self._made else []
        return [entry for entry in self.entries if entry.kind == "approved" and entry.seq in named]

    @property
    def approvers(self) -> list[str]:
        """Who allowed it."""
        return list(dict.fromkeys(entry.actor for entry in self.approvals))

    @property
    def move(self) -> Entry | None:
        """What put it in force: its release, or the last rollback to it."""
        moves = [entry for entry in self.entries if entry.kind in {"released", "rolled_back"}]
        return max(moves, key=lambda entry: (entry.effective_at, entry.seq), default=None)

    @property
    def verdict(self) -> Entry | None:
        """The gates' verdict that it was released on."""
        named = self._made.payload.get("verdict") if self._made else None
        return next((entry for entry in self.entries if entry.seq == named), None)

    @property
    def _made(self) -> Entry | None:
        """The entry that made this release: its package may have been released more than once."""
        for entry in self.entries:
            if entry.kind == "released" and self.release and entry.payload.get("version") == self.release.version:
                return entry
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "release": self.release.to_dict() if self.release else None,
            "approvers": self.approvers,
            "in_force_by": self.move.to_dict() if self.move else None,
            "verdict": self.verdict.to_dict() if self.verdict else None,
            "card": str(self.card) if self.card else None,
            "proven": self.release is not None and not self.fault,
            "fault": self.fault,
            "entries": [entry.to_dict() for entry in self.entries],
        }


def as_of(use_case: str, at: datetime, *, settings: Settings, recorded: bool = False) -> Provenance:
    """What was in force at `at`: an instant of data time, or of wall time where `recorded`.

    Raises:
        LedgerError: an entry cannot be read.
    """
    releases = Releases(settings)
    release = releases.recorded(use_case, at) if recorded else releases.in_force(use_case, at)
    if release is None:
        return Provenance(release=None)
    entries = [
        entry
        for entry in Ledger(settings).entries(use_case, subject=release.package)
        if (entry.recorded_at if recorded else entry.effective_at) <= at
    ]
    card = bundle_folder(settings) / f"{release.evidence}.html"
    return Provenance(
        release=release, entries=entries, fault=_fault(release, settings), card=card if card.is_file() else None
    )


def _fault(release: Release, settings: Settings) -> str:
    try:
        prove_release(release, settings=settings)
    except ReleaseRefusedError as refused:
        return refused.what
    return ""
