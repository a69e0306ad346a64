"""`millrace environment`: software of their own for candidates: lock it, and build it before a run needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from millrace.settings import Settings

app = typer.Typer(help="Isolated environments of candidates: lock them, build them.", no_args_is_help=True)
_console = Console()


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
    from millrace.training.isolation.environment import build_environment
    from millrace.training.isolation.lock import parse_lock

    folder = store or Settings.load().var / "environments"
    for path in locks:
        text = path.read_text(encoding="utf-8")
        parse_lock(text, where=str(path))
        found = build_environment(text, store=folder)
        _console.print(f"{path}: {found.python}", markup=False, soft_wrap=True)
