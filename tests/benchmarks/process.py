"""Fresh processes and what they cost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]
_STATUS = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def peak_mb(pid: int | str = "self") -> float:
    """Greatest resident memory a process had so far, in MB (what it had before an `exec` is not counted)."""
    found = _STATUS.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def run_python(*words: str, env: dict[str, str] | None = None, timeout_s: float = 1800.0) -> Any:
    """Run `python …` from the checkout in a process of its own; the JSON document on its last line.

    Raises:
        RuntimeError: it failed; the message ends with what it said last.
    """
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"python {' '.join(words)[:200]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return orjson.loads(done.stdout.splitlines()[-1])
