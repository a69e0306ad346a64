"""The process behind `make up`: `python -m millrace.local.supervisor <root> <var> <dags>`.

It leads a session of its own, adopts every descendant that loses its parent, and holds `var/run/supervisor.lock` while
it lives. Where it is killed, the kernel tells its children (SIGTERM).
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from millrace.errors import MillraceError
from millrace.local import postgres, process
from millrace.local.environment import inherit_environment
from millrace.local.keeper import Keeper
from millrace.local.layout import Layout
from millrace.local.prepare import Installation, load_installation
from millrace.local.record import Record, write_record
from millrace.local.service import Service, define_services

_log = logging.getLogger(__name__)


def supervise(layout: Layout, environ: Mapping[str, str]) -> int:
    """Run the installation under `layout` in this process; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    lock = (layout.run / "supervisor.lock").open("w")
    if not process.wait_until(
        lambda: process.try_lock(lock), 2.0
    ):  # who asks whether it is held, holds it for a moment
        _log.info("another supervisor runs already")
        return 0
    process.adopt_orphans()
    try:
        _serve(layout, load_installation(layout), environ)
    except MillraceError as error:
        _log.error("%s", error)
        write_record(layout, Record.of_this_process(state="failed", fault=str(error), services={}), keep_services=True)
        return 1
    return 0


def _serve(layout: Layout, installation: Installation, environ: Mapping[str, str]) -> None:
    account = postgres.choose_account(layout)
    fresh = postgres.initialise(layout, account)
    stamp = layout.run / "migrated"
    if fresh:
        stamp.unlink(missing_ok=True)
    services = define_services(layout, installation, account)
    if stamp.is_file() and stamp.read_text() == _schema():
        services = [_after_postgres(service) for service in services if service.name != "migrate"]

    def note(service: Service) -> None:
        if service.name == "postgres":
            postgres.create_databases(layout)
        if service.name == "migrate":
            stamp.write_text(_schema())

    keeper = Keeper(layout, services, inherit_environment(environ), on_ready=note)
    signal.signal(signal.SIGTERM, keeper.stop_soon)
    signal.signal(signal.SIGINT, keeper.stop_soon)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    keeper.run()


def _schema() -> str:
    """What Airflow's tables were made for; another value has `airflow db migrate` run again."""
    return f"apache-airflow-core {importlib.metadata.version('apache-airflow-core')}"


def _after_postgres(service: Service) -> Service:
    return replace(service, after=tuple("postgres" if name == "migrate" else name for name in service.after))


if __name__ == "__main__":
    root, var, dags = (Path(word) for word in sys.argv[1:4])
    sys.exit(supervise(Layout(root=root, var=var, dags=dags), os.environ))
