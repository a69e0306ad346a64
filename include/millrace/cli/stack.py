"""`millrace up`, `down`, `status` and `clean`: the embedded services."""

from __future__ import annotations

import os
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from millrace.local import stack
from millrace.local.layout import Layout
from millrace.local.prepare import Installation, load_installation, read_password
from millrace.local.record import read_record
from millrace.settings import Settings

_console = Console()
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]


def layout_of(settings: Settings) -> Layout:
    """Where the embedded installation of these settings lives."""
    return Layout(root=settings.root, var=settings.var, dags=settings.dags)


def up(
    dag: Annotated[list[str] | None, typer.Option(help="Wait until Airflow knows this DAG, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start PostgreSQL, Airflow, MLflow and the online service, and wait until all are healthy."""
    layout = layout_of(Settings.load())
    tell = (lambda line: None) if as_json else _console.print
    installation, started = stack.up(layout, os.environ, dag_ids=tuple(dag or ()), tell=tell)
    if as_json:
        _print_json({"started": started, "addresses": installation.addresses, "moved": installation.moved})
        return
    _console.print("everything is up" if started else "everything was up already; nothing was done")
    show_addresses(layout, installation)


def down() -> None:
    """Stop everything that `up` started."""
    ran = stack.down(layout_of(Settings.load()))
    _console.print("everything is stopped" if ran else "nothing was running")


def status(as_json: AsJson = False) -> None:
    """Show each service: state, pid, port, restarts, log. Exit status 3 where not all run."""
    layout = layout_of(Settings.load())
    record, running = read_record(layout), stack.is_running(layout)
    services = record.services if record else {}
    healthy = running and bool(services) and all(s.state in {"running", "done"} for s in services.values())
    if as_json:
        rows = [{"name": n, "state": s.state if running else "stopped", "pid": s.pid, "port": s.port,
                 "restarts": s.restarts, "log": s.log} for n, s in services.items()]  # fmt: skip
        _print_json({"running": running, "healthy": healthy, "services": rows})
    elif not services:
        _console.print("nothing was started yet; `make up` does")
    else:
        table = Table("service", "state", "pid", "port", "restarts", "log", title=f"installation in {layout.var}")
        for name, service in services.items():
            state = service.state if running else "stopped"
            pid, port = (str(service.pid or ""), str(service.port or "")) if running else ("", "")
            table.add_row(name, state, pid, port, str(service.restarts), os.path.relpath(service.log))
        _console.print(table)
        if running:
            show_addresses(layout, load_installation(layout))
        elif record and record.fault:
            _console.print(record.fault, style="red", markup=False)
    if not healthy:
        raise typer.Exit(3)


def clean() -> None:
    """Stop everything and remove `var/`."""
    layout = layout_of(Settings.load())
    removed = stack.clean(layout)
    _console.print(f"{layout.var} is removed" if removed else f"{layout.var} is not there", markup=False)


def show_addresses(layout: Layout, installation: Installation) -> None:
    """Print what a person opens, and who may log in."""
    table = Table("what", "address", show_header=False, box=None)
    names = {"airflow": "Airflow", "mlflow": "MLflow", "serving": "online service"}
    for name, address in installation.addresses.items():
        default = installation.moved.get(name)
        table.add_row(names[name], address + (f"   (port {default} is taken)" if default else ""))
    for user, role in installation.users.items():
        table.add_row(f"user: {user}, role: {role}", f"password: {read_password(layout, user)}")
    _console.print(table)


def _print_json(document: object) -> None:
    print(orjson.dumps(document).decode())
