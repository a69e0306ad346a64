"""An embedded installation of a benchmark's own, and the memory its processes take."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

from millrace.local import stack
from millrace.local.layout import Layout
from millrace.local.record import read_record
from tests.benchmarks.process import ROOT

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_EVERY_S = 4.0


def make_layout(name: str, dags: Path) -> Layout:
    """Where a benchmark's installation lives: beside that of the tests, away from `var/`'s own."""
    var = Path(os.environ.get("MILLRACE_TEST_VAR") or ROOT / "var" / "test").resolve()
    return Layout(root=ROOT, var=var / "bench" / name, dags=dags)


@contextmanager
def cleaned(layout: Layout) -> Iterator[Layout]:
    """Nothing of it before, nothing after: everything is stopped and removed, whatever happens."""
    stack.clean(layout)
    try:
        yield layout
    finally:
        stack.clean(layout)


class MemoryWatch:
    """Proportional memory of all processes of an installation, sampled in the background.

    Attributes:
        peak_mb: greatest sum seen.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.peak_mb = layout, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def now_mb(self) -> float:
        """The sum at this moment; 0 where nothing runs."""
        record = read_record(self.layout)
        if record is None or (supervisor := record.supervisor.find()) is None:
            return 0.0
        try:
            processes = [supervisor, *supervisor.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0.0
        return sum(_proportional_mb(process.pid) for process in processes)

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.peak_mb = max(self.peak_mb, self.now_mb())


def _proportional_mb(pid: int) -> float:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:  # it ended meanwhile, or is another user's
        return 0.0
    return int(found[1]) / 1024 if found else 0.0
