"""A Ray cluster that runs by itself, as one on other machines would: for tests that name it in a connection."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "0123456789abcdef" * 4
_START_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where a cluster on this machine's loopback answers.

    Attributes:
        client: port that Ray's clients ask.
        head: port of its head.
        dashboard: port of its dashboard, which takes jobs.
    """

    client: int
    head: int
    dashboard: int

    def connection(self, way: str) -> str:
        """Text of an Airflow connection to it.

        Args:
            way: `client`, `head`, or `jobs`: by the head, and with the address that takes jobs.
        """
        extra = {
            "client": {},
            "head": {"address": f"127.0.0.1:{self.head}"},
            "jobs": {"address": f"127.0.0.1:{self.head}", "jobs": f"http://127.0.0.1:{self.dashboard}"},
        }[way]
        parts = {"conn_type": "ray", "host": "127.0.0.1", "port": self.client, "password": TOKEN, "extra": extra}
        return json.dumps(parts)


@contextmanager
def serve() -> Iterator[Cluster]:
    """Start Ray by its own command, with two cores, asking for a token; it is stopped at the end."""
    folder, home = (Path(tempfile.mkdtemp(prefix=f"ray-{what}-")) for what in ("test", "home"))
    found = Cluster(client=_free_port(), head=_free_port(), dashboard=_free_port())
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_", "RAY_"))},
        "HOME": str(home),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={found.dashboard}"]
    command += ["--disable-usage-stats", "--object-store-memory=200000000", f"--temp-dir={folder}"]
    command += [f"--port={found.head}", f"--ray-client-server-port={found.client}"]
    command += [f"--dashboard-agent-listen-port={_free_port()}"]
    process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for port in (found.client, found.dashboard):
            _wait_for(port, process)
        yield found
    finally:
        mine = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(timeout=60)
        for one in psutil.wait_procs(mine, timeout=20)[1]:
            one.kill()
        for left in (folder, home):
            shutil.rmtree(left, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the cluster did not start") from None
            time.sleep(0.2)
        else:
            return
