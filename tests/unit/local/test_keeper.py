"""The keeper, with small real processes: order, restarts, giving up, leaving nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from millrace.local import process
from millrace.local.layout import Layout
from millrace.local.record import Record, read_record

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

        assert process.wait_until(reached, 15.0), json.dumps(str(read_record(self.layout)))
        return self.record()

    def stop(self) -> None:
        self.popen.send_signal(signal.SIGTERM)
        assert self.popen.wait(60) == 0


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_service_waits_for_the_job_before_it(tmp_path: Path) -> None:
    marker = tmp_path / "done"
    job = f"import time, pathlib; time.sleep(.5); pathlib.Path({str(marker)!r}).touch()"
    then = f"import pathlib, time; assert pathlib.Path({str(marker)!r}).exists(); time.sleep(600)"
    run = _Run(tmp_path, f"[run('job', {job!r}, once=True), run('then', {then!r}, after=('job',))]")
    record = run.wait(job="done", then="running")
    assert record.services["then"].restarts == 0
    run.stop()
    assert run.record().state == "stopped"


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    run = _Run(tmp_path, "[run('one', SLEEP)]")
    first = run.wait(one="running").services["one"].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert process.wait_until(lambda: run.record().services["one"].restarts == 1, 10.0)
    second = run.wait(one="running").services["one"].pid
    assert second != first
    run.stop()


def test_it_gives_up_on_what_dies_again_and_again_and_names_the_log(tmp_path: Path) -> None:
    run = _Run(tmp_path, "[run('good', SLEEP), run('bad', 'raise SystemExit(\"no database\")', after=('good',))]")
    out, _ = run.popen.communicate(timeout=120)
    assert run.popen.returncode == 1
    assert "bad ended with 1" in out
    assert "no database" in out
    assert str(run.layout.log("bad")) in out
    record = run.record()
    assert record.state == "failed"
    assert record.services["good"].state == "stopped"


def test_a_service_that_dies_before_its_start_is_over_is_noticed(tmp_path: Path) -> None:
    slow = """
import time
start = process.start
def start_slowly(*args, **kwargs):
    found = start(*args, **kwargs)
    time.sleep(0.2)
    return found
process.start = start_slowly
"""
    run = _Run(tmp_path, "[run('bad', 'raise SystemExit(3)')]", before=slow)
    out, _ = run.popen.communicate(timeout=60)
    assert (run.popen.returncode, "bad ended with 3" in out) == (1, True)


def test_a_service_that_dies_while_another_one_starts_is_noticed(tmp_path: Path) -> None:
    killing = """
import time
start, first = process.start, []
def kill_the_first_and_start(argv, **kwargs):
    if "two" in argv[-1]:
        os.kill(first[0].pid, signal.SIGKILL)
        time.sleep(0.2)
    found = start(argv, **kwargs)
    first.append(found[1])
    return found
process.start = kill_the_first_and_start
"""
    run = _Run(tmp_path, "[run('one', SLEEP), run('two', SLEEP + '  # two', after=('one',))]", before=killing)
    record = run.wait(two="running", one="running")
    assert process.wait_until(lambda: run.record().services["one"].restarts == 1, 15.0), record
    run.stop()


def test_stopping_leaves_no_descendant_not_even_a_stubborn_one_in_its_own_session(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    code = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {stubborn!r}], start_new_session=True)
pathlib.Path({str(pids)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    run = _Run(tmp_path, f"[run('one', {code!r})]")
    run.wait(one="running")
    assert process.wait_until(lambda: pids.exists() and bool(pids.read_text()), 10.0)
    time.sleep(0.3)
    child = int(pids.read_text())
    run.stop()
    assert _gone(child)


def test_children_end_when_the_keeper_is_killed(tmp_path: Path) -> None:
    run = _Run(tmp_path, "[run('one', SLEEP)]")
    pid = run.wait(one="running").services["one"].pid
    assert pid is not None
    run.popen.kill()
    run.popen.wait(60)
    assert process.wait_until(lambda: _gone(pid), 5.0)


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
