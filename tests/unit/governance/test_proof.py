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
from tests.unit.governance.proposal import digest, record_proven

from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Ledger
from millrace.governance.proof import prove_in_force, prove_release, require_evidence
from millrace.governance.provenance import as_of
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
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
        ("UPDATE release SET package = 'evil' WHERE version = 1", "not the one that entry 4 made"),
        ("UPDATE release SET threshold = 0.1 WHERE version = 1", "not the one that entry 4 made"),
        ("UPDATE release SET evidence = 'ee' WHERE version = 1", "not the one that entry 4 made"),
        ("UPDATE release SET ledger_seq = 3 WHERE version = 1", "not the one that entry 3 made"),
        ("UPDATE release SET ledger_seq = 99 WHERE version = 1", "entry 99: missing"),
        ("UPDATE ledger SET payload = replace(payload, '0.5', '0.1') WHERE seq = 4", "broken at entry 4"),
        ("UPDATE ledger SET actor = 'olive' WHERE seq = 3", "broken at entry 3"),
        ("UPDATE ledger SET subject = 'another' WHERE seq = 1", "broken at entry 1"),
        ("UPDATE ledger SET hash = previous WHERE seq = 2", "broken at entry 2"),
        ("UPDATE ledger SET actor = CAST(x'ff6d' AS TEXT) WHERE seq = 2", "broken at entry 2"),
        ("UPDATE ledger_head SET hash = 'ff'", "broken at entry 4: the head does not name it"),
        ("DELETE FROM ledger WHERE seq = 1", "1 entries of the ledger are missing"),
        ("DELETE FROM ledger WHERE seq = 4", "1 entries of the ledger are missing"),
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
        ({"verdict": 77, "registered": 2, "approvals": [3]}, "entry 77: missing"),
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


@pytest.mark.parametrize("name", ["package", "reference", "holdout", "feature_service", "champion", "use_case"])
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
