"""What people do in the running Airflow: wait to be asked, and act by the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from millrace.local.prepare import read_password
from tests.system.conftest import Running


def wait_for_request(client: Any, run: dict[str, Any], *, after: int = 0) -> str:
    """Task id of the approval that waits, asked for more than `after` times."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        # Airflow shows the request before the task is parked, and its executor knows the parked process for longer:
        # an answer given in between, faster than any person, is never picked up (Airflow 3.3.2).
        tasks = client.tasks(run["dag_id"], run["dag_run_id"])
        waiting = [task for task in tasks if task["state"] == "awaiting_input" and task["try_number"] > after]
        if parked := [task["task_id"] for task in waiting]:
            time.sleep(4)
            return str(parked[0])
        state = client.run(run["dag_id"], run["dag_run_id"])["state"]
        assert state in {"queued", "running"}, state
        time.sleep(0.3)
    raise AssertionError("no approval was asked for within three minutes")


def log_in(running: Running, user: str, home: Path) -> dict[str, str]:
    """Log in by the command line; the environment in which commands bear the user's name."""
    environ = {**running.environ, "XDG_CONFIG_HOME": str(home)}
    answer = f"{read_password(running.layout, user)}\n"
    done = millrace(environ, "login", "--user", user, answer=answer)
    assert (done.returncode, f"as {user}" in done.stdout) == (0, True), done.stderr
    return environ


def millrace(environ: dict[str, str], *command: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """One command of `millrace`, to its end."""
    argv = [sys.executable, "-m", "millrace.cli.main", *command]
    return subprocess.run(argv, env=environ, input=answer, capture_output=True, text=True, timeout=120, check=False)
