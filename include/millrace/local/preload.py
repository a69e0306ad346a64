"""Heavy imports are paid once: what the forkserver imports, from which Airflow forks every worker and task.

CPython's forkserver swallows the ImportError of a preloaded module and dies of any other error, so
`[core] mp_forkserver_preload` names `WARM_MODULE` first: it imports each module by itself and reports those that fail.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

WARM_MODULE = "millrace.local.preloaded"

MODULES: tuple[str, ...] = (
    "airflow",
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "airflow.dag_processing.bundles.local",
    "airflow.serialization.serialized_objects",
    "airflow.providers.openlineage.plugins.openlineage",
    "airflow.providers.openlineage.plugins.listener",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.hitl",
    "airflow.sdk.definitions.decorators",
    "asyncpg",
    "psycopg2.extras",
    "great_expectations",
    "feast",
    "evidently",
    "mlflow",
    "duckdb",
    "xgboost",
    "lightgbm",
)
"""What tasks would otherwise import one by one. Nothing here starts a thread or opens a connection."""


THREADED: tuple[str, ...] = ("polars",)
"""What starts threads when imported (seen: three); mlflow and feast import it where they find it. A task that uses it
imports it itself, after the fork."""


def preload(modules: tuple[str, ...] = MODULES) -> list[str]:
    """Import `modules`, each by itself; returns those that could not be imported."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    started, missing = time.monotonic(), []
    with _hidden(THREADED):
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - the task that needs the module fails with the same error, by name
                _say(f"cannot preload {name}: {error}")
                missing.append(name)
    _say(f"preloaded {len(modules) - len(missing)} modules in {time.monotonic() - started:.1f} s")
    return missing


@contextmanager
def _hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Have `import` of `names` fail for a while."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _say(line: str) -> None:
    print(f"millrace: {line}", file=sys.stderr)  # noqa: T201 - no logging is set up yet; this ends in the scheduler's log
