"""`millrace rollback`: an earlier release back in force and in service, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.governance.release import Release

_console = Console()
_PENDING = 3


def rollback(
    use_case: Annotated[str, typer.Argument(help="The use case.")],
    *,
    because: Annotated[
        str, typer.Option("--because", help="Why, in five characters or more; it goes to the ledger with your name.")
    ],
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            min=1,
            help="Number of the release; else the one before. Within a day of another rollback it is asked for.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is in force and what would be.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Put an earlier release back: package, feature service, threshold, drift reference and alias as one unit.

    The online service loads it and must answer its golden rows as they were sealed. Said again it goes on with what is
    left to do, and never one release further. Exit status 3 where something is pending, 1 where it was refused.
    """
    from millrace.cli.actor import acting_person
    from millrace.governance.release import Releases
    from millrace.spec import load_use_case
    from millrace.step.rollback import foresee_rollback, require_reason, roll_back

    settings = Settings.load()
    spec = load_use_case(settings.dags, use_case)
    reason, seen = require_reason(spec, because), Releases(settings).in_force(spec)
    actor = acting_person(settings)
    if dry_run:
        _show_foreseen(*foresee_rollback(spec, to, reason, actor, settings=settings), as_json=as_json)
        return
    report = roll_back(spec, to, reason, actor, settings=settings, seen=seen)
    if as_json:
        print(orjson.dumps(report.to_dict()).decode())
    else:
        moved = f"from release {report.replaced} to {report.release}"
        already = f"release {report.release} was in force already"
        told = moved if report.replaced != report.release else already
        _console.print(f"{use_case}: {told}", markup=False, soft_wrap=True)
        for mark, sentences in (("done", report.done), ("pending", report.pending)):
            for sentence in sentences:
                _console.print(f"  {mark}: {sentence}", markup=False, soft_wrap=True)
    if report.pending:
        raise typer.Exit(_PENDING)


def _show_foreseen(current: Release, target: Release, *, as_json: bool) -> None:
    """What is in force and what would be."""
    if as_json:
        print(orjson.dumps({"in_force": current.to_dict(), "would_be": target.to_dict()}).decode())
        return
    for what, release in (("in force", current), ("would be", target)):
        told = f"release {release.version} ({release.candidate}, evaluated on {release.holdout})"
        _console.print(f"{release.use_case}: {what}: {told}", markup=False, soft_wrap=True)
