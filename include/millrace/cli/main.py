"""The command `millrace`: one sub-command a noun or act; errors are sentences, never tracebacks."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from millrace.cli import check, demo, ledger, stack
from millrace.errors import MillraceError

_app = typer.Typer(
    name="millrace",
    help="Carry a model through its whole life, on Airflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_app.command("up")(stack.up)
_app.command("down")(stack.down)
_app.command("status")(stack.status)
_app.command("clean")(stack.clean)
_app.command("demo")(demo.demo)
_app.command("check")(check.check)
_app.add_typer(ledger.app, name="ledger")


def app() -> None:
    """Entry point: a `MillraceError` becomes its message on standard error and exit status 1."""
    try:
        _app()
    except MillraceError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]{type(error).__name__}[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        sys.exit(1)


if __name__ == "__main__":
    app()
