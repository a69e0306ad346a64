"""The engine of a domain without a cluster: what it does here, and what it says where Ray is asked for."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from millrace import errors
from millrace.engine import LocalEngine, RowWork, open_engine, require_ray
from millrace.engine.ray_engine import RayEngine, _share_of, _work_on
from millrace.engine.ray_rows import SLICE_ROWS, slices_of
from millrace.engine.ray_session import _end_half_started, _errors_told, session
from millrace.errors import EngineError, MillraceError, SettingsError
from millrace.ingestion import Connection
from millrace.spec import ComputeSpec
from millrace.step.engine import address_of

RAY = ComputeSpec(engine="ray", threads=2, memory_limit="2GB")


def subclasses(kind: type[MillraceError]) -> Iterator[type[MillraceError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from subclasses(child)


def test_the_local_engine_gives_results_in_order_and_stops_at_the_first_fault() -> None:
    seen = []

    def invert(number: int) -> float:
        seen.append(number)
        return 1 / number

    found = LocalEngine().map(invert, [1, 2, 0, 4])
    assert [next(found), next(found)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert seen == [1, 2, 0]


def test_the_local_engine_gives_values_of_all_rows_at_once() -> None:
    opened = []

    def open_work() -> RowWork:
        opened.append(1)
        return lambda rows: rows.column("x").to_numpy() * 2

    found = LocalEngine().map_rows(open_work, pa.table({"x": [1.0, 2.0, 3.0]}))
    assert found.tolist() == [2.0, 4.0, 6.0]
    assert opened == [1]


def test_few_rows_on_a_cluster_of_ones_own_do_not_start_it() -> None:
    before = set(sys.modules)
    with open_engine(RAY) as engine:
        found = engine.map_rows(lambda: lambda rows: rows.column("x").to_numpy(), pa.table({"x": [3.0]}))
    assert found.tolist() == [3.0]
    assert not {name for name in set(sys.modules) - before if name == "ray"}


def test_slices_of_rows_carry_their_place() -> None:
    rows = pa.table({"x": np.arange(SLICE_ROWS * 2 + 5)})
    found = [part.column("__row").to_numpy() for part in slices_of(rows)]
    assert [len(part) for part in found] == [SLICE_ROWS, SLICE_ROWS, 5]
    assert np.array_equal(np.concatenate(found), np.arange(SLICE_ROWS * 2 + 5))


def test_workers_that_train_together_are_refused_by_the_local_engine() -> None:
    with pytest.raises(SettingsError, match=r"need Ray[\s\S]*engine: ray"):
        require_ray(LocalEngine(), where="compute.engine")


def test_nothing_of_ray_is_imported_with_the_local_engine() -> None:
    code = (
        "import sys, millrace.step.features, millrace.step.training, millrace.engine as engine\n"
        "from millrace.spec import ComputeSpec\n"
        "with engine.open_engine(ComputeSpec()) as local: assert list(local.map(abs, [-1, 2])) == [1, 2]\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ray']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_ray_that_is_not_installed_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"not installed[\s\S]*\[ray\][\s\S]*engine: local"), open_engine(RAY):
        pass


def test_ray_does_not_start_for_no_piece_nor_for_a_single_one_of_its_own() -> None:
    before = set(sys.modules)
    with open_engine(RAY) as engine:
        assert list(engine.map(abs, [])) == []
        assert list(engine.map(abs, [-3])) == [3]
    assert not {name for name in set(sys.modules) - before if name == "ray"}


def test_in_a_piece_of_work_the_engine_is_the_local_one() -> None:
    assert isinstance(pickle.loads(pickle.dumps(RayEngine(compute=RAY, token="secret"))), LocalEngine)
    assert b"secret" not in pickle.dumps(RayEngine(compute=RAY, token="secret"))
    assert "secret" not in repr(RayEngine(compute=RAY, token="secret"))


@pytest.mark.parametrize("kind", sorted(subclasses(MillraceError), key=lambda kind: kind.__name__))
def test_every_error_arrives_from_another_process_as_it_was_raised(kind: type[MillraceError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what", where="where", remedy="remedy")))
    assert type(error) is kind
    assert (error.what, error.where, error.remedy, str(error)) == (
        "what",
        "where",
        "remedy",
        "what\n  where: where\n  remedy: remedy",
    )


def test_a_piece_takes_what_the_spec_says_and_never_more_than_a_node_has() -> None:
    nodes = [{"CPU": 8.0, "memory": 5e9}, {"CPU": 3.0, "memory": 64e9}, {"memory": 9e9}]
    share = _share_of(RAY, nodes)
    assert (share.cores, share.memory, share.width) == (2, 2_000_000_000, 2 + 1)
    large = _share_of(ComputeSpec(engine="ray", threads=64, memory_limit="500GB"), nodes)
    assert (large.cores, large.memory, large.width) == (8, 5_000_000_000, 1)
    with pytest.raises(EngineError, match="no node with a core"):
        _share_of(RAY, [{"memory": 9e9}])


def test_what_work_logs_comes_back_with_its_result() -> None:
    def work(number: int) -> int:
        logging.getLogger("millrace.features.compute").warning("piece %d", number)
        logging.getLogger("millrace.features.compute").debug("not this")
        return number + 1

    assert _work_on(work, 4) == (5, [("millrace.features.compute", logging.WARNING, "piece 4")])


@pytest.mark.parametrize("address", ["nowhere", "ray://", "tcp://:1", "host:port"])
def test_what_is_no_address_is_refused_before_ray_is_asked(address: str) -> None:
    with pytest.raises(EngineError, match="no address of a Ray cluster"), session(address, ""):
        pass


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "127.0.0.1:9"])
def test_a_cluster_that_is_away_is_said_at_once(address: str) -> None:
    with pytest.raises(EngineError, match="cannot be reached") as caught, session(address, "token"):
        pass
    assert caught.value.retryable
    assert "engine: local" in caught.value.remedy


def test_the_address_comes_of_the_connection() -> None:
    assert address_of(Connection(name="r", kind="ray", host="head")) == "ray://head:10001"
    assert address_of(Connection(name="r", kind="ray", host="head", port=7)) == "ray://head:7"
    assert address_of(Connection(name="r", kind="ray", host="x", extra={"address": "10.0.0.5:6379"})) == "10.0.0.5:6379"


def test_workers_that_ray_could_not_start_are_refused_before_anybody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/a folder/bin/python")
    engine = open_engine(ComputeSpec(engine="ray"))
    with engine as started, pytest.raises(EngineError, match="path holds a space"):
        require_ray(started, where="here").start()


def test_a_start_that_took_ray_too_long_is_worth_a_retry() -> None:
    with pytest.raises(EngineError, match=r"cannot be reached or started: The current node timed out") as caught:
        with _errors_told("this machine"):
            raise Exception("The current node timed out during startup.")  # noqa: TRY002 as Ray raises it
    assert caught.value.retryable


def test_what_a_failed_start_left_is_ended_and_no_other_process(tmp_path: Path) -> None:
    left, other = (
        subprocess.Popen(["sh", "-c", "read x", word], stdin=subprocess.PIPE) for word in (str(tmp_path), "elsewhere")
    )
    try:
        _end_half_started(str(tmp_path))
        assert left.poll() is not None
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.communicate()
