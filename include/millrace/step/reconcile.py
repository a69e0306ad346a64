"""Reconciliation: what MLflow's aliases and the online service name is held against the ledger, and put back."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson

from millrace.artifact import PlainValue, ReleaseRef
from millrace.deployment.httpx_client import ServiceClient
from millrace.deployment.pointer import deploying, pointer_path
from millrace.errors import DeploymentError, PackageError, RegistryError
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.proof import InForce, prove_in_force
from millrace.governance.release import Releases
from millrace.governance.requester import SYSTEM
from millrace.governance.state import moment_of
from millrace.registry.base import CHALLENGER, CHAMPION
from millrace.registry.mlflow_alias import delete_alias, get_aliases, moving_aliases, set_alias
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec
from millrace.step.deployment import deploy_release, reference_of
from millrace.step.registry import newest_challenger

log = logging.getLogger(__name__)
POINTER = "pointer"
PENDING = timedelta(minutes=10)
"""For so long a rollback may be on its way to the online service before it counts as killed."""
_CORRECTED, _ROLLED_BACK = "alias_corrected", "rolled_back"
_NOTHING = "nothing"
_LONGEST = 80
"""Signs of a hand-written pointer that are repeated to people."""
_BOUND = ("release", "package", "package_dir", "threshold", "effective_at", "feature_service")
"""Fields of the pointer that a release binds; the others follow the specs of today at the next deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction(PlainValue):
    """Something that did not name what the ledger says.

    Attributes:
        alias: `champion` or `challenger` in MLflow, or `pointer` of the online service.
        found: what it named.
        wanted: what it has to name by the ledger.
        entry: number of the ledger entry that records it.
        rollback: number of the entry of a rollback that was never finished, where that is why; else 0.
        problem: why it could not be put back; "" where it was.
    """

    alias: str
    found: str
    wanted: str
    entry: int = 0
    rollback: int = 0
    problem: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        place = "the online service's pointer" if self.alias == POINTER else f"MLflow's alias {self.alias!r}"
        end = f"could not be put back: {self.problem}" if self.problem else "put back"
        if self.rollback:
            return (
                f"the rollback of entry {self.rollback} never reached the online service, whose pointer named "
                f"{self.found}; the ledger says {self.wanted} (entry {self.entry}): {end}"
            )
        return f"{place} named {self.found}, the ledger says {self.wanted} (entry {self.entry}): {end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileReport(PlainValue):
    """What a reconciliation found.

    Attributes:
        use_case: its use case.
        corrections: what named something else than the ledger, as `Correction` has it.
        alarms: a sentence for each that somebody must be told of.
        reasons: these, and what could not be looked at.
    """

    use_case: str
    corrections: list[dict[str, object]] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def reconcile_registry(
    use_case: UseCaseSpec, *, settings: Settings, key: str, actor: str = SYSTEM, at: datetime | None = None
) -> ReconcileReport:
    """Put back aliases and the pointer of the online service where they do not name what the ledger says.

    Each is first written to the ledger (`alias_corrected`), then put back. A rollback of a moment ago may be on its way
    to the online service: it is brought there and nobody is alarmed; one that was not brought there for `PENDING` was
    killed, and is finished and told. MLflow, or the online service, being away is named among the reasons and is no
    fault of this. What an earlier attempt under the same key noted is told again, as it may have died unheard.

    Args:
        use_case: its use case.
        settings: this installation.
        key: names this look, such as the id of an Airflow run; repeated, it records nothing twice.
        actor: who has it done.
        at: when it looks, by the clock; now by default.

    Raises:
        ReleaseRefusedError: the ledger does not prove what is in force; nothing is put back.
    """
    found = prove_in_force(use_case, settings=settings)
    look = _Look(use_case=use_case, settings=settings, key=key, actor=actor, at=at or datetime.now(UTC))
    seen = _Seen()
    look.see_aliases(seen)
    look.see_pointer(seen, found)
    corrections = [*look.noted_before(seen.corrections, seen.unseen), *seen.corrections]
    sentences = [*(item.sentence for item in corrections), *seen.broken]
    for sentence in sentences:
        log.warning("%s: %s", use_case.name, sentence)
    return ReconcileReport(
        use_case=use_case.name,
        corrections=[asdict(item) for item in corrections],
        alarms=sentences,
        reasons=[*sentences, *seen.unknown],
    )


