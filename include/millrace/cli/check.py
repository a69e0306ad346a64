"""`millrace check`: is everything right that can be told without running it? What is wrong, where, how to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.spec import list_specs
from millrace.spec.load import Kind
from millrace.step.check import NotTried

_console = Console()


def check(
    connections: Annotated[bool, typer.Option(help="Also try the databases and services.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Validate everything that can be validated without running it. Exit status 1 where something is wrong."""
    settings = Settings.load()
    rows = [
        (kind, name, fault)
        for kind, name, rule in _rules(settings, connections=connections)
        for fault in (_faults(rule) or [""])
    ]
    untried = [row for row in rows if isinstance(row[2], NotTried)]
    wrong = [row for row in rows if row[2] and not isinstance(row[2], NotTried)]
    if as_json:
        findings = [{"kind": kind, "name": name, "fault": fault} for kind, name, fault in wrong]
        open_ = [{"kind": kind, "name": name, "why": str(why)} for kind, name, why in untried]
        print(orjson.dumps({"checked": len(rows), "wrong": findings, "not_tried": open_}).decode())
    else:
        aside = f", {len(untried)} not tried" if untried else ""
        table = Table("what", "name", "finding", title=f"{len(rows)} checks, {len(wrong)} findings{aside}")
        for kind, name, fault in rows:
            table.add_row(kind, name, _shown(fault))
        _console.print(table)
    if wrong:
        raise typer.Exit(1)


def _shown(finding: str) -> str:
    if isinstance(finding, NotTried):
        return f"[yellow]not tried: {escape(finding)}[/]"
    return f"[red]{escape(finding)}[/]" if finding else "[green]right[/]"


def _rules(settings: Settings, *, connections: bool) -> Iterator[tuple[str, str, Callable[[], list[str]]]]:
    from millrace.step import check as step

    by_folder: dict[Kind, dict[str, Callable[..., list[str]]]] = {
        "policies": {"policy": step.check_policy_file},
        "domains": {"domain": step.check_domain, "contract": step.check_contracts, "leaks": step.check_domain_leaks},
        "use_cases": {"use case": step.check_use_case, "features": step.check_use_case_features},
    }
    for folder, rules in by_folder.items():
        for name in list_specs(settings.dags, folder):
            for kind, rule in rules.items():
                yield kind, name, partial(rule, name, settings=settings)
    yield "DAG files", settings.dags.name, partial(step.check_dag_files, settings=settings)
    if connections:
        for name, reach in step.connection_rules(settings).items():
            yield "connection", name, reach


def _faults(rule: Callable[[], list[str]]) -> list[str]:
    try:
        return rule()
    except MillraceError as error:
        return [str(error)]
