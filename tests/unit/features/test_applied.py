from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests import postgres_server

from millrace.errors import FeatureError, StateUnavailableError
from millrace.features.applied import applied_definitions, applied_digests, apply_lock, record_applied, revision


def _hold(url: str, log: str) -> None:
    with apply_lock(url):
        with Path(log).open("a") as handle:
            handle.write("in\n")
            handle.flush()
            time.sleep(0.15)
            handle.write("out\n")


def test_nothing_is_there_before_anything_was_applied_and_what_was_is_read_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'registry.db'}"
    assert (applied_digests(url), applied_definitions(url), revision(url)) == ({}, {}, 0)
    first = {"table:one": {"logic": {"text": "SELECT 1"}}, "service:one": {"meta": {"owners": ["a"]}}}
    assert record_applied(url, first, [], digest="p1") == 1
    assert record_applied(url, {"table:one": {"logic": {"text": "SELECT 2"}}}, ["service:one"], digest="p2") == 2
    assert applied_definitions(url) == {"table:one": {"logic": {"text": "SELECT 2"}}}
    assert list(applied_digests(url)) == ["table:one"]
    assert revision(url) == 2


def test_the_digest_of_a_definition_is_that_of_its_content(tmp_path: Path) -> None:
    from millrace.artifact import digest_of

    url = f"sqlite:///{tmp_path / 'registry.db'}"
    record_applied(url, {"table:one": {"b": 1, "a": 2}}, [], digest="p")
    assert applied_digests(url) == {"table:one": digest_of({"a": 2, "b": 1})}


def test_a_registry_that_is_away_is_told_apart_from_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailableError, match="does not answer") as caught:
        applied_digests("postgresql+psycopg2://me:secret@127.0.0.1:1/millrace")
    assert "secret" not in str(caught.value)


def test_a_registry_that_goes_away_inside_an_apply_is_told_in_words() -> None:
    with postgres_server.serve() as url:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with pytest.raises(StateUnavailableError, match="broke off") as caught, apply_lock(url):
            with engine.connect() as writer, engine.connect() as other:
                kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                other.execute(sa.text(kill))
                writer.execute(sa.text("SELECT 1"))
        assert caught.value.retryable
        assert "again" in caught.value.remedy
        with apply_lock(url):  # the lock went with the session
            record_applied(url, {"table:one": {}}, [], digest="p")
        with pytest.raises(sa.exc.ProgrammingError), apply_lock(url), engine.connect() as reader:
            reader.execute(sa.text("SELECT * FROM no_such_table"))


def test_a_registry_where_applies_cannot_be_serialised_is_refused() -> None:
    with pytest.raises(FeatureError, match="cannot be serialised"), apply_lock("mysql+pymysql://me@127.0.0.1/x"):
        pass


def test_only_one_process_at_a_time_applies(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path / 'registry.db'}", tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_hold, args=(url, str(log))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert log.read_text().split() == ["in", "out"] * 3