@dataclass(slots=True)
class _Seen:
    """What one look found: corrections, and sentences on what is broken, pending or could not be looked at."""

    corrections: list[Correction] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look at what names releases."""

    use_case: UseCaseSpec
    settings: Settings
    key: str
    actor: str
    at: datetime

    def see_aliases(self, seen: _Seen) -> None:
        """Both aliases, put right."""
        try:
            seen.corrections += self.align_aliases()
        except RegistryError as error:
            seen.unknown.append(f"Aliases are not checked: {error.what}")
            seen.unseen |= {CHAMPION, CHALLENGER}

    def see_pointer(self, seen: _Seen, found: InForce | None) -> None:
        """The pointer of the online service and what it serves, put right."""
        try:
            pointed, told = self.align_pointer(found)
        except PackageError as error:
            seen.broken.append(f"The online service's pointer is not checked, a package is not whole: {error.what}")
            seen.unseen.add(POINTER)
        except (DeploymentError, OSError) as error:
            seen.unknown.append(f"The online service's pointer is not checked: {getattr(error, 'what', error)}")
            seen.unseen.add(POINTER)
        else:
            seen.corrections += pointed
            seen.unknown += told

    def align_aliases(self) -> list[Correction]:
        """Both aliases.

        Raises:
            RegistryError: MLflow does not answer, or refuses to.
        """
        corrections = []
        with moving_aliases(self.use_case.name, self.settings):
            found = prove_in_force(self.use_case, settings=self.settings)
            wanted = {
                CHAMPION: found.release.registry_version if found else 0,
                CHALLENGER: newest_challenger(Ledger(self.settings), self.use_case.name),
            }
            aliases = get_aliases(self.use_case.name, settings=self.settings)
            for alias, version in wanted.items():
                named = aliases.get(alias, 0)
                if named != version:
                    noted = self._note(alias, _version(named), _version(version), found)
                    corrections.append(_put_back(noted, partial(self._set, alias, version)))
        return corrections

    def align_pointer(self, found: InForce | None) -> tuple[list[Correction], list[str]]:
        """The pointer of the online service and what it serves; corrections, and sentences on what is pending."""
        path = pointer_path(self.settings.serving_dir, self.use_case.name)
        if found is None:
            told = f"The online service points at a release, the ledger knows of none: {path}"
            return [], [told] if path.exists() else []
        with deploying(self.settings.serving_dir, self.use_case.name):
            found = prove_in_force(self.use_case, settings=self.settings) or found
            wanted = reference_of(self.use_case, found.release, self.settings)
            named, was_deployed = _read(path), self._was_deployed(found)
        unfinished = not was_deployed and found.move.kind == _ROLLED_BACK
        differing = _differing(named, wanted)
        if not was_deployed and (not differing or self._is_last_deployed(named)):
            if not unfinished:
                return [], [f"Release {wanted.release} is in force and not deployed yet"]
            if abs(self.at - found.move.recorded_at) < PENDING:
                return [], [self._bring(found)]
        if was_deployed and not differing:
            return [], self._load_again(found)
        back = found.move.seq if unfinished else 0
        noted = self._note(POINTER, _named(named, differing), f"release {wanted.release}", found, rollback=back)
        return [_put_back(noted, partial(self._deploy, found))], []

    def _bring(self, found: InForce) -> str:
        """Deploy what a rollback of a moment ago put in force; whoever rolls back finds it done."""
        by = f"Release {found.release.version} is in force by the rollback of entry {found.move.seq}"
        try:
            self._deploy(found)
        except DeploymentError as error:
            return f"{by} and not served yet: {error.what}"
        return f"{by}, on its way to the online service: it is deployed"

    def noted_before(self, now: Collection[Correction], unseen: Collection[str]) -> list[Correction]:
        """What an earlier attempt under this key noted and does not differ any more, or was not looked at."""
        known = {item.entry for item in now}
        entries = Ledger(self.settings).entries(self.use_case.name, kinds=(_CORRECTED,))
        own = [entry for entry in entries if entry.key.rsplit("/", 2)[0] == self.key and entry.seq not in known]
        return [_correction(entry, "it cannot be looked at now" if entry.subject in unseen else "") for entry in own]

    def _load_again(self, found: InForce) -> list[str]:
        """The pointer is right: the service has to serve what it names."""
        client = ServiceClient(url=self.settings.serving_url, attempts=1, timeout_s=10.0)
        try:
            served = client.metadata(self.use_case.name)
            told = (served["versions"], served["parameters"].get("package"))
            if told == ([str(found.release.version)], found.release.package):
                return []
            self._deploy(found)
        except DeploymentError as error:
            return [f"What the online service serves is not known: {error.what}"]
        named = ", ".join(str(version) for version in told[0]) or _NOTHING
        return [f"The online service served release {named} and was told to load {found.release.version}"]

    def _deploy(self, found: InForce) -> None:
        deploy_release(self.use_case, found.release, settings=self.settings, actor=self.actor)

    def _set(self, alias: str, version: int) -> None:
        if version:
            set_alias(self.use_case.name, alias, version, settings=self.settings)
        else:
            delete_alias(self.use_case.name, alias, settings=self.settings)

    def _was_deployed(self, found: InForce) -> bool:
        entries = Ledger(self.settings).entries(self.use_case.name, kinds=("deployed",), subject=found.release.package)
        return any(entry.payload.get("put_in_force_by") == found.move.seq for entry in entries)

    def _is_last_deployed(self, named: dict[str, object]) -> bool:
        """Whether the pointer names what was deployed last, or nothing where nothing ever was."""
        entries = Ledger(self.settings).entries(self.use_case.name, kinds=("deployed",))
        if not entries:
            return not named
        release = Releases(self.settings).get(self.use_case, int(entries[-1].payload["version"]))
        return not _differing(named, reference_of(self.use_case, release, self.settings))

    def _note(self, alias: str, named: str, wanted: str, found: InForce | None, *, rollback: int = 0) -> Correction:
        """In the ledger before anything is put back, so that no kill in between hides it."""
        why = {"rollback": rollback} if rollback else {}
        said = hashlib.sha256(f"{named}/{wanted}/{rollback}".encode()).hexdigest()[:16]
        entry = Ledger(self.settings).append(
            _CORRECTED,
            use_case=self.use_case.name,
            subject=alias,
            effective_at=self._moment(found),
            actor=self.actor,
            payload={"alias": alias, "from": named, "to": wanted, **why},
            key=f"{self.key}/{alias}/{said}",
        )
        return _correction(entry)

    def _moment(self, found: InForce | None) -> datetime:
        """The newest instant in data time that anything was decided on."""
        newest = Ledger(self.settings).newest_effective(self.use_case.name)
        return newest or (found.move.effective_at if found else moment_of("1970-01-01T00:00:00Z"))


def _put_back(noted: Correction, act: Callable[[], object]) -> Correction:
    try:
        act()
    except (RegistryError, DeploymentError, PackageError) as error:
        return replace(noted, problem=error.what)
    return noted


def _correction(entry: Entry, problem: str = "") -> Correction:
    said = entry.payload
    return Correction(
        alias=said["alias"],
        found=said["from"],
        wanted=said["to"],
        entry=entry.seq,
        rollback=said.get("rollback", 0),
        problem=problem,
    )


def _version(number: int) -> str:
    return f"version {number}" if number else _NOTHING


def _read(path: Path) -> dict[str, object]:
    """The pointer as it lies there; empty where there is none, or nothing that can be read."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _differing(named: dict[str, object], wanted: ReleaseRef) -> list[str]:
    plain = wanted.to_dict()
    return [name for name in _BOUND if named.get(name) != plain[name]]


def _named(named: dict[str, object], differing: list[str]) -> str:
    if not named:
        return _NOTHING
    release = f"release {named.get('release')}"[:_LONGEST]
    if "release" in differing or not differing:
        return release
    return f"{release} with another {', '.join(differing)}"
