"""Proof: what has to stand in the ledger and on disk before a release is made or serves, whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from millrace.document import load_document
from millrace.errors import DocumentError, LedgerError, ReleaseRefusedError
from millrace.governance.audit import require_whole
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.person import different_people
from millrace.governance.policy import policy_folder
from millrace.governance.release import Release, Releases, UseCase, name_of
from millrace.governance.state import RELEASE, reading
from millrace.settings import Settings

_REMEDY = "deploy another release, or restore the state database; `millrace ledger verify` checks all entries"
_SAME = (
    "use_case",
    "package",
    "candidate",
    "trainer",
    "trained_through",
    "policy",
    "reference",
    "holdout",
    "feature_service",
)
"""What a release says as its evidence does."""
_GATES, _REGISTERED, _APPROVED, _RELEASED = "gates_evaluated", "registered", "approved", "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The entries that a release stands on, in a ledger that is whole.

    Attributes:
        released: the release itself.
        verdict: the gates' pass on its evidence.
        registered: its version in the registry.
        approvals: who allowed it.
    """

    released: Entry
    verdict: Entry
    registered: Entry
    approvals: list[Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A proven release, and the entry that put it in force: its own, or a rollback to it."""

    release: Release
    move: Entry


def bundle_folder(settings: Settings) -> Path:
    """Where bundles of evidence lie by their digest, model cards beside them."""
    return settings.var / "evidence"


def require_evidence(digest: str, claims: Mapping[str, Any], *, settings: Settings, where: str) -> dict[str, Any]:
    """The evidence bundle under a digest, once it says what is claimed of it.

    Args:
        digest: sha256 of the bundle.
        claims: some of `use_case`, `use_case_digest`, `package`, `candidate`, `trainer`, `trained_through`, `policy`,
            `reference`, `champion` (version of the release it compares with, 0 for none), `holdout` and
            `feature_service`.
        settings: this installation.
        where: what is refused, for people.

    Raises:
        ReleaseRefusedError: there is no such bundle, its bytes have another digest, or it says something else.
    """
    try:
        found: dict[str, Any] = load_document(bundle_folder(settings), digest)
        said = _said(found)
    except (DocumentError, KeyError, TypeError, AttributeError, StopIteration) as error:
        what = error.what if isinstance(error, DocumentError) else "it is no bundle"
        raise ReleaseRefusedError(
            f"the evidence {digest[:12] or '(none)'} cannot be had: {what}",
            where=where,
            remedy="restore `evidence/` from a backup or from the artifacts of the registered model, else evaluate "
            "the candidates again",
        ) from error
    for name, claimed in claims.items():
        if said[name] != claimed:
            told = f"{name.replace('_', ' ')} {_short(said[name])}, not {_short(claimed)}"
            raise ReleaseRefusedError(
                f"the evidence {digest[:12]} is for {told}",
                where=where,
                remedy="evaluate the candidates again; what was judged is what is released",
            )
    return found


def prove_in_force(
    use_case: UseCase, at: datetime | None = None, *, settings: Settings, connection: Connection | None = None
) -> InForce | None:
    """The release in force, at an instant of data time where one is given, once all behind it is proven.

    The whole ledger is checked: a later decision that was hidden would leave no trace beside the ones that are found.

    Raises:
        ReleaseRefusedError: an entry of the ledger is gone or was changed, or the release is not proven.
    """
    if connection is None:
        with reading(settings) as reader:
            return prove_in_force(use_case, at, settings=settings, connection=reader)
    where, releases = f"ledger of {name_of(use_case)}", Releases(settings)
    require_whole_ledger(connection, where)
    try:
        move = releases.move(use_case, at, connection=connection)
        if move is None:
            return None
        release = releases.get(use_case, int(move.payload["version"]), connection=connection)
    except LedgerError as error:
        raise _refused(f"the ledger is broken at {error.what}", where) from error
    proof = prove_in_whole(release, settings=settings, connection=connection)
    if move.subject != release.package or (move.kind == _RELEASED and move != proof.released):
        raise _refused(f"entry {move.seq} is about another package than release {release.version}", where)
    return InForce(release=release, move=move)


def prove_release(release: Release, *, settings: Settings, connection: Connection | None = None) -> Proof:
    """Hold a release against its ledger entry, and that against verdict, approvals, evidence and policy.

    Raises:
        ReleaseRefusedError: any row of the ledger was changed, or one of these is missing or is about something else.
    """
    if connection is None:
        with reading(settings) as reader:
            return prove_release(release, settings=settings, connection=reader)
    require_whole_ledger(connection, f"release {release.version} of {release.use_case}")
    return prove_in_whole(release, settings=settings, connection=connection)


def require_whole_ledger(connection: Connection, where: str) -> None:
    """Every entry is as it was written.

    Raises:
        ReleaseRefusedError: one is not; names the first.
    """
    try:
        require_whole(connection)
    except LedgerError as error:
        raise _refused(f"the ledger is broken at {error.what}", where) from error


def prove_in_whole(release: Release, *, settings: Settings, connection: Connection) -> Proof:
    """`prove_release` in a transaction that has found the ledger whole.

    Raises:
        ReleaseRefusedError: the release's row was changed, or what it stands on is missing or about something else.
    """
    where = f"release {release.version} of {release.use_case}"
    ledger = Ledger(settings)
    released = _own_entry(release, ledger, connection, where)
    named = released.payload
    try:
        entries = [_entry(ledger, int(seq), connection, where) for seq in (named["verdict"], named["registered"])]
        approvals = [_entry(ledger, int(seq), connection, where) for seq in named["approvals"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(f"entry {released.seq} names no verdict, registration and approvals", where) from error
    verdict, registered = entries
    _require_about(release, _GATES, [verdict], where)
    _require_about(release, _REGISTERED, [registered], where)
    _require_about(release, _APPROVED, approvals, where)
    if verdict.payload.get("outcome") != "pass":
        raise _refused(f"entry {verdict.seq}: the verdict is {verdict.payload.get('outcome')!r}", where)
    if registered.payload.get("version") != release.registry_version:
        raise _refused(f"entry {registered.seq} registered another version than {release.registry_version}", where)
    evidence = require_evidence(
        release.evidence,
        {
            **{name: getattr(release, name) for name in _SAME},
            "champion": release.replaces,
        },
        settings=settings,
        where=where,
    )
    _require_people(released, release.policy, approvals, evidence.get("owners", []), settings=settings, where=where)
    return Proof(released=released, verdict=verdict, registered=registered, approvals=approvals)


def _own_entry(release: Release, ledger: Ledger, connection: Connection, where: str) -> Entry:
    """The entry that made a release, as its row says."""
    row = select(RELEASE.c.ledger_seq).where(
        RELEASE.c.use_case == release.use_case, RELEASE.c.version == release.version
    )
    seq = connection.execute(row).scalar()
    if seq is None:
        raise _refused("the ledger has no such release", where)
    entry = _entry(ledger, seq, connection, where)
    if entry.kind != _RELEASED or entry.payload.get("release") != release.to_dict():
        raise _refused(f"it is not the one that entry {entry.seq} made", where)
    return entry


def _entry(ledger: Ledger, seq: int, connection: Connection, where: str) -> Entry:
    try:
        return ledger.get(seq, connection=connection)
    except LedgerError as error:
        raise _refused(f"the ledger is broken at {error.what}", where) from error


def _require_about(release: Release, kind: str, entries: Sequence[Entry], where: str) -> None:
    """Each entry is of that kind and about this package, on this evidence, under this policy."""
    wanted = (kind, release.use_case, release.package, release.evidence, release.policy)
    for entry in entries:
        found = (entry.kind, entry.use_case, entry.subject, *(entry.payload.get(n) for n in ("evidence", "policy")))
        if found != wanted:
            raise _refused(f"entry {entry.seq} ({entry.kind}) is not the {kind} of its package and evidence", where)


def _require_people(
    released: Entry, policy: str, approvals: Sequence[Entry], owners: Sequence[str], *, settings: Settings, where: str
) -> None:
    """As many different people as the policy asks for in the run that released it, or the policy's own leave."""
    try:
        asked = int(load_document(policy_folder(settings), policy)["approvals"])
    except (DocumentError, KeyError, TypeError, ValueError) as error:
        raise ReleaseRefusedError(
            f"policy {policy[:12]} cannot be had: {error}",
            where=where,
            remedy="restore `policies/` of the installation from a backup",
        ) from error
    given = [entry for entry in approvals if entry.payload.get("by") == ("person" if asked else "policy")]
    if asked:
        run = released.payload.get("run")
        given = [entry for entry in given if run and entry.payload.get("run") == run]
    given = different_people(given, [*owners, str(released.payload.get("requested_by", ""))])
    if len(given) < max(asked, 1):
        raise _refused(f"{len(given)} of {max(asked, 1)} approvals stand in the ledger", where)


def _said(bundle: Mapping[str, Any]) -> dict[str, Any]:
    challenger = next(item for item in bundle["candidates"] if item["name"] == bundle["challenger"])
    plain = {name: bundle[name] for name in ("use_case", "use_case_digest", "policy", "reference", "feature_service")}
    return {
        **plain,
        "candidate": challenger["name"],
        **{name: challenger[name] for name in ("package", "trainer", "trained_through")},
        "champion": bundle["versus_champion"]["release"],
        "holdout": bundle["time"]["holdout"],
    }


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text or "(none)"


def _refused(what: str, where: str) -> ReleaseRefusedError:
    return ReleaseRefusedError(what, where=where, remedy=_REMEDY)
