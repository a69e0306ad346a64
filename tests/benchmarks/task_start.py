"""Seconds from queued to the first line of a task's own work, and of a chain of empty tasks, in embedded Airflow."""

from __future__ import annotations

import os
import shutil
import statistics
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.local import stack
from millrace.local.airflow_client import AirflowClient
from millrace.local.prepare import read_password
from tests.benchmarks.own_stack import cleaned, make_layout
from tests.benchmarks.process import ROOT
from tests.benchmarks.row import Row

START_GOAL_S, CHAIN_GOAL_S, CHAIN_TASKS = 1.0, 6.0, 8
_REPEATS = 5
_DAGS = ("probe_chain", "probe_start")
_SOURCE = Path(__file__).parent / "dags" / "task_start_probe.py"


def run(scale: float) -> list[Row]:
    """One warm-up of each DAG, then five runs of each (times `scale`), one at a time."""
    repeats = max(3, round(_REPEATS * scale))
    var = make_layout("task_start", ROOT).var
    layout = make_layout("task_start", var / "dags")
    with cleaned(layout):
        layout.create()
        layout.dags.mkdir(parents=True)
        shutil.copy(_SOURCE, layout.dags)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        installation, _ = stack.up(layout, environ, dag_ids=_DAGS)
        with AirflowClient(installation.addresses["airflow"], "admin", read_password(layout)) as client:
            chains: list[float] = []
            starts: dict[str, list[float]] = defaultdict(list)
            peaks: dict[str, float] = defaultdict(float)
            for number in range(repeats + 1):
                chain, start = (_finished(client, dag_id) for dag_id in _DAGS)
                if number == 0:
                    continue
                chains.append(_moment(chain["end_date"]) - _moment(chain["queued_at"]))
                for task in client.tasks("probe_start", start["dag_run_id"]):
                    told = client.xcom("probe_start", start["dag_run_id"], task["task_id"])
                    starts[task["task_id"]].append(told["first_line"] - _moment(task["queued_when"]))
                    peaks[task["task_id"]] = max(peaks[task["task_id"]], told["peak_mb"])
    rows = [
        Row(
            name=f"task_start.chain_{CHAIN_TASKS}",
            scale=scale,
            ours=statistics.median(chains),
            unit="s",
            goal=CHAIN_GOAL_S,
            goal_kind="absolute",
        )
    ]
    rows += [
        Row(
            name=f"task_start.{task}",
            scale=scale,
            ours=statistics.median(seconds),
            other=statistics.median(starts["empty"]),
            other_is="a task that does nothing",
            unit="s",
            goal=START_GOAL_S,
            goal_kind="absolute",
            peak_mb=peaks[task],
        )
        for task, seconds in sorted(starts.items())
    ]
    return rows


def _finished(client: AirflowClient, dag_id: str) -> dict[str, Any]:
    started = client.trigger(dag_id)
    run = client.wait_run(dag_id, started["dag_run_id"], patience_s=300.0, pause_s=0.2)
    if run["state"] != "success":
        failed = [task["task_id"] for task in client.tasks(dag_id, run["dag_run_id"]) if task["state"] == "failed"]
        logs = [client.log(dag_id, run["dag_run_id"], task)[-1500:] for task in failed]
        raise RuntimeError("\n".join([f"{dag_id} {run['state']}: {', '.join(failed) or 'no task failed'}", *logs]))
    return run


def _moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
