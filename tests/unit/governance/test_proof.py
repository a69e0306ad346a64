from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.unit.governance.proposal import digest, record_proven

from millrace.document import store_document
from millrace.errors import ReleaseRefusedError
from millrace.governance.chain import link
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.proof import _require_people, prove_in_force, prove_release, require_evidence
from millrace.governance.provenance import as_of
from millrace.governance.release import Release, Releases
from millrace.governance.state import LEDGER, writing
from millrace.settings import Settings

T = datetime(2013, 4, 1, 4, tzinfo=UTC)


def make(settings: Settings, version: int = 1, **changes: Any) -> Release:
    plain = {
        "use_case": "flight_delay",
        "version": version,
        "package": digest(f"package {version}"),
        "candidate": "xgboost",
        "trainer": "xgboost",
        "trained_through": "2013-02",
        "holdout": "2013-03",
        "effective_at": (T + timedelta(days=30 * version)).isoformat().replace("+00:00", "Z"),
        "evidence": "",
        "policy": "",
        "feature_service": "service_v1",
        "threshold": 0.5,
        "reference": digest("reference"),
        "registry_version": version,
        "replaces": version - 1,
    }
    return record_proven(settings, Release(**{**plain, **changes}))


def tamper(settings: Settings, *statements: str) -> None:
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    for statement in statements:
        assert connection.execute(statement).rowcount, statement
    connection.commit()
    connection.close()


def rewrite(settings: Settings, release: Release, **changes: Any) -> str:
    """The evidence of a release with other words in it; its digest."""
    folder = settings.var / "evidence"
    plain = json.loads((folder / f"{release.evidence}.json").read_text())
    plain.update(changes)
    (folder / f"{release.evidence}.json").write_text(json.dumps(plain))
    return release.evidence


def test_a_release_with_all_that_belongs_to_it_is_proven(settings: Settings) -> None:
    first, second = make(settings), make(settings, 2)
    proof = prove_release(second, settings=settings)
    assert [proof.verdict.seq, proof.registered.seq, proof.approvals[0].seq, proof.released.seq] == [5, 6, 7, 8]
    found = prove_in_force("flight_delay", settings=settings)
    assert found is not None and (found.release, found.move) == (second, proof.released)
    early = prove_in_force("flight_delay", T + timedelta(days=30), settings=settings)
    assert early is not None and early.release == first
    assert prove_in_force("flight_delay", T, settings=settings) is None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE release SET package = 'evil' WHERE version = 1", "broken at entry 4: release 1"),
        ("UPDATE release SET threshold = 0.1 WHERE version = 1", "broken at entry 4: release 1"),
        ("UPDATE release SET evidence = 'ee' WHERE version = 1", "broken at entry 4: release 1"),
        ("UPDATE release SET ledger_seq = 3 WHERE version = 1", "broken at entry 3: release 1"),
        ("UPDATE release SET ledger_seq = 99 WHERE version = 1", "broken at entry 99: release 1"),
        ("UPDATE ledger SET payload = replace(payload, '0.5', '0.1') WHERE seq = 4", "broken at entry 4"),
        ("UPDATE ledger SET actor = 'olive' WHERE seq = 3", "broken at entry 3"),
        ("UPDATE ledger SET subject = 'another' WHERE seq = 1", "broken at entry 1"),
        ("UPDATE ledger SET hash = previous WHERE seq = 2", "broken at entry 2"),
        ("UPDATE ledger SET actor = CAST(x'ff6d' AS TEXT) WHERE seq = 2", "broken at entry 2"),
        ("UPDATE ledger_head SET hash = 'ff'", "broken at entry 5: missing, or the head was changed"),
        ("DELETE FROM ledger WHERE seq = 1", "broken at entry 1: missing"),
        ("DELETE FROM ledger WHERE seq = 4", "broken at entry 4: missing"),
    ],
)
def test_a_row_that_was_changed_or_taken_out_proves_nothing(settings: Settings, statement: str, said: str) -> None:
    make(settings)
    tamper(settings, statement)
    with pytest.raises(ReleaseRefusedError, match=said):
        prove_in_force("flight_delay", settings=settings)


