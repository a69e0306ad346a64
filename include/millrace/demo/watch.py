"""Starting DAG runs and waiting for those that follow from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.errors import ServiceError
from millrace.local.airflow_client import AirflowClient

Json = dict[str, Any]
_PAUSE_S = 0.25
_PATIENCE_S = 600.0
_LOOK_S = 2.0
_OVER = {"success", "failed", "upstream_failed", "skipped", "removed"}
Tell = Callable[[str], None]


@dataclass(slots=True)
class RunWatcher:
    """Triggers runs, waits for them and for the runs that assets start, and remembers all it saw.

    Attributes:
        client: Airflow.
        logs: folder of Airflow's task logs, for error messages.
        ended: every run that was waited for, in order of its end.
    """

    client: AirflowClient
    logs: str
    ended: list[Json] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def remember(self, *dag_ids: str) -> None:
        """Take the runs there are already as known, so that only new ones are waited for."""
        for dag_id in dag_ids:
            self._seen |= {(dag_id, run["dag_run_id"]) for run in self.client.runs(dag_id)}

    def settle(
        self, *dag_ids: str, patience_s: float = _PATIENCE_S, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        """Wait until nothing of these DAGs is under way: what an interruption stopped goes on when Airflow is back.

        Airflow refuses a second backfill of a DAG, and leaves out partitions that are in flight.

        Raises:
            ServiceError: something is still under way after that time.
        """
        end, told = time.monotonic() + patience_s, False
        while busy := [name for dag_id in dag_ids for name in self._under_way(dag_id)]:
            if not told:
                tell(f"waiting for {busy[0]}")
                told = True
            if time.monotonic() > end:
                raise ServiceError(
                    f"still under way after {patience_s:.0f} s: {', '.join(busy[:5])}",
                    where="runs of an earlier story",
                    remedy="unpause the DAG in Airflow, or mark the run as failed there; then run `make demo` again",
                )
            time.sleep(4 * _PAUSE_S)

    def trigger(self, dag_id: str, partition: str, *, tell: Tell | None = None) -> Json:
        """Start a run of a partition and wait for its end; `tell` is called with each step that ends."""
        run = self.client.trigger(dag_id, partition_key=partition)
        self._seen.add((dag_id, run["dag_run_id"]))
        return self._wait(dag_id, run["dag_run_id"], tell)

    def backfill(self, dag_id: str, first: datetime, last: datetime) -> None:
        """Have a DAG run for all partitions by Airflow's backfill, one after the other; `next_run` waits for each."""
        self.client.backfill(dag_id, first, last, max_active_runs=1, reprocess="completed")

    def next_run(self, dag_id: str, partition: str, *, patience_s: float = 120.0, tell: Tell | None = None) -> Json:
        """Wait for a run of this partition that was not there before, to start and to end.

        Args:
            dag_id: its DAG.
            partition: its partition.
            patience_s: seconds until it must have been started.
            tell: is called with each step of it that ends.

        Raises:
            ServiceError: none was started, or it failed.
        """
        end = time.monotonic() + patience_s
        while True:
            for run in self._latest(dag_id):
                if run["partition_key"] == partition and (dag_id, run["dag_run_id"]) not in self._seen:
                    self._seen.add((dag_id, run["dag_run_id"]))
                    return self._wait(dag_id, run["dag_run_id"], tell)
            if time.monotonic() > end:
                raise ServiceError(
                    f"no run of {dag_id} for {partition} was started within {patience_s:.0f} s",
                    where=f"DAG {dag_id}",
                    remedy="is the DAG paused? `make status` shows the scheduler; its log is var/logs/scheduler.log",
                )
            time.sleep(_PAUSE_S)

    def result(self, run: Json, task_id: str) -> Any:
        """What a task of a run returned."""
        return self.client.xcom(run["dag_id"], run["dag_run_id"], task_id)

    def _under_way(self, dag_id: str) -> list[str]:
        runs = self.client.runs(dag_id, states=("queued", "running"))
        names = [f"{dag_id} {run.get('partition_key') or run['dag_run_id']}" for run in runs]
        return names + [f"backfill {item['id']} of {dag_id}" for item in self.client.open_backfills(dag_id)]

    def _latest(self, dag_id: str) -> list[Json]:
        page = self.client.get(f"/api/v2/dags/{dag_id}/dagRuns", order_by="-id", limit=12)
        runs: list[Json] = page["dag_runs"]
        return runs[::-1]

    def _wait(self, dag_id: str, run_id: str, tell: Tell | None = None) -> Json:
        told: set[str] = set()
        due = 0.0

        def look(run: Json) -> None:
            nonlocal due
            if tell is None or (time.monotonic() < due and run["state"] not in _OVER):
                return
            due = time.monotonic() + _LOOK_S
            for step, line in ended_steps(self.client.tasks(dag_id, run_id)).items():
                if step not in told:
                    told.add(step)
                    tell(line)

        run = self.client.wait_run(dag_id, run_id, patience_s=_PATIENCE_S, pause_s=_PAUSE_S, watch=look)
        self.ended.append(run)
        if run["state"] != "success":
            raise self._failure(run)
        return run

    def _failure(self, run: Json) -> ServiceError:
        dag_id, run_id = run["dag_id"], run["dag_run_id"]
        failed = [task for task in self.client.tasks(dag_id, run_id) if task["state"] == "failed"]
        if not failed:
            return ServiceError(
                f"{dag_id} for {run.get('partition_key')} ended {run['state']}, with no failed task",
                where=f"run {run_id}",
                remedy="open the run in Airflow's grid",
            )
        task = failed[0]
        index = "" if task["map_index"] == -1 else f"/map_index={task['map_index']}"
        folder = f"{self.logs}/dag_id={dag_id}/run_id={run_id}/task_id={task['task_id']}{index}"
        return ServiceError(
            f"stage {task['task_id']} of {dag_id} failed for partition {run.get('partition_key')}",
            where=f"{folder}/attempt={task['try_number']}.log",
            remedy="the last lines of that log name the cause and what mends it; then run `make demo` again",
        )


def ended_steps(tasks: list[Json]) -> dict[str, str]:
    """Task → what is told of it, for tasks all of whose instances ended and that did something; by their end.

    Args:
        tasks: task instances of one run, as Airflow's API has them.
    """
    by_task: dict[str, list[Json]] = {}
    for item in tasks:
        by_task.setdefault(item["task_id"], []).append(item)
    ended = []
    for name, items in by_task.items():
        ran = [item for item in items if item["state"] in {"success", "failed"} and item["end_date"]]
        if not ran or any(item["state"] not in _OVER for item in items):
            continue
        failed = sum(item["state"] == "failed" for item in ran)
        count = f" ({len(ran)})" if len(ran) > 1 else ""
        ended.append((max(item["end_date"] for item in ran), name, f"{name}{count}{' FAILED' if failed else ''}"))
    return {name: line for _, name, line in sorted(ended)}
