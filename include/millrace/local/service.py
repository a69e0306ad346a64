"""What runs in the embedded installation, in which order, and how one knows that it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from millrace.local import postgres
from millrace.local.layout import Layout
from millrace.local.port import LOOPBACK
from millrace.local.prepare import Installation


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process to keep running, or one job to run once before what depends on it.

    Attributes:
        name: also of its log.
        argv: command and arguments.
        env: variables besides those inherited.
        after: services that must be ready first.
        ready: whether it answers; cheap, and False instead of raising.
        once: a job: ready when it has ended well.
        port: what it listens on.
        patience_s: how long it may take to stop by itself.
        fast_stop: PostgreSQL's `fast` shutdown (SIGINT) instead of SIGTERM.
    """

    name: str
    argv: list[str]
    env: Mapping[str, str]
    after: tuple[str, ...] = ()
    ready: Callable[[], bool] = field(default=lambda: True)
    once: bool = False
    port: int | None = None
    patience_s: float = 8.0
    fast_stop: bool = False


def define_services(layout: Layout, installation: Installation, account: postgres.Account) -> list[Service]:
    """All services in the order of their start: the API server answers before the scheduler hands out a task."""
    database = Service(
        name="postgres",
        argv=postgres.server_command(layout, account),
        env={},
        ready=lambda: postgres.is_ready(layout),
        fast_stop=True,
    )
    return [database, *_of_airflow(installation), _mlflow(layout, installation), _serving(layout, installation)]


def _of_airflow(installation: Installation) -> list[Service]:
    env, port = installation.of_airflow(), installation.ports["airflow"]
    return [
        Service(name="migrate", argv=_airflow("db", "migrate"), env=env, after=("postgres",), once=True),
        Service(
            name="api-server",
            argv=_airflow("api-server"),
            env=env,
            after=("migrate",),
            ready=lambda: answers(f"http://{LOOPBACK}:{port}/api/v2/version"),
            port=port,
        ),
        Service(name="dag-processor", argv=_airflow("dag-processor"), env=env, after=("migrate",)),
        Service(
            name="scheduler",
            argv=[sys.executable, "-m", "millrace.local.scheduler", *_airflow("scheduler", "-s")[1:]],
            env=env,
            after=("api-server",),
        ),
        Service(name="triggerer", argv=_airflow("triggerer", "-s"), env=env, after=("api-server",)),
    ]


def _mlflow(layout: Layout, installation: Installation) -> Service:
    port, database = installation.ports["mlflow"], postgres.database_urls(layout)["mlflow"]
    return Service(
        name="mlflow",
        argv=[
            *(sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", database, "--artifacts-destination", str(layout.artifacts)),
        ],
        env=installation.of_others(),
        after=("postgres",),
        ready=lambda: answers(f"http://{LOOPBACK}:{port}/health"),
        port=port,
    )


def _serving(layout: Layout, installation: Installation) -> Service:
    port, env = installation.ports["serving"], installation.of_others()
    return Service(
        name="serving",
        argv=[
            *(sys.executable, "-m", "millrace.serving", "--port", str(port)),
            *("--dir", env.get("MILLRACE_SERVING_DIR", str(layout.var / "serving"))),
        ],
        env={"MILLRACE_ONLINE_STORE": str(layout.var / "online" / "online.db"), **env},
        after=("postgres",),
        ready=lambda: answers(f"http://{LOOPBACK}:{port}/v2/health/live"),
        port=port,
    )


def answers(url: str) -> bool:
    """Whether `url` answers 200 within a second, asked directly whatever proxy is set."""
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _airflow(*words: str) -> list[str]:
    return [sys.executable, str(Path(sys.executable).parent / "airflow"), *words]
