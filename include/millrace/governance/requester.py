"""Four eyes: who asks for a release, and who may therefore not allow it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace.artifact import PlainValue
from millrace.governance.git_tree import run_git
from millrace.governance.person import fault_of, key_of, same_person
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
SYSTEM = "system"
OWNER = "owner of the use case"
_SECONDS = 5.0
_IDENTITY = "%cN%x00%cE%x00%aN%x00%aE"
"""Committer and author of a commit, by `.mailmap` where there is one: that is where a team maps them to user names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester(PlainValue):
    """On whose behalf a run asks for a release.

    Attributes:
        name: Airflow user who started it; of an automatic run the last committer of the use case, or `system`.
        automatic: nobody started it by hand.
        aliases: other names and addresses of the same person, as git knows them.
    """

    name: str
    automatic: bool = False
    aliases: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why they may not approve."""
        return "last committer of the use case, on whose behalf an automatic run asks" if self.automatic else _STARTED


_STARTED = "started the run"


def requester_of(use_case: UseCaseSpec, started_by: str, *, settings: Settings) -> Requester:
    """Who asks: the person who started the run, else the last committer of the use case's file, else `system`."""
    if key_of(started_by) not in {"", SYSTEM}:
        return Requester(name=started_by)
    names = _last_committer(settings.dags / "use_cases" / f"{use_case.name}.yaml")
    return Requester(name=names[0] if names else SYSTEM, automatic=True, aliases=names[1:])


def barred(use_case: UseCaseSpec, requester: Requester) -> dict[str, str]:
    """Names that may not approve → why."""
    found = dict.fromkeys(use_case.owners, OWNER)
    found.setdefault(SYSTEM, "not a person")
    for name in (requester.name, *requester.aliases):
        found.setdefault(name, requester.reason)
    return found


def objection(use_case: UseCaseSpec, requester: Requester, name: str, approved: Sequence[str] = ()) -> str:
    """Why a person's approval does not count, as a sentence; "" where it does.

    Args:
        use_case: names its owners.
        requester: who asks.
        name: Airflow user name; other spellings of it are the same person.
        approved: people who have approved this request already.
    """
    if fault := fault_of(name):
        return fault
    for other, why in barred(use_case, requester).items():
        if same_person(name, other):
            return f"{name} may not approve: {why}"
    if any(same_person(name, other) for other in approved):
        return f"{name} has approved already, and one person counts once"
    return ""


def _last_committer(path: Path) -> list[str]:
    """Names and addresses of who last committed a file; none where git does not know it."""
    try:
        told = run_git(path.parent, _SECONDS, argv=["log", "-1", f"--format={_IDENTITY}", "--", path.name])
    except (OSError, subprocess.SubprocessError) as error:
        log.info("git says nothing about %s: %s", path, error)
        return []
    parts = [part.strip() for part in told.strip("\n").split("\0") if part.strip()]
    local = [part.partition("@")[0] for part in parts if "@" in part]
    # `12345+olive@users.noreply…` is a forge's private address of olive, `olive+work@…` one of her own.
    return list(dict.fromkeys([*parts, *local, *(piece for part in local for piece in part.split("+") if piece)]))
