"""From the id that an online answer carries to what is known of it. Of a sampled row `test_skew.py` has it."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.step import store as stores
from tests.unit.step.store import Store
from typer.testing import CliRunner

from millrace.cli.lineage_view import show_answer
from millrace.cli.main import _app
from millrace.governance.ledger import Ledger
from millrace.governance.release import Releases
from millrace.governance.state import moment_of
from millrace.serving.answer_id import AnswerId, AnswerIds
from millrace.settings import Settings
from millrace.step.answer_lineage import AnswerLineage, trace_answer

PACKAGE = "a" * 64


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    made = stores.make(tmp_path / "store", settings)
    made.release(package=PACKAGE)
    return made


def deploy(store: Store) -> None:
    release = Releases(store.settings).get("again", 1)
    Ledger(store.settings).append(
        "deployed",
        use_case="again",
        subject=PACKAGE,
        effective_at=moment_of(release.effective_at),
        actor="ann",
        payload={"version": 1},
    )


def trace(name: str, settings: Settings) -> AnswerLineage:
    asked = AnswerId.parse(name)
    assert asked is not None
    return trace_answer(name, asked, settings=settings)


def shown(found: AnswerLineage) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    show_answer(console, found)
    return console.export_text()


def test_of_an_answer_that_was_not_sampled_release_and_time_are_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(store)
    name = AnswerIds().make("again", 1)
    found = trace(name, store.settings)
    assert (found.sampled, found.prediction, found.columns, found.views) == (False, None, {}, [])
    assert (found.release["version"], found.release["actor"], found.deployed["actor"]) == (1, "admin", "ann")
    assert "the row was not kept" in found.notes[0]
    assert not [fault for fault in found.breaks if "deployed" in fault]
    assert "nobody approved package aaaaaaaaaaaa on evidence eeeeeeeeeeee" in found.breaks
    assert f"answered {found.answered_at}" in shown(found)

    for setting in ("var", "dags", "packages", "serving_dir", "lake"):
        monkeypatch.setenv(f"MILLRACE_{setting.upper()}", str(getattr(store.settings, setting)))
    monkeypatch.setenv("MILLRACE_STATE_URL", store.settings.state_url)
    told = CliRunner().invoke(_app, ["lineage", "prediction", name, "--json"])
    assert told.exit_code == 1, told.output
    assert json.loads(told.output.splitlines()[-1])["release"]["version"] == 1


def test_an_id_that_does_not_fit_the_ledger_is_broken(store: Store) -> None:
    assert "does not say that release 1 was deployed by then" in "".join(
        trace(AnswerIds().make("again", 1), store.settings).breaks
    )
    deploy(store)
    early = AnswerIds(clock=lambda: time.time_ns() - 3600 * 10**9).make("again", 1)
    assert "was deployed by then" in "".join(trace(early, store.settings).breaks)
    late = AnswerIds(clock=lambda: time.time_ns() + 3600 * 10**9).make("again", 1)
    assert "the id names an instant that is still to come" in trace(late, store.settings).breaks
    assert trace(AnswerIds().make("again", 7), store.settings).breaks == ["'again' has no release 7"]
