"""`millrace replay`: bring quarantined rows back after a fix, by a waiver, or corrected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.validation.correction import Action

_console = Console()


def replay(
    domain: Annotated[str, typer.Argument(help="The domain.")],
    source: Annotated[str, typer.Argument(help="The source.")],
    *,
    reason: Annotated[list[str] | None, typer.Option("--reason", help="Only rows set aside for this.")] = None,
    partition: Annotated[list[str] | None, typer.Option("--partition", help="Only this partition.")] = None,
    row: Annotated[list[str] | None, typer.Option("--id", help="Only this row: its id, or its first signs.")] = None,
    waive: Annotated[
        bool,
        typer.Option(
            "--waive", help="Let the rows pass as they are; records that no row can be made of are dismissed."
        ),
    ] = False,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Take waivers and corrections back; give --id or --reason.")
    ] = False,
    because: Annotated[str, typer.Option("--because", help="Why; --waive and --reopen must say so.")] = "",
    correct: Annotated[
        Path | None,
        typer.Option("--correct", help="CSV or JSON lines with row_id and the columns to correct.", dir_okay=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Judge quarantined rows again under the contract of today, waive what is wrong with them, or correct them.

    Also take such a decision back.

    Only the rows meant change; what is merged is merged once. Without --yes it says what it would touch, and asks.
    """
    from millrace.cli.actor import acting_person
    from millrace.spec import load_domain
    from millrace.step.replay import count_matches
    from millrace.step.replay import replay as step
    from millrace.step.stale import stale_features

    if waive + reopen + (correct is not None) > 1:
        raise typer.BadParameter("give either --waive or --correct or --reopen")
    action: Action = "waive" if waive else "reopen" if reopen else "correct" if correct is not None else "revalidate"
    settings = Settings.load()
    spec = load_domain(settings.dags, domain)
    who = acting_person(settings)
    if not yes:
        meant = count_matches(
            spec,
            source,
            settings=settings,
            reasons=reason,
            partitions=partition,
            ids=row,
            action=action,
            corrections=correct,
        )
        _console.print(
            f"{action}: {sum(meant.values())} {'closed' if reopen else 'open'} rows of {domain}/{source}", markup=False
        )
        for key, rows in meant.items():
            _console.print(f"  {key or '(whole)'}: {rows}", markup=False)
        typer.confirm("Go on?", abort=True)
    report = step(
        spec,
        source,
        settings=settings,
        reasons=reason,
        partitions=partition,
        ids=row,
        action=action,
        by=who,
        reason=because,
        corrections=correct,
    )
    stale = stale_features(spec, report.stale, settings=settings)
    if as_json:
        print(orjson.dumps({**report.to_dict(), "recompute": stale}).decode())
        return
    grid = Grid(
        "partition", "meant", "merged", "still open", "dismissed", "because", title=f"{report.merged} rows merged"
    )
    for item in report.partitions:
        figures = (str(number) for number in (item.matched, item.merged, item.still_open, item.dismissed))
        grid.add_row(item.partition or "(whole)", *figures, escape("; ".join(item.notes)))
    _console.print(grid)
    if report.stale:
        _console.print(f"Clean rows changed in: {_keys(report.stale)}", markup=False, soft_wrap=True)
        told = f"Run the DAG {domain}_data for these partition keys, one run each, to compute what rests on them again"
        _console.print(f"{told}: {_keys(stale)}", markup=False, soft_wrap=True)
        _console.print(f"(The DAG {domain}_replay does all of it by itself.)", markup=False, soft_wrap=True)


def _keys(keys: Sequence[str]) -> str:
    return ", ".join(key or "(the whole table)" for key in keys) or "none yet"
