"""The environment of every component: addresses, Airflow's configuration, and silence towards the outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from millrace.local.layout import Layout
from millrace.local.memory import memory_environment
from millrace.local.openlineage import openlineage_options
from millrace.local.port import LOOPBACK, Ports
from millrace.local.preload import MODULES, WARM_MODULE

SILENCE: dict[str, str] = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
"""No telemetry, no download, no update check, from any library of the lock."""

_LINGER = 3
"""Workers a task slot. A worker that misses the exit of its task process waits for `min_heartbeat_interval` until it is
free again (seen on 3.3.2: queues of up to 2 s); what runs at once is limited by the default pool."""
_FOREIGN = (
    *("AIRFLOW", "MLFLOW_", "FEAST_", "OPENLINEAGE_", "GX_", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "PG"),
    "MILLRACE_AIRFLOW_TOKEN",  # a person's own; what the services do is not done by whoever started them
)
_PASSED_ON = (
    "LAKE",
    "PACKAGES",
    "REPORTS",
    "FEATURE_REPO",
    "ONLINE_STORE",
    "READERS",
    "SERVING_DIR",
    "STATE_URL",
    "REGISTRY_URL",
)
_PACE: dict[str, dict[str, object]] = {
    "scheduler": {
        "scheduler_idle_sleep_time": 0.1,
        "task_instance_heartbeat_timeout": 60,
        "orphaned_tasks_check_interval": 30,
        "trigger_timeout_check_interval": 5,
        "enable_health_check": False,
    },
    "dag_processor": {
        "parsing_processes": 1,
        "min_file_process_interval": 30,
        "bundle_refresh_check_interval": 5,
        "dag_file_processor_timeout": 180,  # the same process sends the alert of a failed run
        "refresh_interval": 5,
    },
    "workers": {
        "min_heartbeat_interval": 1,
        "execution_api_timeout": 30,
        "execution_api_retry_wait_max": 10,
        "missing_dag_retry_delay": 5,
    },
}
"""How often Airflow's loops look, and how long they wait."""


def inherit_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What components take over from the caller: everything but the settings of another Airflow, MLflow or Postgres."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_FOREIGN)}
    local = f"{LOOPBACK},localhost,::1"
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = f"{kept[name]},{local}" if kept.get(name) else local
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept


def common_environment(
    layout: Layout, ports: Ports, databases: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """What every component, the CLI and a notebook need to find this installation.

    Args:
        layout: paths.
        ports: chosen ports.
        databases: SQLAlchemy URL by database name.
        environ: the caller's environment; `MILLRACE_LAKE` and the like in it are kept for all components.
    """
    passed = {f"MILLRACE_{name}": value for name in _PASSED_ON if (value := environ.get(f"MILLRACE_{name}"))}
    return {
        "MILLRACE_ROOT": str(layout.root),
        "MILLRACE_VAR": str(layout.var),
        "MILLRACE_DAGS": str(layout.dags),
        "MILLRACE_STATE_URL": databases["millrace"],
        "MILLRACE_REGISTRY_URL": databases["feast"],
        "MILLRACE_MLFLOW_URL": f"http://{LOOPBACK}:{ports.mlflow}",
        "MILLRACE_SERVING_URL": f"http://{LOOPBACK}:{ports.serving}",
        "MILLRACE_AIRFLOW_URL": f"http://{LOOPBACK}:{ports.airflow}",
        **passed,
        "MLFLOW_TRACKING_URI": f"http://{LOOPBACK}:{ports.mlflow}",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(layout.var / "tmp" / "matplotlib"),
        "PYTHONUNBUFFERED": "1",
        # OpenMP threads that spin while they wait take the cores from each other: 5 to 25 times slower when two train.
        "OMP_WAIT_POLICY": environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        **memory_environment(environ),
        **SILENCE,
    }


def airflow_environment(
    layout: Layout,
    ports: Ports,
    databases: Mapping[str, str],
    secrets: Mapping[str, str],
    parallelism: int,
    *,
    users: Mapping[str, str],
    environ: Mapping[str, str],
) -> dict[str, str]:
    """Airflow's configuration as environment variables; there is no `airflow.cfg` to edit.

    Args:
        layout: paths.
        ports: chosen ports.
        databases: SQLAlchemy URL by database name.
        secrets: `fernet_key`, `jwt_secret`, `api_secret_key` and the path `passwords_file`.
        parallelism: tasks at once: the slots that the default pool is created with.
        users: role by user.
        environ: the caller's environment, which may say where lineage goes.
    """
    sections: dict[str, dict[str, object]] = {
        "core": {
            **_core(layout, ports, parallelism),
            "fernet_key": secrets["fernet_key"],
            "simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in users.items()),
            "simple_auth_manager_passwords_file": secrets["passwords_file"],
        },
        "database": {
            "sql_alchemy_conn": databases["airflow"],
            "sql_alchemy_conn_async": databases["airflow"].replace("+psycopg2", "+asyncpg"),
        },
        **_PACE,
        "api": {
            "host": LOOPBACK,
            "port": ports.airflow,
            "base_url": _address(ports),
            "workers": 1,
            "secret_key": secrets["api_secret_key"],
            "instance_name": "Millrace",
        },
        "api_auth": {"jwt_secret": secrets["jwt_secret"]},
        "logging": _logging(layout),
        "openlineage": openlineage_options(layout, environ),
    }
    named = {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, options in sections.items()
        for option, value in options.items()
    }
    return {"AIRFLOW_HOME": str(layout.airflow), **named}


def _address(ports: Ports) -> str:
    return f"http://{LOOPBACK}:{ports.airflow}"


def _core(layout: Layout, ports: Ports, parallelism: int) -> dict[str, object]:
    """How tasks are found and started."""
    return {
        "executor": "LocalExecutor",
        "parallelism": parallelism * _LINGER,
        "default_pool_task_slot_count": parallelism,
        "dags_folder": layout.dags,
        "plugins_folder": layout.root / "plugins",
        "load_examples": False,
        "dags_are_paused_at_creation": False,
        "hostname_callable": "millrace.local.port.host_name",
        "mp_start_method": "forkserver",
        "mp_forkserver_preload": ",".join((WARM_MODULE, *MODULES)),
        "execution_api_server_url": f"{_address(ports)}/execution/",
        "min_serialized_dag_update_interval": 5,
        "killed_task_cleanup_time": 20,
    }


def _logging(layout: Layout) -> dict[str, object]:
    return {
        "base_log_folder": layout.airflow / "logs",
        "dag_processor_child_process_log_directory": layout.airflow / "logs" / "dag_processor",
        "colored_console_log": False,
        "uvicorn_logging_level": "WARNING",
        "namespace_levels": "great_expectations=WARNING alembic=WARNING",
    }
