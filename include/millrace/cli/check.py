"""`millrace check`: are specs, policies, features, contracts and connections right? What is wrong, where, how to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.spec import list_specs

_console = Console()
Finding = tuple[str, str, str]


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
    wrong = [row for row in rows if row[2]]
    if as_json:
        findings = [{"kind": kind, "name": name, "fault": fault} for kind, name, fault in wrong]
        print(orjson.dumps({"checked": len(rows), "wrong": findings}).decode())
    else:
        table = Table("what", "name", "finding", title=f"{len(rows)} checks, {len(wrong)} findings")
        for kind, name, fault in rows:
            table.add_row(kind, name, f"[red]{fault}[/]" if fault else "[green]right[/]")
        _console.print(table)
    if wrong:
        raise typer.Exit(1)


def _rules(settings: Settings, *, connections: bool) -> Iterator[tuple[str, str, Callable[[], list[str]]]]:
    from millrace.step import check as step

    for tier in list_specs(settings.dags, "policies"):
        yield "policy", tier, lambda tier=tier: step.check_policy_file(tier, settings=settings)
    for name in list_specs(settings.dags, "domains"):
        yield "domain", name, lambda name=name: step.check_domain(name, settings=settings)
        yield "contract", name, lambda name=name: step.check_contracts(name, settings=settings)
    for name in list_specs(settings.dags, "use_cases"):
        yield "use case", name, lambda name=name: step.check_use_case(name, settings=settings)
        yield "features", name, lambda name=name: step.check_use_case_features(name, settings=settings)
    if connections:
        for name, rule in step.connection_rules(settings).items():
            yield "connection", name, rule


def _faults(rule: Callable[[], list[str]]) -> list[str]:
    try:
        return rule()
    except MillraceError as error:
        return [str(error)]
