"""`millrace demo`: the whole life of a model on a year of flights, then a table and the addresses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import orjson
import typer
from rich.console import Console

from millrace.cli.stack import layout_of, show_addresses
from millrace.demo.progress import LEGEND, Progress
from millrace.demo.story import Plan, Story
from millrace.demo.watch import RunWatcher
from millrace.errors import LedgerError
from millrace.local import stack
from millrace.local.airflow_client import AirflowClient
from millrace.local.layout import Layout
from millrace.local.prepare import read_password
from millrace.settings import Settings
from millrace.spec import load_domain, load_policy, load_use_case

_console = Console()
if not _console.is_terminal:
    _console = Console(width=140)  # a log has no edge to wrap at


def demo(
    use_case: Annotated[str, typer.Option(help="The use case whose model lives through the year.")] = "flight_delay",
    first: Annotated[str, typer.Option(help="First partition that is backfilled.")] = "2013-01",
    release: Annotated[str, typer.Option(help="Holdout of the first training run.")] = "2013-03",
    last: Annotated[str, typer.Option(help="Last partition of the story.")] = "2013-12",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as the last line.")] = False,
) -> None:
    """Start everything, run the story through the DAGs, show what came of it.

    Ctrl-C stops everything; a SIGTERM ends the story alone. What was told by then stays in var/demo.
    """
    layout = layout_of(Settings.load())
    try:
        with _terminable():
            _demo(use_case, first, release, last, as_json=as_json)
    except KeyboardInterrupt:
        _console.print("\nstopping everything …")
        stack.down(layout)
        _console.print("everything is stopped; `make demo` starts it again")
        raise typer.Exit(130) from None
    except _Terminated:
        up = stack.is_running(layout)
        left = "the services go on running; `make down` stops them" if up else "nothing runs"
        _console.print(f"\nthe story is broken off; {left}")
        raise typer.Exit(143) from None


class _Terminated(BaseException):
    """Somebody wants the story ended; nobody below may take it for an error of theirs."""


@contextmanager
def _terminable() -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _demo(use_case: str, first: str, release: str, last: str, *, as_json: bool) -> None:
    started = time.monotonic()
    settings = Settings.load()
    layout = layout_of(settings)
    spec = load_use_case(settings.dags, use_case)
    load_policy(settings.dags, spec.tier)
    plan = Plan(domain=load_domain(settings.dags, spec.domain), use_case=spec, first=first, release=release, last=last)
    layout.create()
    with stack.only_story(layout):
        _tell(plan, layout, started, as_json=as_json)


def _tell(plan: Plan, layout: Layout, started: float, *, as_json: bool) -> None:
    from millrace.demo.service_check import check_service
    from millrace.demo.summary import show, summarize, write, write_unfinished

    installation, _ = stack.up(layout, os.environ, dag_ids=plan.dag_ids, tell=_console.print)
    settings = Settings.load()
    up_s = time.monotonic() - started
    show_addresses(layout, installation)
    _console.print("`make status` shows these again, passwords too. Some minutes of work follow in Airflow.")
    _console.print(LEGEND, highlight=False)
    with AirflowClient(installation.addresses["airflow"], "admin", read_password(layout)) as client:
        watcher = RunWatcher(client, os.path.relpath(layout.airflow / "logs"))
        with Progress([*plan.history, *plan.months], _console) as progress:
            story = Story(plan, watcher, progress.tell)
            try:
                story.run()
            except BaseException:
                _console.print(f"what was told so far: {write_unfinished(story, settings)}", markup=False)
                raise
        clock = time.monotonic()
        serving = check_service(plan.use_case, plan.domain, plan.last, settings=settings)
        wall = {"start": up_s, **story.wall_s, "serving": time.monotonic() - clock}
        summary = summarize(story, serving, wall, total_s=time.monotonic() - started, settings=settings)
    write(summary, settings)
    show(summary, _console)
    show_addresses(layout, installation)
    if not summary["ledger"]["verified"]:
        raise LedgerError(
            "the story is told, but the record of its decisions is broken",
            where="ledger",
            remedy="`millrace ledger verify` names the entry; restore the state database from a backup",
        )
    _console.print("everything stays up until `make down`")
    if as_json:
        print(orjson.dumps(summary).decode())
