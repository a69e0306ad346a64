"""Seconds from asking for a rollback until the old predictions are served: by the DAG in Airflow, and by the CLI."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson

from millrace.deployment.httpx_client import ServiceClient
from millrace.governance.release import Releases
from millrace.local import stack
from millrace.local.airflow_client import AirflowClient
from millrace.local.prepare import read_password
from millrace.registry.mlflow_alias import get_aliases
from millrace.settings import Settings
from millrace.step.deployment import deploy_release
from tests.benchmarks.own_stack import cleaned, make_layout
from tests.benchmarks.process import ROOT
from tests.benchmarks.row import Row
from tests.unit.deployment.conftest import release_of
from tests.unit.governance.proposal import record_proven
from tests.unit.serving import sample

AIRFLOW_GOAL_S, CLI_GOAL_S = 15.0, 3.0
_REPEATS = 4
_DAG = "flight_delay_rollback"
_UC = "flight_delay"
_EFFECTIVE = ("2013-04-01T04:00:00Z", "2013-05-01T04:00:00Z")


def run(scale: float) -> list[Row]:
    """One warm-up each, then four rollbacks each (times `scale`), back and forth between two releases."""
    repeats = max(4, round(_REPEATS * scale))
    layout = make_layout("rollback", make_layout("rollback", ROOT).var / "dags")
    with cleaned(layout):
        layout.create()
        shutil.copytree(ROOT / "dags", layout.dags, ignore=shutil.ignore_patterns("__pycache__"))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        environ |= {name: str(value) for name, value in (("MILLRACE_ROOT", ROOT), ("MILLRACE_VAR", layout.var))}
        environ["MILLRACE_DAGS"] = str(layout.dags)
        installation, _ = stack.up(layout, environ, dag_ids=(_DAG,))
        settings = Settings.load(environ)
        _lay_releases(settings)
        with AirflowClient(installation.addresses["airflow"], "operator", read_password(layout, "operator")) as client:
            environ["MILLRACE_AIRFLOW_TOKEN"] = client._bearer()["Authorization"].removeprefix("Bearer ")
            in_airflow = _times(settings, repeats, lambda version: _trigger(client, version))
            by_cli = _times(settings, repeats, lambda version: _command(environ, version))
    return [_row("airflow", in_airflow, AIRFLOW_GOAL_S, scale), _row("cli", by_cli, CLI_GOAL_S, scale)]


def _lay_releases(settings: Settings) -> None:
    """Two proven releases with real packages, registered in MLflow, the second one in service."""
    spec = sample.use_case()
    packages = [sample.seal(settings.packages, spec), sample.seal(settings.packages, sample.use_case(rounds=5))]
    _mlflow(settings, "/registered-models/create", name=_UC)
    for version, (package, effective_at) in enumerate(zip(packages, _EFFECTIVE, strict=True), 1):
        _mlflow(settings, "/model-versions/create", name=_UC, source=f"s3://packages/{version}")
        more = {"registry_version": version, "replaces": version - 1}
        release = record_proven(settings, release_of(package, version, effective_at, **more))
    deploy_release(spec, release, settings=settings)


def _mlflow(settings: Settings, path: str, **body: Any) -> None:
    answer = httpx.post(f"{settings.mlflow_url}/api/2.0/mlflow{path}", json=body, trust_env=False, timeout=30)
    if not answer.is_success:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")


def _times(settings: Settings, repeats: int, ask: Callable[[int], Callable[[], None]]) -> list[float]:
    """Seconds of each rollback but the first: from asking until the service answers as the other release."""
    client, seconds = ServiceClient(url=settings.serving_url), []
    for number in range(repeats + 1):
        version = int(client.metadata(_UC)["versions"][0]) % 2 + 1
        began = time.perf_counter()
        finish = ask(version)
        while client.metadata(_UC)["versions"] != [str(version)]:
            if time.perf_counter() - began > 120:
                raise RuntimeError(f"release {version} is not served after 120 s")
            time.sleep(0.02)
        served = time.perf_counter() - began
        finish()
        whole = time.perf_counter() - began
        print(f"release {version} served after {served:.2f} s, over after {whole:.2f} s", file=sys.stderr)
        in_force = Releases(settings).in_force(_UC)
        assert in_force is not None and in_force.version == version
        assert get_aliases(_UC, settings=settings)["champion"] == version
        seconds += [served] if number else []
    return seconds


def _trigger(client: AirflowClient, version: int) -> Callable[[], None]:
    run_id = client.trigger(_DAG, conf={"version": version, "reason": "a benchmark"})["dag_run_id"]

    def finish() -> None:
        ended = client.wait_run(_DAG, run_id, patience_s=120)
        if ended["state"] != "success":
            failed = [task["task_id"] for task in client.tasks(_DAG, run_id) if task["state"] == "failed"]
            raise RuntimeError("\n".join([str(failed), *(client.log(_DAG, run_id, task)[-3000:] for task in failed)]))

    return finish


def _command(environ: dict[str, str], version: int) -> Callable[[], None]:
    """The whole command counts: it ends once the golden rows are proven."""
    words = ["rollback", _UC, "--to", str(version), "--because", "a benchmark", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "millrace.cli.main", *words], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    told = orjson.loads(done.stdout.splitlines()[-1])
    assert told["release"] == version and told["rows"] >= 20 and told["max_abs_diff"] <= 1e-6
    return lambda: None


def _row(name: str, seconds: list[float], goal: float, scale: float) -> Row:
    return Row(
        name=f"rollback.{name}",
        scale=scale,
        ours=statistics.median(seconds),
        unit="s",
        goal=goal,
        goal_kind="absolute",
    )