def test_a_rollback_that_was_pointed_elsewhere_behind_the_ledgers_back_is_refused(settings: Settings) -> None:
    first = make(settings)
    make(settings, 2)
    entry = Ledger(settings).append(
        "rolled_back",
        use_case="flight_delay",
        subject=first.package,
        effective_at=T + timedelta(days=90),
        actor="oncall",
        payload={"version": 1},
    )
    found = prove_in_force("flight_delay", settings=settings)
    assert found is not None and (found.release.version, found.move) == (1, entry)
    tamper(settings, f"UPDATE ledger SET payload = '{{\"version\":2}}' WHERE seq = {entry.seq}")
    with pytest.raises(ReleaseRefusedError, match="broken at entry 9"):
        prove_in_force("flight_delay", settings=settings)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET kind = 'waiver' WHERE kind = 'rolled_back'",
        "UPDATE ledger SET use_case = 'another' WHERE kind = 'rolled_back'",
        "UPDATE ledger SET effective_at = '2012-01-01T00:00:00.000000Z' WHERE kind = 'rolled_back'",
    ],
)
def test_a_later_decision_that_was_hidden_puts_nothing_earlier_back_in_force(
    settings: Settings, statement: str
) -> None:
    first, second = make(settings), make(settings, 2)
    for kind, release in (("deployed", second), ("rolled_back", first), ("deployed", first)):
        Ledger(settings).append(
            kind,
            use_case="flight_delay",
            subject=release.package,
            effective_at=T + timedelta(days=90),
            actor="oncall",
            payload={"version": release.version},
            key=f"{kind} {Ledger(settings).head()}",
        )
    tamper(settings, statement)
    with pytest.raises(ReleaseRefusedError, match="broken at entry 10"):
        prove_in_force("flight_delay", settings=settings)
    with pytest.raises(ReleaseRefusedError, match="broken at entry 10"):
        prove_release(second, settings=settings)


def rehashed(settings: Settings, seq: int, **changes: Any) -> None:
    """Rewrite an entry, and link it and the next one as a chain is linked."""
    with writing(settings) as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(LEDGER).order_by(LEDGER.c.seq))]
        forged, follower = rows[seq - 1], rows[seq]
        forged |= changes
        forged["hash"] = follower["previous"] = link(forged["previous"], forged)
        follower["hash"] = link(follower["previous"], follower)
        for row in (forged, follower):
            connection.execute(update(LEDGER).where(LEDGER.c.seq == row["seq"]).values(row))


def test_an_entry_that_was_forged_with_its_link_to_the_next_one_proves_nothing(settings: Settings) -> None:
    release = make(settings)
    make(settings, 2)
    rehashed(settings, 4, actor="admin")
    with pytest.raises(ReleaseRefusedError, match="broken at entry 6"):
        prove_release(release, settings=settings)


@pytest.mark.parametrize(
    ("actors", "counted"),
    [
        (("Bob", "bob"), 1),
        (("Jose\u0301", "Jos\u00e9"), 1),
        (("Olive", "bob"), 1),
        (("Rita ", "bob"), 1),
        (("ann", "bob"), 2),
    ],
)
def test_a_release_is_proven_by_different_people_and_none_who_asked_for_it(
    settings: Settings, actors: tuple[str, str], counted: int
) -> None:
    release, released, approvals = approved(settings, actors, run="run 1")
    if counted == 2:
        _require_people(released, release.policy, approvals, ["olive"], settings=settings, where="a test")
        with pytest.raises(ReleaseRefusedError, match="0 of 2"):
            other = dataclasses.replace(released, payload={**released.payload, "run": "run 2"})
            _require_people(other, release.policy, approvals, ["olive"], settings=settings, where="a test")
        return
    with pytest.raises(ReleaseRefusedError, match="1 of 2 approvals"):
        _require_people(released, release.policy, approvals, ["olive"], settings=settings, where="a test")


def approved(settings: Settings, actors: tuple[str, ...], run: str) -> tuple[Release, Entry, list[Entry]]:
    """A release under a policy of two people, what released it for rita, and what these actors said."""
    policy = store_document(settings.var / "policies", {"tier": "high", "approvals": 2})
    release = dataclasses.replace(make(settings), policy=policy)

    def note(kind: str, actor: str, **payload: Any) -> Entry:
        return Ledger(settings).append(
            kind,
            use_case="flight_delay",
            subject=release.package,
            effective_at=T,
            actor=actor,
            payload=payload,
            key=actor,
        )

    said = [note("approved", actor, by="person", run=run) for actor in actors]
    return release, note("released", "system", run=run, requested_by="rita"), said


def test_a_rollback_whose_version_is_not_of_its_package_is_refused(settings: Settings) -> None:
    make(settings)
    Ledger(settings).append(
        "rolled_back",
        use_case="flight_delay",
        subject=digest("another"),
        effective_at=T + timedelta(days=90),
        actor="oncall",
        payload={"version": 1},
    )
    with pytest.raises(ReleaseRefusedError, match="about another package"):
        prove_in_force("flight_delay", settings=settings)


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ({}, "names no verdict, registration and approvals"),
        ({"verdict": 1, "registered": 2, "approvals": []}, "0 of 1 approvals"),
        ({"verdict": 2, "registered": 2, "approvals": [3]}, "entry 2 .registered. is not the gates_evaluated"),
        ({"verdict": 1, "registered": 1, "approvals": [3]}, "entry 1 .gates_evaluated. is not the registered"),
        ({"verdict": 1, "registered": 2, "approvals": [1]}, "entry 1 .gates_evaluated. is not the approved"),
        ({"verdict": 77, "registered": 2, "approvals": [3]}, "no entry 77"),
        ({"verdict": "x", "registered": 2, "approvals": [3]}, "names no verdict"),
    ],
)
def test_a_release_written_past_the_steps_proves_nothing(settings: Settings, note: dict[str, Any], said: str) -> None:
    first = make(settings)
    forged = dataclasses.replace(first, version=2, effective_at="2013-08-01T04:00:00Z")
    with writing(settings) as connection:
        Releases(settings).add(forged, actor="admin", note=note, connection=connection)
    assert Ledger(settings).verify().verified
    with pytest.raises(ReleaseRefusedError, match=said):
        prove_in_force("flight_delay", settings=settings)


