"""DAGs of the benchmark `task_start`: a chain of empty tasks, and tasks that import and use a heavy library each."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from airflow.sdk import dag, task

from millrace.settings import settings


def _begin() -> tuple[float, float]:
    return time.time(), _memory_mb("VmRSS")


def _told(begun: tuple[float, float], used: str) -> dict[str, float | str]:
    first_line, before_mb = begun
    return {"first_line": first_line, "used": used, "peak_mb": max(0.0, _memory_mb("VmHWM") - before_mb)}


def _memory_mb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))


@dag(schedule=None, tags=["benchmark"])
def probe_chain() -> None:
    """Eight tasks that do nothing, one after the other."""

    @task
    def nothing() -> None:
        pass

    tasks = [nothing.override(task_id=f"nothing_{number}")() for number in range(8)]
    for before, after in pairwise(tasks):
        before >> after


@dag(schedule=None, tags=["benchmark"])
def probe_start() -> None:
    """One task a library; the clock of a task stops at its first line after the import."""

    @task
    def empty() -> dict[str, float | str]:
        return _told(_begin(), "nothing")

    @task
    def feast() -> dict[str, float | str]:
        from feast import Entity, FeatureStore

        begun = _begin()
        entity = Entity(name="route", join_keys=["route"])
        return _told(begun, f"{FeatureStore.__name__} {entity.join_key}")

    @task
    def great_expectations() -> dict[str, float | str]:
        import great_expectations as gx

        begun = _begin()
        wanted = gx.expectations.ExpectColumnValuesToNotBeNull(column="a")
        suite = gx.ExpectationSuite(name="probe", expectations=[wanted])
        return _told(begun, f"{len(suite.expectations)} expectation")

    @task
    def mlflow() -> dict[str, float | str]:
        from mlflow import MlflowClient

        begun = _begin()
        found = MlflowClient(settings().mlflow_url).search_experiments()
        return _told(begun, f"{len(found)} experiment")

    @task
    def evidently() -> dict[str, float | str]:
        import pandas as pd
        from evidently import Report
        from evidently.metrics import RowCount

        begun = _begin()
        Report([RowCount()]).run(pd.DataFrame({"a": [1.0, 2.0]}), None)
        return _told(begun, "a report")

    empty() >> feast() >> great_expectations() >> mlflow() >> evidently()


probe_chain()
probe_start()
