from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.unit.step import store as stores
from tests.unit.step.store import Store
from tests.unit.step.test_logged_prediction import score

from millrace.settings import Settings
from millrace.step.prediction_lineage import trace_prediction


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    made = stores.make(tmp_path / "store", settings)
    made.clean()
    return made


def test_a_prediction_of_no_release_says_so_and_goes_no_further(store: Store) -> None:
    score(store.settings, "P1", 4, use_case="again")
    found = trace_prediction("P1", settings=store.settings)
    assert found.breaks == ["'again' has no release 4"]
    assert (found.release, found.evidence, found.sources) == ({}, {}, [])


def test_every_missing_link_is_named_and_what_is_there_is_told_beside(store: Store) -> None:
    score(store.settings, "P1", 1, use_case="again")
    score(store.settings, "P1", 1, role="shadow", use_case="again")
    store.release(package="a" * 64)
    found = trace_prediction("again/1/P1", settings=store.settings)
    told = "; ".join(found.breaks)
    for link in (
        "the log names package 000000000000, release 1 is of package aaaaaaaaaaaa",
        "nobody approved package aaaaaaaaaaaa on evidence eeeeeeeeeeee",
        "no passing verdict on evidence eeeeeeeeeeee",
        f"evidence eeeeeeeeeeee: no document '{'e' * 64}'",
        "package aaaaaaaaaaaa: ",
        "the features that were scored are not in again/scored_features/again_v1",
    ):
        assert link in told
    assert (found.release["version"], found.release["entry"], found.release["actor"]) == (1, 1, "admin")
    assert found.others == ["again/1/P1 (shadow)"]


def test_a_release_that_is_not_the_one_its_entry_made_is_named(store: Store) -> None:
    import sqlalchemy

    store.release()
    score(store.settings, "P1", 1, use_case="again")
    engine = sqlalchemy.create_engine(store.settings.state_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE release SET threshold = 0.9"))
    engine.dispose()
    found = trace_prediction("P1", settings=store.settings)
    assert "release 1 is not the one that ledger entry 1 made" in found.breaks
    assert dataclasses.asdict(found.prediction)["release"] == 1
