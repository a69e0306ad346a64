"""Environments are built by real pip from tiny real wheels that a test puts into a folder: no network is needed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from millrace.errors import EnvironmentUnavailableError, TrainingError
from millrace.training.isolation.environment import build_environment, environment_digest, is_whole
from millrace.training.run import StopFitError

MODULES = {"numpy": "numpy", "orjson": "orjson", "pyarrow": "pyarrow", "pydantic": "pydantic", "pyyaml": "yaml"}
LOCK = "".join(f"{name}==0.0.1\n" for name in MODULES)


def write_wheel(folder: Path, name: str, module: str) -> Path:
    """A wheel of one module that holds its own name."""
    path = folder / f"{name}-0.0.1-py3-none-any.whl"
    info = f"{name}-0.0.1.dist-info"
    content = {
        f"{module}.py": f"name = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*content, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**content, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip finds wheels in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, module in MODULES.items():
        write_wheel(folder, name, module)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def names(python: Path) -> str:
    code = "import numpy, sys; print(numpy.name, sys.prefix)"
    return subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True).stdout


def test_an_environment_is_built_once_and_built_anew_where_it_is_damaged(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    store = tmp_path / "environments"
    built = build_environment(LOCK, store=store)
    assert names(built.python).split() == ["numpy", str(store / built.digest)]
    assert built.libraries["pyyaml"] == "0.0.1"
    made = built.python.lstat().st_mtime_ns
    assert build_environment(f"# the same\n{LOCK}", store=store) == built
    assert built.python.lstat().st_mtime_ns == made

    module = next((store / built.digest).glob("lib/*/site-packages/numpy.py"))
    module.write_text("name = 'spoilt'\n")
    assert not is_whole(store / built.digest)
    build_environment(LOCK, store=store)
    assert names(built.python).startswith("numpy ")
    assert [path.name for path in store.iterdir() if not path.name.endswith(".lock")] == [built.digest]


def _build(store: Path) -> None:
    build_environment(LOCK, store=store)


@pytest.mark.full
def test_a_builder_that_is_killed_leaves_nothing_behind_that_counts(wheels: Path, tmp_path: Path) -> None:
    store = tmp_path / "environments"
    killed = multiprocessing.get_context("spawn").Process(target=_build, args=(store,))
    killed.start()
    end = time.monotonic() + 120
    while not list(store.glob(".unfinished-*/bin")):
        assert time.monotonic() < end, "it builds nothing"
        time.sleep(0.01)
    os.kill(int(killed.pid or 0), signal.SIGKILL)
    killed.join()
    assert not is_whole(store / environment_digest(LOCK))
    both = [multiprocessing.get_context("spawn").Process(target=_build, args=(store,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert is_whole(store / environment_digest(LOCK))
    assert not list(store.glob(".unfinished-*"))


@pytest.mark.full
def test_a_pin_that_does_not_exist_is_an_error_that_names_it(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"numpy==9\.9") as caught:
        build_environment(LOCK.replace("numpy==0.0.1", "numpy==9.9"), store=tmp_path / "environments")
    assert not caught.value.retryable
    assert not list((tmp_path / "environments").glob("[!.]*"))


@pytest.mark.full
def test_a_file_with_another_hash_is_refused(wheels: Path, tmp_path: Path) -> None:
    def pinned(spoil: str) -> str:
        shas = {name: hashlib.sha256(next(wheels.glob(f"{name}-*")).read_bytes()).hexdigest() for name in MODULES}
        shas["numpy"] = spoil + shas["numpy"][len(spoil) :]
        return "".join(f"{name}==0.0.1 --hash=sha256:{sha}\n" for name, sha in shas.items())

    build_environment(pinned(""), store=tmp_path / "environments")
    with pytest.raises(TrainingError, match=r"(?i)hash"):
        build_environment(pinned("0000"), store=tmp_path / "environments")


@pytest.mark.full
def test_a_library_that_cannot_be_imported_is_told(wheels: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheels / "numpy-0.0.1-py3-none-any.whl", "a") as wheel:
        wheel.writestr("orjson.py", "import a_module_that_nobody_has\n")
    (wheels / "orjson-0.0.1-py3-none-any.whl").unlink()
    write_wheel(wheels, "orjson", "another")
    with pytest.raises(TrainingError, match="a_module_that_nobody_has"):
        build_environment(LOCK, store=tmp_path / "environments")


@pytest.mark.full
def test_an_index_that_does_not_answer_is_worth_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(EnvironmentUnavailableError) as caught:
        build_environment(LOCK, store=tmp_path / "environments")
    assert caught.value.retryable


def test_a_build_ends_when_it_is_told_to(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(StopFitError):
        build_environment(LOCK, store=tmp_path / "environments", stop=lambda: True)
    assert not list((tmp_path / "environments").glob("[!.]*"))
