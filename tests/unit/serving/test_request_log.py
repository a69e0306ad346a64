"""The request log: what is kept, what never is, and that answering does not wait for it."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.serving import sample
from tests.unit.serving.conftest import World

from millrace.serving.app import InferenceApp
from millrace.serving.assembly import FeatureVector
from millrace.serving.base import InferenceRequest
from millrace.serving.repository import Repository
from millrace.serving.request_log import PROBE, LogLimits, RequestLog, draw, kept_columns
from millrace.serving.sampled_row import (
    FOLDER,
    SampledRow,
    count_vectors,
    instant,
    log_files,
    microseconds,
    read_sampled,
)

MARK = datetime(2013, 4, 1, 4, tzinfo=UTC)
TOKEN = "tok_" + "0f" * 20


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is closed has written what waited, however busy the machine is."""
    monkeypatch.setattr("millrace.serving.request_log._CLOSE_SECONDS", 120.0)


def served(**changes: Any) -> Any:
    """As much of a served release as the log looks at."""
    view = SimpleNamespace(view="planes", entities=["tailnum"], features=["plane_year"])
    features = SimpleNamespace(entities=["tailnum"], lookups=[view], on_demand=[], computed=[])
    plain = {"use_case": "delay", "release": 3, "package": "p" * 64, "request_sample": 1.0, "personal": []}
    return SimpleNamespace(ref=SimpleNamespace(**{**plain, **changes}), package=SimpleNamespace(features=features))


def vector(keys: list[Any], values: list[Any] | None = None, *, source: str = "online", **more: list[Any]) -> Any:
    columns = {"tailnum": keys, "plane_year": values or [1999.0] * len(keys), **more}
    return FeatureVector(columns=columns, source=source, parameters={}, marks={"planes": MARK})


def request(keys: list[Any], *, id: str = "", **more: list[Any]) -> InferenceRequest:
    return InferenceRequest(columns={"tailnum": keys, **more}, rows=len(keys), id=id)


def offer(log: RequestLog, keys: list[Any], *, id: str = "", **changes: Any) -> None:
    log.offer(served(**changes), request(keys, id=id, passenger=["Ann Lee"]), vector(keys, passenger=["Ann Lee"]))


def read(folder: Path, use_case: str = "delay") -> list[SampledRow]:
    return list(read_sampled(folder, use_case))


def test_a_row_is_kept_with_its_marks_and_what_was_looked_up_and_nothing_else(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    log.offer(served(), request(["N1", None]), vector(["N1", None], [0.1 + 0.2, float("nan")], passenger=["Ann", "B"]))
    log.close()
    first, second = read(tmp_path)
    assert first == SampledRow(
        release=3,
        package="p" * 64,
        effective_at=microseconds(MARK),
        recorded_at=microseconds(datetime(2026, 1, 1, tzinfo=UTC)),
        marks={"planes": microseconds(MARK)},
        columns={"tailnum": "N1", "plane_year": 0.1 + 0.2},
    )
    assert second.columns == {"tailnum": None, "plane_year": None}
    assert log.outcomes == {("delay", "kept"): 2}
    assert instant(first.effective_at) == MARK


@pytest.mark.parametrize(("predictions", "kept"), [([0.25, 0.5], [0.25, 0.5]), ([[0.1, 0.9], [0.7, 0.3]], [1.0, 0.0])])
def test_the_answer_is_kept_with_the_rows_place_in_it(tmp_path: Path, predictions: Any, kept: list[float]) -> None:
    log = RequestLog(tmp_path / FOLDER)
    keys, answered = ["N1", "N2"], np.array(predictions)
    log.offer(served(), request(keys), vector(keys), answer="delay/3/online-x", predictions=answered)
    log.close()
    assert [(row.answer, row.prediction) for row in read(tmp_path)] == [
        (f"delay/3/online-x.{place}", value) for place, value in enumerate(kept)
    ]


def test_a_line_of_before_answers_had_ids_is_read(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER)
    offer(log, ["N1"])
    log.close()
    (path,) = log_files(tmp_path / FOLDER / "delay")
    plain = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({name: plain[name] for name in plain if name not in {"answer", "prediction"}}))
    assert [(row.answer, row.prediction, row.release) for row in read(tmp_path)] == [("", None, 3)]


