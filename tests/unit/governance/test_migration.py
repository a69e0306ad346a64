from __future__ import annotations

import os
import sqlite3
import threading
from functools import partial

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.children import statuses

from millrace.errors import SettingsError
from millrace.governance.ledger import Ledger
from millrace.governance.migration import HEAD, VERSION_TABLE, migrate, require_tables
from millrace.governance.state import METADATA, engine_of
from millrace.settings import Settings


def test_migrating_again_changes_nothing(settings: Settings) -> None:
    assert migrate(settings) == migrate(settings) == HEAD
    assert Ledger(settings).verify().verified


def test_the_scripts_end_at_the_revision_that_the_code_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", "millrace.governance:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrated_tables_are_those_of_the_code(settings: Settings) -> None:
    migrate(settings)
    with engine_of(settings.state_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []


def test_processes_that_start_at_once_find_one_set_of_tables(settings: Settings) -> None:
    assert statuses(*[partial(migrate, settings)] * 4) == [0, 0, 0, 0]
    assert Ledger(settings).verify().entries == 0


def test_an_empty_database_gets_its_tables_on_first_use(settings: Settings) -> None:
    assert Ledger(settings).entries() == []


@pytest.mark.parametrize(("revision", "remedy"), [("0000", "millrace ledger migrate"), ("9999", "newer")])
def test_a_database_of_another_revision_is_refused_with_the_remedy(
    settings: Settings, revision: str, remedy: str
) -> None:
    migrate(settings)
    connection = sqlite3.connect(settings.state_url.removeprefix("sqlite:///"))
    connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'")
    connection.commit()
    connection.close()
    with pytest.raises(SettingsError, match=remedy):
        require_tables(engine_of(settings.state_url))


def die_at_an_index(settings: Settings) -> None:
    import alembic.op

    alembic.op.create_index = lambda *_, **__: os._exit(9)
    migrate(settings)


def test_a_killed_migration_leaves_nothing_half_made(settings: Settings) -> None:
    assert statuses(partial(die_at_an_index, settings)) == [9]
    with engine_of(settings.state_url).connect() as connection:
        assert MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads() == ()
    migrate(settings)
    assert Ledger(settings).verify().verified


def test_a_database_that_another_process_is_writing_is_waited_for(settings: Settings) -> None:
    path = settings.state_url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    let_go = threading.Timer(0.3, other.rollback)
    let_go.start()
    migrate(settings)
    let_go.join()
    assert other.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    other.close()
