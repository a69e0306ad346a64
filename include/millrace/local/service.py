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
    airflow_env, other_env = installation.of_airflow(), installation.of_others()
    ports = installation.ports
    python = sys.executable
    database = Service(
        name="postgres",
        argv=postgres.server_command(layout, account),
        env={},
        ready=lambda: postgres.is_ready(layout),
        fast_stop=True,
    )
    airflow = [
        Service(name="migrate", argv=_airflow("db", "migrate"), env=airflow_env, after=("postgres",), once=True),
        Service(
            name="api-server",
            argv=_airflow("api-server"),
            env=airflow_env,
            after=("migrate",),
            ready=lambda: answers(f"http://{LOOPBACK}:{ports['airflow']}/api/v2/version"),
            port=ports["airflow"],
        ),
        Service(name="dag-processor", argv=_airflow("dag-processor"), env=airflow_env, after=("migrate",)),
        Service(
            name="scheduler",
            argv=[python, "-m", "millrace.local.scheduler", *_airflow("scheduler", "-s")[1:]],
            env=airflow_env,
            after=("api-server",),
        ),
        Service(name="triggerer", argv=_airflow("triggerer", "-s"), env=airflow_env, after=("api-server",)),
    ]
    mlflow_url = postgres.database_urls(layout)["mlflow"]
    others = [
        Service(
            name="mlflow",
            argv=[
                *(
                    python,
                    "-m",
                    "mlflow",
                    "server",
                    "--host",
                    LOOPBACK,
                    "--port",
                    str(ports["mlflow"]),
                    "--workers",
                    "1",
                ),
                *("--backend-store-uri", mlflow_url, "--artifacts-destination", str(layout.artifacts)),
            ],
            env=other_env,
            after=("postgres",),
            ready=lambda: answers(f"http://{LOOPBACK}:{ports['mlflow']}/health"),
            port=ports["mlflow"],
        ),
        Service(
            name="serving",
            argv=[
                *(python, "-m", "millrace.serving", "--port", str(ports["serving"])),
                *("--dir", other_env.get("MILLRACE_SERVING_DIR", str(layout.var / "serving"))),
            ],
            env={"MILLRACE_ONLINE_STORE": str(layout.var / "online" / "online.db"), **other_env},
            after=("postgres",),
            ready=lambda: answers(f"http://{LOOPBACK}:{ports['serving']}/v2/health/live"),
            port=ports["serving"],
        ),
    ]
    return [database, *airflow, *others]


def answers(url: str) -> bool:
    """Whether `url` answers 200 within a second, asked directly whatever proxy is set."""
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _airflow(*words: str) -> list[str]:
    return [sys.executable, str(Path(sys.executable).parent / "airflow"), *words]