def test_full_vectors_are_counted_and_none_is_kept(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER)
    for keys in (["N1"], ["N1", "N2"]):
        log.offer(served(), request(keys), vector(keys, source="request"))
        offer(log, keys)
    log.close()
    assert len(read(tmp_path)) == 3
    assert (count_vectors(tmp_path, "delay"), count_vectors(tmp_path, "other")) == (3, 0)
    assert log.outcomes == {("delay", "kept"): 3}
    log = RequestLog(tmp_path / FOLDER)
    log.offer(served(), request(["N1"]), vector(["N1"], source="request"))
    log.close()
    assert count_vectors(tmp_path, "delay") == 4


def test_probes_and_a_share_of_nothing_are_not_kept(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER)
    log.offer(served(), request(["N1"], id=PROBE), vector(["N1"], source="request"))
    log.offer(served(request_sample=0.0), request(["N1"]), vector(["N1"], source="request"))
    offer(log, ["N1"], id=PROBE)
    offer(log, ["N1"], request_sample=0.0)
    log.close()
    assert not (tmp_path / FOLDER).exists()
    assert not log.outcomes


def test_of_personal_data_only_tokens_are_kept(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER)
    for key in ("N12345", TOKEN, None, "tok_short"):
        offer(log, [key], personal=["tailnum", "passenger"])
    log.close()
    assert [row.columns["tailnum"] for row in read(tmp_path)] == [TOKEN, None]
    assert log.outcomes == {("delay", "kept"): 2, ("delay", "withheld"): 2}
    text = b"".join(path.read_bytes() for path in log_files(tmp_path / FOLDER / "delay"))
    assert b"N12345" not in text
    assert b"Ann" not in text


def test_a_row_that_is_too_long_is_withheld(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER, limits=LogLimits(line_bytes=1_000))
    offer(log, ["x" * 2_000])
    offer(log, ["N1"])
    log.close()
    assert [row.columns["tailnum"] for row in read(tmp_path)] == ["N1"]


def test_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    limits = LogLimits(file_bytes=2_000, files=3)
    log = RequestLog(tmp_path / FOLDER, limits=limits)
    for number in range(200):
        offer(log, [f"N{number}"])
    log.close()
    files = log_files(tmp_path / FOLDER / "delay")
    assert len(files) == 3
    assert all(path.stat().st_size <= 2_000 for path in files)
    kept = [int(row.columns["tailnum"][1:]) for row in read(tmp_path)]
    assert kept == list(range(kept[0], 200))


def test_a_torn_line_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = RequestLog(tmp_path / FOLDER)
    offer(log, ["N1"])
    offer(log, ["N2"])
    log.close()
    (path,) = log_files(tmp_path / FOLDER / "delay")
    path.write_bytes(path.read_bytes()[:-7] + b'\n[]\n{"release": 1}\n')
    assert [row.columns["tailnum"] for row in read(tmp_path)] == ["N1"]
    assert "3 lines are no sampled rows" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"effective_at": "soon"},
        {"effective_at": None},
        {"marks": {"planes": "soon"}},
        {"marks": {"planes": 2**62}},
        {"package": "../" * 21 + "a"},
        {"package": 5},
        {"release": "<b>"},
        {"columns": {"tailnum": {"a": 1}}},
        {"columns": {"tailnum": ["N1"]}},
    ],
)
def test_a_line_with_values_of_other_types_is_no_sampled_row(tmp_path: Path, wrong: dict[str, Any]) -> None:
    log = RequestLog(tmp_path / FOLDER)
    offer(log, ["N1"])
    log.close()
    (row,) = read(tmp_path)
    assert SampledRow.from_bytes(row.to_bytes()) == row
    assert SampledRow.from_bytes(orjson.dumps({**orjson.loads(row.to_bytes()), **wrong})) is None


def until_written(log: RequestLog, count: int, folder: Path) -> None:
    end = time.monotonic() + 120
    while len(read(folder)) + log.outcomes["delay", "unwritten"] < count and time.monotonic() < end:
        time.sleep(0.01)


