"""A Ray cluster that runs by itself, as one on other machines would: for tests that name it in a connection."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "0123456789abcdef" * 4
_START_S = 180
_TRIES = 3
_PORTS = range(20_000, 32_000)
"""Neither Ray's workers nor connections that go out are given one of these by themselves."""


class NotStartedError(RuntimeError):
    """The cluster did not come up; the message ends with what it said."""


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
    """Start Ray by its own command, with two cores, asking for a token; it is stopped at the end.

    Raises:
        NotStartedError: three times over.
    """
    with ExitStack() as stack:
        yield _start(stack)


def _start(stack: ExitStack) -> Cluster:
    """A cluster that answers: another one where somebody took a port before Ray did."""
    for left in reversed(range(_TRIES)):
        try:
            return stack.enter_context(_cluster())
        except NotStartedError:
            if not left:
                raise
    raise AssertionError("unreachable")


@contextmanager
def _cluster() -> Iterator[Cluster]:
    folder, home = (Path(tempfile.mkdtemp(prefix=f"ray-{what}-")) for what in ("test", "home"))
    client, head, dashboard, agent = _free_ports(4)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE_", "RAY_"))},
        "HOME": str(home),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += ["--disable-usage-stats", "--object-store-memory=200000000", f"--temp-dir={folder}"]
    command += [f"--port={head}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    log = home / "said.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=variables, cwd=ROOT, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        for port in (client, dashboard, agent):
            _wait_for(port, process, log)
        yield Cluster(client=client, head=head, dashboard=dashboard)
    finally:
        _end(process)
        for left in (folder, home):
            shutil.rmtree(left, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, all different: each is held until the last one is found."""
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port, taken = random.choice(_PORTS), held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("127.0.0.1", port))
                found.append(port)
        return found


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise NotStartedError(f"the cluster did not start: {log.read_text(errors='replace')[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop it with all that it started, also where it ended by itself and left that behind."""
    mine = {one for one in psutil.process_iter() if _is_of(process, one.pid)}
    with contextlib.suppress(psutil.NoSuchProcess):  # jobs have sessions of their own
        mine |= set(psutil.Process(process.pid).children(recursive=True))
    process.terminate()
    left = psutil.wait_procs(mine, timeout=60)[1]
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=20)
    process.wait()


def _is_of(process: subprocess.Popen[bytes], pid: int) -> bool:
    try:
        return os.getsid(pid) == process.pid
    except OSError:
        return False
