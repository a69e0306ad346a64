"""The command `millrace`: one sub-command a noun or act; errors are sentences, never tracebacks."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

from millrace.cli import (
    check,
    contract,
    demo,
    environment,
    features,
    importing,
    ingest,
    ledger,
    lineage,
    login,
    quarantine,
    rebuild,
    replay,
    rollback,
    stack,
    waiver,
)
from millrace.errors import MillraceError, SettingsError

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
_app.command("ingest")(ingest.ingest)
_app.command("replay")(replay.replay)
_app.command("rebuild")(rebuild.rebuild)
_app.command("import")(importing.import_)
_app.command("waive")(waiver.waive)
_app.command("rollback")(rollback.rollback)
_app.command("login")(login.login)
_app.command("logout")(login.logout)
_app.add_typer(quarantine.app, name="quarantine")
_app.add_typer(ledger.app, name="ledger")
_app.add_typer(lineage.app, name="lineage")
_app.add_typer(contract.app, name="contract")
_app.add_typer(features.app, name="features")
_app.add_typer(environment.app, name="environment")


def app() -> None:
    """Entry point: an error of Millrace's, or of the file system, becomes a message and exit status 1."""
    try:
        _app()
    except MillraceError as error:
        _fail(error)
    except OSError as error:
        place = " ".join(str(name) for name in (error.filename, error.filename2) if name)
        remedy = "make it readable and writable for this user, free some space, or set MILLRACE_VAR to another folder"
        _fail(SettingsError(error.strerror or str(error), where=place or "the operating system", remedy=remedy))


def _fail(error: MillraceError) -> NoReturn:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"[bold red]{type(error).__name__}[/]", end=" ")
    console.print(str(error), markup=False, highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    app()
