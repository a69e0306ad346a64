"""What `millrace demo` says when it is ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import typer
from rich.console import Console

from millrace.cli import demo as command
from millrace.demo.story import Plan, Story
from millrace.demo.summary import write, write_unfinished
from millrace.demo.watch import RunWatcher
from millrace.local import stack
from millrace.settings import Settings
from millrace.spec import load_domain, load_use_case


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILLRACE_VAR", str(tmp_path / "var"))
    monkeypatch.setattr(command, "_console", Console(width=140))


def test_a_sigterm_says_what_goes_on_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def told_to_end(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 30)

    monkeypatch.setattr(command, "_demo", told_to_end)
    for runs, says in ((True, "the services go on running; `make down` stops them"), (False, "nothing runs")):
        monkeypatch.setattr(stack, "is_running", lambda _, runs=runs: runs)
        with pytest.raises(typer.Exit) as caught:
            command.demo()
        assert caught.value.exit_code == 143
        assert says in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before


def test_figures_of_an_unfinished_story_are_kept_until_one_is_whole(settings: Settings) -> None:
    use_case, domain = load_use_case(settings.dags, "flight_delay"), load_domain(settings.dags, "flights")
    plan = Plan(domain=domain, use_case=use_case, first="2013-01", release="2013-03", last="2013-04")
    story = Story(plan, cast("RunWatcher", None))
    story.months["2013-03"] = {"release": {"version": 1}}
    path = write_unfinished(story, settings)
    assert orjson.loads(path.read_bytes())["months"] == story.months
    assert path.parent == settings.var / "demo"
    write({"use_case": "flight_delay"}, settings)
    assert not path.exists()
