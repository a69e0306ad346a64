"""The memory that work takes, seen from outside, in a process of its own whose allocators keep nothing for later."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[1]
LENDING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""What is freed goes back at once: a peak is then what the work holds, the same to a few megabytes each time."""
READY = 'print("ready", flush=True); sys.stdin.readline()'
"""Said by a program, which has imported `sys`, where its work begins; what it takes before that does not count."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@dataclass(frozen=True)
class Taken:
    """What a program said in its last line, and the most memory it took beyond what it had when it was ready.

    Attributes:
        peak: bytes that are of no file.
        told: the JSON document.
    """

    peak: int
    told: dict[str, Any]

    @property
    def peak_mb(self) -> float:
        return self.peak / 1e6


def take(code: str, *words: str, folder: Path, env: dict[str, str] | None = None) -> Taken:
    """Run a Python program that says `READY` and ends with a line of JSON.

    Args:
        code: the program; `sys.argv[1:]` are the words.
        words: what it is told.
        folder: where its output is kept; it exists.
        env: variables beside those of this process.

    Raises:
        AssertionError: it failed; with what it said.
    """
    out, err = folder / "taken.out", folder / "taken.err"
    with (
        out.open("wb") as stdout,
        err.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            cwd=ROOT,
            env={**os.environ, **LENDING, **(env or {})},
        ) as process,
    ):
        try:
            peak = _watch(process, out)
        finally:
            process.kill()
    assert process.returncode == 0, err.read_text()
    return Taken(peak, orjson.loads(out.read_bytes().splitlines()[-1]))


def anonymous(pid: int) -> int:
    """Resident memory that is of no file, in bytes; 0 once the process is over."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _watch(process: subprocess.Popen[bytes], out: Path) -> int:
    while b"ready\n" not in out.read_bytes():
        if _ended(process, 0.05):
            return 0
    before = peak = anonymous(process.pid)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    while not _ended(process, 0.005):
        peak = max(peak, anonymous(process.pid))
    return peak - before


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