def test_a_line_that_the_disk_took_half_of_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path / FOLDER)
    write, room = os.write, [10**6]

    def write_while_there_is_room(handle: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(handle, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr("millrace.serving.request_log.os.write", write_while_there_is_room)
    offer(log, ["N1"])
    until_written(log, 1, tmp_path)
    room[0] = 20
    offer(log, ["N2"])
    until_written(log, 2, tmp_path)
    room[0] = 10**6
    offer(log, ["N3"])
    log.close()
    assert [row.columns["tailnum"] for row in read(tmp_path)] == ["N1", "N3"]


def test_a_folder_that_is_emptied_while_the_service_runs_fills_again(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / FOLDER)
    offer(log, ["N1"])
    until_written(log, 1, tmp_path)
    shutil.rmtree(tmp_path / FOLDER)
    offer(log, ["N2"])
    log.close()
    assert [row.columns["tailnum"] for row in read(tmp_path)] == ["N2"]


def test_what_the_queue_cannot_take_is_dropped_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object, **__: object) -> None:
        raise AssertionError("an answer waits for the log")

    log = RequestLog(tmp_path / FOLDER, limits=LogLimits(waiting=5))
    log._thread = threading.Thread()  # one that never takes anything
    monkeypatch.setattr(log._queue.not_full, "wait", wait)
    for _ in range(50):
        offer(log, ["N1"])
    assert log.outcomes == {("delay", "kept"): 5, ("delay", "dropped"): 45}


@pytest.mark.skipif(os.getuid() == 0 and not Path("/proc/1").exists(), reason="needs a place that refuses")
def test_a_disk_that_refuses_costs_the_sample_and_not_the_answer(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    log = RequestLog(tmp_path / FOLDER)
    offer(log, ["N1"])
    log.close()
    assert log.outcomes[("delay", "unwritten")] == 1


def test_two_logs_side_by_side_lose_nothing(tmp_path: Path) -> None:
    logs = [RequestLog(tmp_path / FOLDER) for _ in range(2)]
    for number, log in enumerate(logs * 3):
        offer(log, [f"N{number}"])
    for log in logs:
        log.close()
    assert sorted(row.columns["tailnum"] for row in read(tmp_path)) == [f"N{number}" for number in range(6)]


@given(rows=st.integers(1, 400), share=st.floats(0.001, 1.0), most=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_draw_names_each_row_at_most_once_in_order_and_within_bounds(
    rows: int, share: float, most: int, seed: int
) -> None:
    found = list(draw(Random(seed), rows, share, most))
    assert found == sorted(set(found))
    assert len(found) <= most
    assert all(0 <= place < rows for place in found)
    if share == 1.0:
        assert len(found) == min(rows, most)


def test_every_row_has_the_same_chance() -> None:
    random, counts = Random(1), [0] * 20
    for _ in range(5_000):
        for place in draw(random, 20, 0.1, 20):
            counts[place] += 1
    assert all(400 < count < 600 for count in counts)
    singles = sum(len(draw(random, 1, 0.1, 20)) for _ in range(5_000))
    assert 400 < singles < 600


def test_the_service_keeps_rows_asked_by_key_with_the_values_it_answered_with(world: World, tmp_path: Path) -> None:
    sample.point(tmp_path / "serving", world.package, release=4, request_sample=1.0)
    repository = Repository(tmp_path / "serving", world.online_store)
    repository.load("flight_delay")
    log = RequestLog(tmp_path / "serving" / FOLDER)
    app = InferenceApp(repository, requests=log)
    names = sample.key_names(world.package)
    bodies = [
        {"inputs": sample.v2_inputs(world.spec, world.rows.slice(0, count), columns)}
        for count, columns in ((3, names), (2, world.package.features.columns))
    ]

    async def ask() -> str:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            for body in bodies:
                assert (await client.post("/v2/models/flight_delay/infer", json=body)).status_code == 200
            return (await client.get("/metrics")).text

    assert 'millrace_sampled_rows_total{model="flight_delay",outcome="kept"} 3' in asyncio.run(ask())
    log.close()
    rows = list(read_sampled(tmp_path / "serving", "flight_delay"))
    assert len(rows) == 3
    features = world.package.features
    assert {row.package for row in rows} == {world.package.digest}
    assert {row.release for row in rows} == {4}
    assert all(list(row.columns) == kept_columns(features) for row in rows)
    assert all(set(row.marks) == {view.view for view in features.lookups} for row in rows)
    assert {row.effective_at for row in rows} == {microseconds(sample.MARK)}
    store = repository.store
    assert store is not None
    for view in features.lookups:
        keys = [tuple(row.columns[name] for name in view.entities) for row in rows]
        expected = store.read(view.view, keys, view.features)
        assert [[row.columns[name] for name in view.features] for row in rows] == expected
