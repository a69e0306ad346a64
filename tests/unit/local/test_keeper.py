"""The keeper, with small real processes: order, restarts, giving up, leaving nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from millrace.local import process
from millrace.local.layout import Layout
from millrace.local.record import Record, read_record

_PATIENCE_S = 120.0
_DRIVER = """
import os, signal, sys
from pathlib import Path
from millrace.local import process
from millrace.local.keeper import Keeper
from millrace.local.layout import Layout
from millrace.local.service import Service
var = Path(sys.argv[1])
layout = Layout(root=var.parent, var=var, dags=var)
process.adopt_orphans()
def run(name, code, **more):
    return Service(name=name, argv=[sys.executable, "-c", code], env={}, patience_s=1.0, **more)
SLEEP = "import time; time.sleep(600)"
services = eval(sys.argv[2])
keeper = Keeper(layout, services, dict(os.environ))
signal.signal(signal.SIGTERM, keeper.stop_soon)
try:
    keeper.run()
except Exception as error:
    print(error); sys.exit(1)
"""


class _Run:
    """A keeper in a process of its own."""

    def __init__(self, tmp_path: Path, services: str, before: str = "") -> None:
        self.layout = Layout(root=tmp_path, var=tmp_path / "var", dags=tmp_path)
        self.layout.create()
        command = [
            sys.executable,
            "-c",
            _DRIVER.replace("services = eval", before + "services = eval"),
            str(self.layout.var),
            services,
        ]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def record(self) -> Record:
        found = read_record(self.layout)
        assert found is not None
        return found

    def wait(self, **states: str) -> Record:
        def reached() -> bool:
            found = read_record(self.layout)
            return found is not None and all(found.services[name].state == state for name, state in states.items())

        self.until(reached)
        return self.record()

    def until(self, reached: Callable[[], bool]) -> None:
        assert process.wait_until(reached, _PATIENCE_S), read_record(self.layout)

    def stop(self) -> None:
        self.popen.send_signal(signal.SIGTERM)
        assert self.popen.wait(_PATIENCE_S) == 0

    def end(self) -> None:
        """Whatever the test came to: the keeper is gone, and its services end with it."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


Start = Callable[..., _Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[_Run] = []

    def begin(services: str, **more: str) -> _Run:
        runs.append(_Run(tmp_path, services, **more))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_service_waits_for_the_job_before_it(tmp_path: Path, start: Start) -> None:
    marker = tmp_path / "done"
    job = f"import time, pathlib; time.sleep(.5); pathlib.Path({str(marker)!r}).touch()"
    then = f"import pathlib, time; assert pathlib.Path({str(marker)!r}).exists(); time.sleep(600)"
    run = start(f"[run('job', {job!r}, once=True), run('then', {then!r}, after=('job',))]")
    record = run.wait(job="done", then="running")
    assert record.services["then"].restarts == 0
    run.stop()
    assert run.record().state == "stopped"


def test_a_killed_service_is_started_again(start: Start) -> None:
    run = start("[run('one', SLEEP)]")
    first = run.wait(one="running").services["one"].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    run.until(lambda: run.record().services["one"].restarts == 1)
    second = run.wait(one="running").services["one"].pid
    assert second != first
    run.stop()


def test_it_gives_up_on_what_dies_again_and_again_and_names_the_log(start: Start) -> None:
    run = start("[run('good', SLEEP), run('bad', 'raise SystemExit(\"no database\")', after=('good',))]")
    out, _ = run.popen.communicate(timeout=_PATIENCE_S)
    assert run.popen.returncode == 1
    assert "bad ended with 1" in out
    assert "no database" in out
    assert str(run.layout.log("bad")) in out
    record = run.record()
    assert record.state == "failed"
    assert record.services["good"].state == "stopped"


def test_a_service_that_dies_before_its_start_is_over_is_noticed(start: Start) -> None:
    slow = """
start = process.start
def start_slowly(*args, **kwargs):
    found = start(*args, **kwargs)
    os.waitid(os.P_PID, found[0].pid, os.WEXITED | os.WNOWAIT)
    return found
process.start = start_slowly
"""
    run = start("[run('bad', 'raise SystemExit(3)')]", before=slow)
    out, _ = run.popen.communicate(timeout=_PATIENCE_S)
    assert (run.popen.returncode, "bad ended with 3" in out) == (1, True)


def test_a_service_that_dies_while_another_one_starts_is_noticed(start: Start) -> None:
    killing = """
start, first = process.start, []
def kill_the_first_and_start(argv, **kwargs):
    if "two" in argv[-1]:
        os.kill(first[0].pid, signal.SIGKILL)
        os.waitid(os.P_PID, first[0].pid, os.WEXITED | os.WNOWAIT)
    found = start(argv, **kwargs)
    first.append(found[1])
    return found
process.start = kill_the_first_and_start
"""
    run = start("[run('one', SLEEP), run('two', SLEEP + '  # two', after=('one',))]", before=killing)
    run.wait(two="running", one="running")
    run.until(lambda: run.record().services["one"].restarts == 1)
    run.stop()


def test_stopping_leaves_no_descendant_not_even_a_stubborn_one_in_its_own_session(tmp_path: Path, start: Start) -> None:
    pids = tmp_path / "pids"
    stubborn = f"""
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
draft = pathlib.Path({str(tmp_path / "draft")!r})
draft.write_text(str(os.getpid()))
draft.rename({str(pids)!r})
time.sleep(600)
"""
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {stubborn!r}], start_new_session=True)
time.sleep(600)
"""
    run = start(f"[run('one', {code!r})]")
    run.wait(one="running")
    run.until(pids.exists)
    child = int(pids.read_text())
    run.stop()
    assert _gone(child)


def test_children_end_when_the_keeper_is_killed(start: Start) -> None:
    run = start("[run('one', SLEEP)]")
    pid = run.wait(one="running").services["one"].pid
    assert pid is not None
    run.popen.kill()
    run.popen.wait(_PATIENCE_S)
    run.until(lambda: _gone(pid))


def test_a_recycled_pid_is_never_taken_for_ours() -> None:
    me = psutil.Process()
    assert process.Identity(pid=me.pid, started=me.create_time()).find() is not None
    impostor = process.Identity(pid=me.pid, started=me.create_time() - 100)
    assert impostor.find() is None
    assert impostor.was_replaced()
    assert process.members([impostor]) == []


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"state": 1}'])
def test_a_damaged_record_reads_as_none(tmp_path: Path, content: bytes) -> None:
    layout = Layout(root=tmp_path, var=tmp_path / "var", dags=tmp_path)
    layout.create()
    layout.state.write_bytes(content)
    assert read_record(layout) is None
