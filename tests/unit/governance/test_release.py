from __future__ import annotations

import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tests.unit.governance.proposal import digest

from millrace.errors import ReleaseRefusedError
from millrace.governance.ledger import Ledger, lock_head
from millrace.governance.provenance import as_of
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.settings import Settings

T = datetime(2013, 1, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def add(settings: Settings, use_case: str, version: int, at: datetime, replaces: int = 0) -> Release:
    release = Release(
        use_case=use_case,
        version=version,
        package=digest(f"package {version}"),
        candidate="xgboost",
        trainer="xgboost",
        trained_through="2013-01",
        holdout="2013-02",
        effective_at=at.isoformat().replace("+00:00", "Z"),
        evidence=digest(f"evidence {version}"),
        policy=digest("policy"),
        feature_service="service_v1",
        threshold=0.5,
        reference=digest("reference"),
        registry_version=version,
        replaces=replaces,
    )
    with writing(settings) as connection:
        lock_head(connection)
        Releases(settings).add(release, actor="admin", note={}, connection=connection)
    return release


def roll_back(settings: Settings, use_case: str, version: int, at: datetime, key: str) -> None:
    Ledger(settings).append(
        "rolled_back",
        use_case=use_case,
        subject=digest(f"package {version}"),
        effective_at=at,
        actor="oncall",
        payload={"version": version},
        key=key,
    )


def version(release: Release | None) -> int:
    return release.version if release else 0


def test_a_release_is_in_force_from_its_instant_on_and_not_before_it(settings: Settings) -> None:
    releases = Releases(settings)
    assert releases.in_force("u") is None
    first, second = add(settings, "u", 1, T), add(settings, "u", 2, T + DAY)
    assert version(releases.in_force("u", T - timedelta(microseconds=1))) == 0
    assert releases.in_force("u", T) == first
    assert releases.in_force("u", T + DAY) == second == releases.in_force("u")
    assert releases.first("u") == first
    assert releases.list("u") == [first, second]
    assert releases.in_force("another") is None


def test_of_two_decisions_at_one_instant_the_later_written_wins(settings: Settings) -> None:
    releases = Releases(settings)
    add(settings, "u", 1, T)
    add(settings, "u", 2, T + DAY)
    roll_back(settings, "u", 1, T + DAY, "a")
    assert version(releases.in_force("u", T + DAY)) == 1
    add(settings, "u", 3, T + DAY)
    assert version(releases.in_force("u")) == 3
    roll_back(settings, "u", 2, T + DAY, "b")
    assert version(releases.in_force("u")) == 2


def test_an_earlier_instant_released_late_does_not_displace_what_came_after(settings: Settings) -> None:
    add(settings, "u", 1, T)
    add(settings, "u", 2, T + 2 * DAY)
    add(settings, "u", 3, T + DAY)
    releases = Releases(settings)
    assert version(releases.in_force("u")) == 2
    assert version(releases.in_force("u", T + DAY)) == 3


def test_a_run_evaluated_again_finds_the_champion_it_found_the_first_time(settings: Settings) -> None:
    releases = Releases(settings)
    add(settings, "u", 1, T)
    assert version(releases.champion_for("u", T + DAY, [digest("package 2")])) == 1
    add(settings, "u", 2, T + DAY)
    roll_back(settings, "u", 1, T + DAY, "a")
    add(settings, "u", 3, T + DAY)
    assert version(releases.champion_for("u", T + DAY, [digest("package 2"), digest("other")])) == 1
    assert version(releases.champion_for("u", T + DAY, [digest("package 3")])) == 1
    assert version(releases.champion_for("u", T + DAY, [digest("other")])) == 3
    assert version(releases.champion_for("u", T, [digest("package 1")])) == 0


def test_a_rollback_counts_for_the_next_comparison_at_the_same_instant(settings: Settings) -> None:
    add(settings, "u", 1, T)
    add(settings, "u", 2, T + DAY)
    roll_back(settings, "u", 1, T + 2 * DAY, "a")
    assert version(Releases(settings).champion_for("u", T + 2 * DAY)) == 1


MOVES = st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=8)


@examples(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_what_is_in_force_is_the_last_move_by_instant_then_order(
    settings: Settings, moves: list[tuple[bool, int, int]]
) -> None:
    use_case = f"u{uuid.uuid4().hex}"
    done: list[tuple[datetime, int, int]] = []
    made = 0
    for order, (is_release, days, drawn) in enumerate(moves):
        at = T + days * DAY
        if is_release or not made:
            made += 1
            add(settings, use_case, made, at)
            done.append((at, order, made))
        else:
            target = 1 + drawn % made
            roll_back(settings, use_case, target, at, str(order))
            done.append((at, order, target))
    releases = Releases(settings)
    for days in range(4):
        at = T + days * DAY
        assert version(releases.in_force(use_case, at)) == max((m for m in done if m[0] <= at), default=(0, 0, 0))[2]
    assert version(releases.in_force(use_case)) == max(done)[2]


def test_a_release_that_was_never_made_is_refused_with_a_list_of_those_there_are(settings: Settings) -> None:
    add(settings, "u", 1, T)
    with pytest.raises(ReleaseRefusedError, match=r"no release 7") as caught:
        Releases(settings).get("u", 7)
    assert "1 (xgboost, from 2013-01-01)" in caught.value.remedy


def test_a_release_changed_behind_the_ledgers_back_is_named(settings: Settings) -> None:
    add(settings, "u", 1, T)
    second = add(settings, "u", 2, T + DAY)
    assert Ledger(settings).verify().verified
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE release SET package = 'evil' WHERE version = 2")
    connection.commit()
    connection.close()
    report = Ledger(settings).verify()
    assert report.broken is not None
    assert (report.broken.seq, second.version) == (2, 2)
    assert "release 2 of u" in report.broken.reason


@pytest.mark.parametrize("instant", ["soon", "2013-01-02T05:00:00Z"])
def test_a_release_whose_instant_was_changed_is_named(settings: Settings, instant: str) -> None:
    add(settings, "u", 1, T)
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    connection.execute(f"UPDATE release SET effective_at = '{instant}'")
    connection.commit()
    connection.close()
    report = Ledger(settings).verify()
    assert report.broken is not None and report.broken.seq == 1


def test_a_release_removed_behind_the_ledgers_back_is_named(settings: Settings) -> None:
    add(settings, "u", 1, T)
    add(settings, "u", 2, T + DAY)
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    connection.execute("DELETE FROM release WHERE version = 2")
    connection.commit()
    connection.close()
    report = Ledger(settings).verify()
    assert report.broken is not None
    assert (report.verified, report.broken.seq) == (False, 2)
    assert "is gone" in report.broken.reason


def test_releases_survive_the_way_through_xcom(settings: Settings) -> None:
    release = add(settings, "u", 1, T)
    assert Release.from_dict(release.to_dict()) == release == Releases(settings).get("u", 1)


def test_as_of_reads_data_time_or_wall_time(settings: Settings) -> None:
    add(settings, "u", 1, T)
    written = Ledger(settings).entries()[0].recorded_at
    add(settings, "u", 2, T + DAY)
    assert version(as_of("u", T, settings=settings).release) == 1
    assert version(as_of("u", T - DAY, settings=settings).release) == 0
    assert version(as_of("u", written, settings=settings, recorded=True).release) == 1
    assert version(as_of("u", written - timedelta(microseconds=1), settings=settings, recorded=True).release) == 0
