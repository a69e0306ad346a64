"""Sweeping isolated environments: what a spec, a release in force or its predecessor needs stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.governance.test_recipe import recipe
from tests.unit.training.isolation.test_environment_store import LOCK, lay
from typer.testing import CliRunner

from millrace.cli.main import _app
from millrace.errors import SpecError
from millrace.governance.recipe import store_recipe, store_text
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.settings import Settings
from millrace.step.environment import environments_folder, list_uses, sweep_environments
from millrace.training.isolation.environment import environment_digest
from millrace.training.isolation.environment_store import hold_environment
from millrace.training.isolation.software import lock_text

MONTH = timedelta(days=30)


def lock_of(number: int) -> str:
    return LOCK.replace("numpy==0.0.1", f"numpy==0.0.{number}")


def release(number: int, settings: Settings, *, isolated: bool) -> None:
    """A release whose recipe names the lock of that number."""
    package, lock = f"{number}" * 64, lock_of(number)
    pins = dict(line.split("==") for line in lock.split())
    assert lock_text(pins) == lock
    kept = store_text(lock, settings) if isolated else ""
    store_recipe(recipe(package=package, isolated=isolated, lock=kept, libraries=pins), settings)
    made = Release(
        use_case="flight_delay",
        version=number,
        package=package,
        candidate="own",
        trainer="xgboost",
        trained_through="2013-01",
        holdout="2013-02",
        effective_at=f"2013-0{number}-01T00:00:00Z",
        evidence="e" * 64,
        policy="p" * 64,
        feature_service="v1",
        threshold=0.5,
        reference="r" * 64,
        replaces=number - 1,
    )
    with writing(settings) as connection:
        Releases(settings).add(made, actor="me", note={}, connection=connection)


@pytest.fixture
def installed(settings: Settings) -> Settings:
    """Three releases, a candidate with a lock of its own (5), and an environment for each lock up to 7, all old."""
    for number in (1, 2, 3):
        release(number, settings, isolated=number != 3)
    path = settings.dags / "use_cases" / "flight_duration.yaml"
    text = path.read_text(encoding="utf-8")
    own = "candidates:\n  own: {trainer: xgboost, environment: {lock: own.txt}}\n"
    path.write_text(text.replace("candidates:\n", own), encoding="utf-8")
    (settings.dags / "own.txt").write_text(f"# of ours\n{lock_of(5)}", encoding="utf-8")
    for number in range(1, 8):
        lay(environments_folder(settings), lock_of(number), age_days=40)
    return settings


def test_only_what_nothing_needs_is_swept(installed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    by_digest = {use.stored.digest: use.needed_by for use in list_uses(installed)}
    assert [by_digest[environment_digest(lock_of(number))] for number in range(1, 8)] == [
        [],
        ["flight_delay release 2"],
        ["flight_delay release 3"],
        [],
        ["flight_duration.own"],
        [],
        [],
    ]
    for name in ("root", "var", "dags"):
        monkeypatch.setenv(f"MILLRACE_{name.upper()}", str(getattr(installed, name)))
    left = environments_folder(installed)
    with hold_environment(lock_of(6), store=left):
        listed = CliRunner().invoke(_app, ["environment", "list"], env={"COLUMNS": "200"})
        assert "7 environments" in listed.output
        assert "flight_duration.own" in listed.output
        assert "now" in listed.output
        words = ["environment", "sweep", "--unused-for", "30d", "--json"]
        foreseen = CliRunner().invoke(_app, [*words, "--dry-run"])
        assert len(list(left.glob("[!.]*"))) == 7
        swept = CliRunner().invoke(_app, words)
    assert (swept.exit_code, swept.output) == (0, foreseen.output)
    gone = {item["digest"] for item in json.loads(swept.output.splitlines()[-1])["environments"]}
    assert gone == {environment_digest(lock_of(number)) for number in (1, 4, 7)}
    assert {path.name for path in left.glob("[!.]*")} == {*by_digest} - gone
    assert CliRunner().invoke(_app, ["environment", "sweep", "--unused-for", "soon"]).exit_code == 2


def test_what_was_used_lately_stays(installed: Settings) -> None:
    now = datetime.now(UTC)
    assert sweep_environments(installed, unused_for=timedelta(days=41), now=now, dry_run=True) == []
    assert len(sweep_environments(installed, unused_for=MONTH, now=now, dry_run=True)) == 4


def test_nothing_is_swept_while_a_spec_cannot_be_read(installed: Settings) -> None:
    (installed.dags / "own.txt").unlink()
    with pytest.raises(SpecError, match="lock cannot be read"):
        sweep_environments(installed, unused_for=MONTH, now=datetime.now(UTC))
    assert len(list(Path(environments_folder(installed)).glob("[!.]*"))) == 7
