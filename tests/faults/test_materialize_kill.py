"""Materialization, killed anywhere, met by others or left by its store: running it again is exact."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import redis_server
from tests.faults.points import KILLED
from tests.unit.levels import PARTITIONS, Fact, answers, make_plant, write_facts

from millrace.errors import OnlineStoreUnavailableError
from millrace.features import materialization
from millrace.governance.materialization import Materialization, Materializations
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.materialization import materialize_view

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]
MANY = [f"k{number}" for number in range(40_000)]
WORKER = """
import json, sys
from tests.faults.points import Points
from tests.unit.levels import make_plant

from millrace.features import materialization, newest
from millrace.governance.materialization import Materializations
from millrace.online import redis_writer, sqlite_writer
from millrace.settings import Settings
from millrace.step.materialization import materialize_view

var, online, partition, die_at = sys.argv[1:5]
settings = Settings.load({"MILLRACE_VAR": var, "MILLRACE_DAGS": var, "MILLRACE_ONLINE_STORE": online})
points = Points(int(die_at))
for owner, name in (
    (Materializations, "begin"),
    (Materializations, "finish"),
    (sqlite_writer.SQLiteWriter, "write"),
    (materialization._Progress, "_count"),
):
    points.around(owner, name)
domain = make_plant(settings.sql_folder)
print("started", flush=True)
found = materialize_view(domain, "long", partition, settings=settings)
print(json.dumps({"events": points.events, "report": found.to_dict()}), flush=True)
"""


def start(settings: Settings, partition: str, *, die_at: int = -1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(settings.var), settings.online_store, partition, str(die_at)]
    beside = {**os.environ, "TMPDIR": str(settings.var)}  # a killed process takes nothing away
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=beside)


def finish(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == code, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1]) if not code else {}
    return found


def place(var: Path, online: str = "") -> Settings:
    """An installation as the worker sees it."""
    var.mkdir(exist_ok=True)
    environment = {"MILLRACE_VAR": str(var), "MILLRACE_DAGS": str(var)}
    return Settings.load({**environment, **({"MILLRACE_ONLINE_STORE": online} if online else {})})


def day(partition: str, *, level: float = 0.0, keys: str = "abc") -> list[Fact]:
    hour = 24 * PARTITIONS.index(partition)
    return [(key, hour + number, hour + 2 * number, level + number) for number, key in enumerate(keys)]


def prepare(settings: Settings, work: str) -> DomainSpec:
    """What stands before the run that is killed: nothing online, or a day; then a day more, or one that changed."""
    domain = make_plant(settings.sql_folder)
    write_facts(settings, domain, "long", PARTITIONS[0], day(PARTITIONS[0], keys="abcd"))
    if work != "first":
        materialize_view(domain, "long", PARTITIONS[0], settings=settings)
        write_facts(settings, domain, "long", PARTITIONS[1], day(PARTITIONS[1]))
    if work == "late":
        write_facts(settings, domain, "long", PARTITIONS[0], day(PARTITIONS[0], level=50.0))
    return domain


def outcome(settings: Settings) -> Any:
    record = Materializations(settings, settings.online_store).get("long")
    assert isinstance(record, Materialization)
    return answers(settings, "long"), record


@pytest.mark.parametrize("work", ["first", "increment", "late"])
def test_killed_at_any_point_and_run_again_it_ends_as_a_clean_run_does(tmp_path: Path, work: str) -> None:
    whole = place(tmp_path / "whole")
    prepare(whole, work)
    events = finish(start(whole, PARTITIONS[1]))["events"]
    assert {"after begin", "before write", "before _count", "after write", "before finish"} <= set(events)
    for number, event in enumerate(events):
        killed = place(tmp_path / f"killed{number}")
        domain = prepare(killed, work)
        finish(start(killed, PARTITIONS[1], die_at=number), KILLED)
        materialize_view(domain, "long", PARTITIONS[1], settings=killed)
        assert outcome(killed) == outcome(whole), event


def test_a_kill_between_store_and_state_is_not_forgotten_where_the_data_goes_back(tmp_path: Path) -> None:
    """The facts are once others, and the run that brought them is killed: afterwards nothing looks changed."""
    here = place(tmp_path / "here")
    domain = prepare(here, "first")
    materialize_view(domain, "long", PARTITIONS[0], settings=here)
    before = outcome(here)
    for number in range(3, 12):  # from the write on
        write_facts(here, domain, "long", PARTITIONS[0], day(PARTITIONS[0], level=50.0, keys="abcdx"))
        process = start(here, PARTITIONS[0], die_at=number)
        process.communicate()
        write_facts(here, domain, "long", PARTITIONS[0], day(PARTITIONS[0], keys="abcd"))
        materialize_view(domain, "long", PARTITIONS[0], settings=here)
        assert outcome(here) == before, number
        assert answers(here, "long", ["x"])[1] == [None], number
        if process.returncode == 0:
            return
    pytest.fail("the run was killed at every point")


@pytest.fixture
def server() -> Iterator[redis_server.Server]:
    with redis_server.serve() as running:
        yield running


def write_many(settings: Settings, domain: DomainSpec, partition: str, level: float) -> None:
    hour = 24 * PARTITIONS.index(partition)
    facts = [(key, hour + (number % 20), hour + (number % 20), level + number) for number, key in enumerate(MANY)]
    write_facts(settings, domain, "long", partition, facts)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_killed_while_it_writes_many_rows_the_rows_are_the_same(
    tmp_path: Path, server: redis_server.Server, store: str
) -> None:
    here = place(tmp_path / "here", server.url if store == "redis" else "")
    domain = make_plant(here.sql_folder)
    write_many(here, domain, PARTITIONS[0], 0.0)
    materialize_view(domain, "long", PARTITIONS[0], settings=here)
    write_many(here, domain, PARTITIONS[1], 1e6)
    for delay in (0.1, 0.25, 0.4, 0.6):
        process = start(here, PARTITIONS[1])
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(here, PARTITIONS[1]))
    clean = dataclasses.replace(
        here, online_store=str(tmp_path / "clean.db"), state_url=f"sqlite:///{tmp_path / 'clean_state.db'}"
    )
    materialize_view(domain, "long", PARTITIONS[1], settings=clean)
    assert answers(here, "long", MANY) == answers(clean, "long", MANY)


def test_a_store_that_goes_away_while_it_is_written_is_told_and_the_mark_stands(
    tmp_path: Path, server: redis_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.online.redis_writer._PAUSE_SECONDS", 0.001)
    here = place(tmp_path / "here", server.url)
    domain = make_plant(here.sql_folder)
    write_many(here, domain, PARTITIONS[0], 0.0)
    materialize_view(domain, "long", PARTITIONS[0], settings=here)
    before = answers(here, "long", MANY[:50])[0]
    write_many(here, domain, PARTITIONS[1], 1e6)
    with monkeypatch.context() as patched:
        count = materialization._Progress._count

        def lose(progress: Any, batch: Any) -> None:
            server.stop()
            count(progress, batch)

        patched.setattr(materialization._Progress, "_count", lose)
        with pytest.raises(OnlineStoreUnavailableError) as caught:
            materialize_view(domain, "long", PARTITIONS[1], settings=here)
    assert caught.value.remedy
    server.start()
    assert answers(here, "long", MANY[:50])[0] == before
    report = materialize_view(domain, "long", PARTITIONS[1], settings=here)
    assert report.rows == len(MANY)
    clean = dataclasses.replace(
        here, online_store=str(tmp_path / "clean.db"), state_url=f"sqlite:///{tmp_path / 'clean_state.db'}"
    )
    materialize_view(domain, "long", PARTITIONS[1], settings=clean)
    assert answers(here, "long", MANY) == answers(clean, "long", MANY)


def test_processes_at_once_end_as_one_does(tmp_path: Path) -> None:
    here, alone = place(tmp_path / "here"), place(tmp_path / "alone")
    for settings in (here, alone):
        prepare(settings, "late")
    for process in [start(here, key) for key in (PARTITIONS[1], PARTITIONS[0], PARTITIONS[1])]:
        finish(process)
    finish(start(alone, PARTITIONS[1]))
    assert outcome(here) == outcome(alone)


def test_applying_while_views_are_brought_loses_nothing(tmp_path: Path) -> None:
    from millrace.step.feature_registry import apply_features

    here, alone = place(tmp_path / "here"), place(tmp_path / "alone")
    domain = prepare(here, "late")
    prepare(alone, "late")
    apply_features(domain, [], settings=here)
    done = threading.Event()
    applied: list[str] = []

    def apply() -> None:
        while not done.is_set():
            text = f"levels, told for the {len(applied)}th time"
            tables = {
                name: spec.model_copy(update={"description": text}) for name, spec in domain.feature_tables.items()
            }
            applied.append(apply_features(domain.model_copy(update={"feature_tables": tables}), [], settings=here))

    applying = threading.Thread(target=apply)
    applying.start()
    try:
        while len(applied) < 2 and applying.is_alive():
            time.sleep(0.01)
        for _ in range(2):
            for process in [start(here, PARTITIONS[1]), start(here, PARTITIONS[0])]:
                finish(process)
    finally:
        done.set()
        applying.join()
    finish(start(alone, PARTITIONS[1]))
    assert outcome(here) == outcome(alone)
    assert len(set(applied)) == len(applied) > 2
