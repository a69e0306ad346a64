"""`millrace environment`: software of their own for candidates: lock it, build it, see it, sweep what nothing needs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from millrace.artifact import iso
from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.step.environment import EnvironmentUse

app = typer.Typer(help="Isolated environments of candidates: lock, build, list and sweep them.", no_args_is_help=True)
_console = Console()
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]
_UNITS = {"d": "days", "h": "hours"}


@app.command()
def lock(
    requirements: Annotated[list[str], typer.Argument(help="What the trainer needs, such as xgboost-cpu==2.1.4.")],
    *,
    to: Annotated[Path | None, typer.Option("--to", help="File to write; else it is printed.", dir_okay=False)] = None,
) -> None:
    """Resolve requirements, and what Millrace needs beside them, into exact pins for `environment.lock`."""
    from millrace.training.isolation.environment import resolve_lock

    text = resolve_lock(requirements)
    if to is None:
        print(text, end="")
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(text, encoding="utf-8")
    _console.print(f"{text.count('==')} pins in {to}", markup=False, soft_wrap=True)


@app.command()
def build(
    locks: Annotated[list[Path], typer.Argument(help="Lock files.", exists=True, dir_okay=False)],
    *,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of environments; by default this installation's.")
    ] = None,
) -> None:
    """Build the environments of locks where they are missing, so that no run has to wait for the network."""
    from millrace.step.environment import environments_folder
    from millrace.training.isolation.environment_store import hold_environment
    from millrace.training.isolation.lock import parse_lock

    folder = store or environments_folder(Settings.load())
    for path in locks:
        text = path.read_text(encoding="utf-8")
        parse_lock(text, where=str(path))
        with hold_environment(text, store=folder) as found:
            _console.print(f"{path}: {found.python}", markup=False, soft_wrap=True)


@app.command("list")
def list_(*, as_json: _AsJson = False) -> None:
    """Show the environments of this installation: size, last use, and the candidates and releases that need them."""
    from millrace.step.environment import list_uses

    _show(list_uses(Settings.load()), fate="", as_json=as_json)


@app.command()
def sweep(
    *,
    unused_for: Annotated[str, typer.Option("--unused-for", help="How long nobody used them: 30d, or 12h.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be taken away.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Take away environments that no candidate, no release in force and no predecessor needs, and that none uses."""
    from millrace.step.environment import sweep_environments

    span, settings = _span(unused_for), Settings.load()
    swept = sweep_environments(settings, unused_for=span, now=datetime.now(UTC), dry_run=dry_run)
    _show(swept, fate=" would be taken away" if dry_run else " taken away", as_json=as_json)


def _show(uses: list[EnvironmentUse], *, fate: str, as_json: bool) -> None:
    if as_json:
        print(orjson.dumps({"environments": [use.to_dict() for use in uses]}).decode())
        return
    size = sum(use.stored.size for use in uses) / 1e6
    count = f"{len(uses)} environment{'' if len(uses) == 1 else 's'}"
    grid = Grid("environment", "MB", "last used (UTC)", "needed by", title=f"{count}{fate}, {size:.0f} MB")
    for use in uses:
        used = "now" if use.stored.held else iso(use.stored.used_at)[:16].replace("T", " ")
        names = escape(", ".join(use.needed_by) or "nothing")
        grid.add_row(use.stored.digest[:12], f"{use.stored.size / 1e6:.0f}", used, names)
    _console.print(grid)


def _span(text: str) -> timedelta:
    if not (found := re.fullmatch(r"(\d{1,5})([dh])", text)):
        raise typer.BadParameter(f"{text!r} is no span of time such as 30d or 12h")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
