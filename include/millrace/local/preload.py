"""Heavy imports are paid once: what the forkserver imports, from which Airflow forks every worker and task.

CPython's forkserver swallows the ImportError of a preloaded module and dies of any other error, so
`[core] mp_forkserver_preload` names `WARM_MODULE` first: it imports each module by itself and reports those that fail.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time

_log = logging.getLogger(__name__)

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
)
"""What tasks would otherwise import one by one. Nothing here starts a thread or opens a connection."""


def preload(modules: tuple[str, ...] = MODULES) -> list[str]:
    """Import `modules`, each by itself; returns those that could not be imported."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    started, missing = time.monotonic(), []
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - the task that needs the module fails with the same error, by name
            print(f"millrace: cannot preload {name}: {error}", file=sys.stderr)  # noqa: T201 - no logging is set up yet
            missing.append(name)
    took = time.monotonic() - started
    print(f"millrace: preloaded {len(modules) - len(missing)} modules in {took:.1f} s", file=sys.stderr)  # noqa: T201
    return missing
