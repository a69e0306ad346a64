"""Isolated environments of this installation: what needs each, and sweeping those that nothing needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from millrace.artifact import iso
from millrace.governance.recipe import Recipe, find_recipes, load_text
from millrace.governance.release import Release, Releases
from millrace.settings import Settings
from millrace.spec import load_use_case
from millrace.spec.load import list_specs
from millrace.training.isolation.environment_store import (
    StoredEnvironment,
    list_environments,
    remove_environment,
    remove_leftovers,
)
from millrace.training.isolation.lock import canonical_lock, read_lock
from millrace.training.isolation.software import NO_DISTRIBUTION, lock_text

log = logging.getLogger(__name__)
_Needs = dict[str, list[str]]
"""Pins in their one form → what needs an environment of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentUse:
    """An environment, and what needs it.

    Attributes:
        stored: the environment.
        needed_by: candidates whose spec names its lock, and releases in force, or just before, that it rebuilds.
    """

    stored: StoredEnvironment
    needed_by: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        stored = self.stored
        return {
            "digest": stored.digest,
            "bytes": stored.size,
            "used_at": iso(stored.used_at),
            "held": stored.held,
            "needed_by": self.needed_by,
        }


def environments_folder(settings: Settings) -> Path:
    """Where the isolated environments of an installation lie."""
    return settings.var / "environments"


def list_uses(settings: Settings) -> list[EnvironmentUse]:
    """All environments with what needs them, the one used last first.

    Raises:
        SpecError: a use case or a lock cannot be read, so that nobody knows what it needs.
        DocumentError: a recipe cannot be read.
        StateUnavailableError: the state database does not answer.
    """
    stored = list_environments(environments_folder(settings))
    needs = _needs(settings) if stored else {}
    return [EnvironmentUse(stored=item, needed_by=needs.get(item.lock, [])) for item in stored]


def sweep_environments(
    settings: Settings, *, unused_for: timedelta, now: datetime, dry_run: bool = False
) -> list[EnvironmentUse]:
    """Take away the environments that nothing needs and nobody used for long, and what killed builds left.

    One that a spec names, or that rebuilds a release in force or its predecessor, stays; so does one in use. What was
    swept and is wanted again is built again.

    Args:
        settings: this installation.
        unused_for: how long nobody used them.
        now: the time.
        dry_run: whether they are only told.

    Returns:
        Those taken away, or that would be.

    Raises:
        SpecError, DocumentError, StateUnavailableError: as `list_uses`; nothing is taken away.
    """
    last = now - unused_for
    chosen = [use for use in list_uses(settings) if _idle(use, last)]
    if dry_run:
        return chosen
    remove_leftovers(environments_folder(settings))
    return [use for use in chosen if remove_environment(use.stored)]


def _idle(use: EnvironmentUse, last: datetime) -> bool:
    return not use.needed_by and not use.stored.held and use.stored.used_at <= last


def _needs(settings: Settings) -> _Needs:
    found: _Needs = {}
    for lock, whose in (*_of_specs(settings), *_of_releases(settings)):
        found.setdefault(canonical_lock(lock), []).append(whose)
    return {lock: list(dict.fromkeys(names)) for lock, names in found.items()}


def _of_specs(settings: Settings) -> Iterator[tuple[str, str]]:
    for name in list_specs(settings.dags, "use_cases"):
        for candidate, spec in load_use_case(settings.dags, name).candidates.items():
            if spec.environment:
                yield read_lock(settings.dags, spec.environment.lock), f"{name}.{candidate}"


def _of_releases(settings: Settings) -> Iterator[tuple[str, str]]:
    releases = Releases(settings)
    known = {release.use_case for found in releases.by_service().values() for release in found}
    for use_case in sorted(known):
        for release in _kept(releases, use_case):
            for recipe in find_recipes(release.package, settings):
                for lock in _locks(recipe, settings):
                    yield lock, f"{use_case} release {release.version}"


def _kept(releases: Releases, use_case: str) -> list[Release]:
    """The release in force and the one that it replaced."""
    current = releases.in_force(use_case)
    if current is None:
        return []
    return [current, *([releases.get(use_case, current.replaces)] if current.replaces else [])]


def _locks(recipe: Recipe, settings: Settings) -> list[str]:
    """What a rebuild by a recipe would build an environment of."""
    if recipe.isolated:
        return [load_text(recipe.lock, settings)]
    return [] if NO_DISTRIBUTION in recipe.libraries.values() else [lock_text(recipe.libraries)]
