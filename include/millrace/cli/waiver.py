"""`millrace waive`: let one package pass one rule, with a reason, in the ledger."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from millrace.settings import Settings

_console = Console()


def waive(
    use_case: Annotated[str, typer.Argument(help="The use case.")],
    package: Annotated[str, typer.Argument(help="Digest of the package it holds for.")],
    *,
    because: Annotated[str, typer.Option("--because", help="Why; it must say something.")],
    rule: Annotated[str, typer.Option("--rule", help="The rule: dirty_tree.")] = "dirty_tree",
) -> None:
    """Let one package be released though it, or the tree now, is from no commit; the ledger names you and why."""
    from millrace.cli.actor import acting_person
    from millrace.governance.waiver import record_waiver
    from millrace.package import Package
    from millrace.spec import load_use_case

    settings = Settings.load()
    spec = load_use_case(settings.dags, use_case)
    holdout = Package.open(settings.packages / package, package).manifest.training.holdout
    entry = record_waiver(
        spec,
        rule,
        package,
        because,
        holdout=holdout,
        actor=acting_person(settings),
        settings=settings,
    )
    _console.print(
        f"ledger entry {entry.seq}: {entry.actor} waives {rule} for package {package}", markup=False, soft_wrap=True
    )