def gone(settings: Settings, release: Release) -> None:
    (settings.var / "evidence" / f"{release.evidence}.json").unlink()


def cut(settings: Settings, release: Release) -> None:
    path = settings.var / "evidence" / f"{release.evidence}.json"
    path.write_bytes(path.read_bytes()[:-1])


def without_policy(settings: Settings, release: Release) -> None:
    shutil.rmtree(settings.var / "policies")


def milder_policy(settings: Settings, release: Release) -> None:
    (settings.var / "policies" / f"{release.policy}.json").write_text('{"approvals": 0, "tier": "mild"}')


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (gone, "evidence .* cannot be had: no document"),
        (cut, "evidence .* cannot be had: the bytes of document"),
        (without_policy, "policy .* cannot be had"),
        (milder_policy, "policy .* cannot be had"),
    ],
)
def test_evidence_or_policy_that_is_gone_or_changed_proves_nothing(
    settings: Settings, spoil: Callable[[Settings, Release], None], said: str
) -> None:
    release = make(settings)
    spoil(settings, release)
    with pytest.raises(ReleaseRefusedError, match=said):
        prove_release(release, settings=settings)
    assert as_of("flight_delay", T + timedelta(days=40), settings=settings).fault


@pytest.mark.parametrize(
    "name",
    [
        "package",
        "candidate",
        "trainer",
        "trained_through",
        "reference",
        "holdout",
        "feature_service",
        "champion",
        "use_case",
    ],
)
def test_evidence_about_something_else_is_named_with_what_it_is_about(settings: Settings, name: str) -> None:
    release = make(settings)
    with pytest.raises(ReleaseRefusedError, match=f"is for {name.replace('_', ' ')} .*, not other"):
        require_evidence(release.evidence, {name: "other"}, settings=settings, where="a test")


def test_a_document_that_is_no_bundle_is_refused(settings: Settings, tmp_path: Path) -> None:
    content = b'{"use_case":"flight_delay"}'
    (settings.var / "evidence").mkdir()
    import hashlib

    named = hashlib.sha256(content).hexdigest()
    (settings.var / "evidence" / f"{named}.json").write_bytes(content)
    with pytest.raises(ReleaseRefusedError, match="it is no bundle"):
        require_evidence(named, {}, settings=settings, where="a test")


def test_an_owner_who_approved_is_not_counted(settings: Settings) -> None:
    release = make(settings)
    assert prove_release(release, settings=settings).approvals[0].actor == "policy:test"
    own = Release.from_dict({**release.to_dict(), "version": 2, "effective_at": "2013-09-01T04:00:00Z"})
    with pytest.raises(ReleaseRefusedError, match="0 of 1 approvals"):
        prove_release(record_proven(settings, own, owners=["policy:test"]), settings=settings)


def test_as_of_says_who_put_it_in_force_and_whether_it_is_proven(settings: Settings) -> None:
    first = make(settings)
    (settings.var / "evidence" / f"{first.evidence}.html").write_text("A card.")
    make(settings, 2)
    Ledger(settings).append(
        "rolled_back",
        use_case="flight_delay",
        subject=first.package,
        effective_at=T + timedelta(days=90),
        actor="oncall",
        payload={"version": 1, "reason": "slow"},
    )
    before = as_of("flight_delay", T + timedelta(days=31), settings=settings)
    assert before.move is not None and before.verdict is not None
    assert (before.move.kind, before.verdict.payload["outcome"], before.fault) == ("released", "pass", "")
    assert before.card == settings.var / "evidence" / f"{first.evidence}.html"
    after = as_of("flight_delay", T + timedelta(days=91), settings=settings)
    assert after.release == first and after.move is not None
    assert (after.move.kind, after.move.actor, after.move.payload["reason"]) == ("rolled_back", "oncall", "slow")
    told = after.to_dict()
    assert (told["proven"], told["approvers"], told["in_force_by"]["actor"]) == (True, ["policy:test"], "oncall")


def test_as_of_names_nobody_whose_approval_counted_for_nothing(settings: Settings) -> None:
    release = make(settings)
    Ledger(settings).append(
        "approved",
        use_case="flight_delay",
        subject=release.package,
        effective_at=T,
        actor="olive",
        payload={"by": "person", "evidence": release.evidence, "policy": release.policy, "run": "a run before"},
    )
    assert as_of("flight_delay", T + timedelta(days=40), settings=settings).approvers == ["policy:test"]
