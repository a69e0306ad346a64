"""Features, training sets and faults on a real Ray, started here."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.unit import tolls

from millrace.engine import Engine, open_engine
from millrace.errors import EngineError, FeatureError
from millrace.settings import Settings
from millrace.spec import ComputeSpec
from millrace.step.features import backfill_features
from millrace.step.retrieval import entity_rows, historical_features
from millrace.step.retrieval_split import split_features
from millrace.step.training import build_training_set

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parents[2]
RAY = ComputeSpec(engine="ray", threads=1, memory_limit="300MB")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Ray on this machine, started once for the tests that only use it."""
    with open_engine(RAY) as started:
        assert started.width >= 1
        yield started


def die_once(piece: tuple[str, int]) -> int:
    """Its worker is killed in the middle of it, the first time."""
    folder, number = piece
    marker = Path(folder, str(number))
    if number % 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_always(piece: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return piece


def fail(piece: int) -> int:
    logging.getLogger("millrace.features.compute").warning("piece %d is looked at", piece)
    if piece == 2:
        raise FeatureError("a value is wrong", where="here", remedy="mend it")
    return piece


def test_features_and_training_sets_are_those_of_the_local_engine(
    settings: Settings, tmp_path: Path, engine: Engine
) -> None:
    other = dataclasses.replace(settings, lake=str(tmp_path / "other"))
    local, ray = tolls.make_domain(settings), tolls.make_domain(settings, **RAY.model_dump())
    use_case = tolls.make_use_case()
    sets = {}
    for domain, installation in ((local, settings), (ray, other)):
        tolls.write_clean(domain, installation.lake)
        backfill_features(domain, tolls.MONTHS, settings=installation)
        sets[domain.compute.engine] = build_training_set(use_case, domain, tolls.MONTHS[-1], settings=installation)
    assert tolls.feature_contents(local, settings.lake) == tolls.feature_contents(ray, other.lake)
    name = sets["ray"].table
    assert tolls.contents(settings.lake, name) == tolls.contents(other.lake, name)
    assert (sets["ray"].digest, sets["ray"].rows) == (sets["local"].digest, sets["local"].rows)
    assert not build_training_set(use_case, ray, tolls.MONTHS[-1], settings=other).changed
    assert not any(ref.changed for ref in backfill_features(ray, tolls.MONTHS, settings=other))


def test_an_entity_frame_split_by_time_is_joined_to_the_same_rows(settings: Settings, engine: Engine) -> None:
    domain, use_case = tolls.make_domain(settings), tolls.make_use_case()
    tolls.write_clean(domain, settings.lake)
    backfill_features(domain, tolls.MONTHS[:2], settings=settings)
    rows = entity_rows(use_case, domain, "2021-02", settings)
    rows = rows.take([(number * 37) % rows.num_rows for number in range(rows.num_rows)])
    whole = historical_features(use_case, domain, rows, settings=settings)
    if engine.width == 1:
        pytest.skip("one core: nothing is split")
    split = split_features(use_case, domain, rows, settings=settings, engine=engine, slice_rows=200)
    assert split.combine_chunks().equals(whole.combine_chunks())


def test_a_piece_whose_worker_was_killed_is_worked_on_again(tmp_path: Path, engine: Engine) -> None:
    assert list(engine.map(die_once, [(str(tmp_path), number) for number in range(6)])) == [0, 1, 4, 9, 16, 25]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3", "5"]


def test_a_piece_that_kills_every_worker_is_told_with_the_remedy(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"lost 4 times[\s\S]*memory_limit") as caught:
        list(engine.map(die_always, [1, 2]))
    assert caught.value.retryable


def test_what_work_says_and_raises_arrives_as_it_was(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "millrace")
    found = engine.map(fail, [0, 1, 2, 3])
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(FeatureError) as caught:
        next(found)
    assert type(caught.value) is FeatureError
    assert (caught.value.where, caught.value.remedy) == ("here", "mend it")
    assert "piece 1 is looked at" in caplog.messages
    assert "2 of 4 pieces of work are done" in caplog.messages


ALONE = """
import json, os, signal, sys, time
from contextlib import suppress
import psutil
from millrace.engine import open_engine
from millrace.spec import ComputeSpec

before = signal.signal(signal.SIGTERM, signal.default_int_handler)
variables = dict(os.environ)
with open_engine(ComputeSpec.model_validate_json(sys.argv[1])) as engine:
    assert list(engine.map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    own = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = set()
    for one in own:
        with suppress(psutil.NoSuchProcess):
            listening |= {item.laddr.ip for item in one.net_connections() if item.status == "LISTEN"}
    import ray
    folder = os.path.dirname(ray._private.worker._global_node.get_session_dir_path())
    print(json.dumps({"listening": sorted(listening), "folder": folder, "processes": len(own)}), flush=True)
    if sys.argv[2:] == ["wait"]:
        time.sleep(200)
changed = {name for name in os.environ if os.environ[name] != variables.get(name)} - {"RAY_CLIENT_MODE"}
assert not changed, changed
left = psutil.wait_procs(own[1:], timeout=60)[1]
told = [text for text in map(str, left) if "zombie" not in text and "terminated" not in text]
print(json.dumps({"left": told}), flush=True)
"""


@contextlib.contextmanager
def start_alone(home: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The program above in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-c", ALONE, RAY.model_dump_json(), *words]
    variables = {**os.environ, "HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables) as process:
        try:
            yield process
        finally:
            process.kill()


def said(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def test_ray_listens_on_loopback_alone_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start_alone(tmp_path) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    first, last = (said(line) for line in out.splitlines())
    assert {ip.removeprefix("::ffff:") for ip in first["listening"]} == {"127.0.0.1"}
    assert last["left"] == []
    assert not Path(first["folder"]).exists()
    assert list(tmp_path.iterdir()) == [], "Ray wrote into the home of its user"


HELPERS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Of Ray's: they look for their head for a minute before they go; they compute nothing."""


def name_of(process: psutil.Process) -> str:
    """What it is called; nothing once it is over, whether somebody waited for it or not."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except psutil.NoSuchProcess:
        return ""


def wait_for_all(processes: list[psutil.Process], *, but: set[str]) -> None:
    """Wait until none is left but those of some names."""
    until = time.monotonic() + 120
    while others := set(map(name_of, processes)) - {"", *but}:
        assert time.monotonic() < until, others
        time.sleep(0.2)


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_task_that_is_killed_takes_its_ray_with_it(tmp_path: Path, killed_by: signal.Signals) -> None:
    with start_alone(tmp_path, "wait") as process:
        assert process.stdout is not None
        folder = said(process.stdout.readline())["folder"]
        mine = psutil.Process(process.pid).children(recursive=True)
        assert len(mine) > 4
        process.send_signal(killed_by)
        process.wait()
    try:
        wait_for_all(mine, but=HELPERS if killed_by == signal.SIGKILL else set())
    finally:
        for one in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    assert Path(folder).exists() == (killed_by == signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
