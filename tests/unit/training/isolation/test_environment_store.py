from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import orjson
import pytest

from millrace.training.isolation import environment as building
from millrace.training.isolation.environment import build_lock, environment_digest, is_whole
from millrace.training.isolation.environment_store import (
    hold_environment,
    list_environments,
    remove_environment,
    remove_leftovers,
)
from millrace.training.run import StopFitError, alone

LOCK = "".join(f"{name}==0.0.1\n" for name in ("numpy", "orjson", "pyarrow", "pydantic", "pyyaml"))


def lay(store: Path, lock: str, *, age_days: float = 0.0) -> Path:
    """An environment as a build leaves it, without the build."""
    folder = store / environment_digest(lock)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "lib").mkdir()
    (folder / "lib" / "numpy.py").write_text("x = 1\n" * 2000)
    (folder / building.LOCK).write_text(lock)
    (folder / building.COMPLETE).write_bytes(orjson.dumps({"files": building._listing(folder)}))
    then = time.time() - age_days * 86_400
    for path in (folder / building.COMPLETE, folder):
        os.utime(path, (then, then))
    return folder


def test_an_environment_in_use_is_not_taken_away(tmp_path: Path) -> None:
    folder = lay(tmp_path, LOCK, age_days=90)
    [old] = list_environments(tmp_path)
    assert (old.digest, old.held) == (folder.name, False)
    assert old.size >= 10_000
    with hold_environment(LOCK, store=tmp_path) as found, hold_environment(f"# ours\n{LOCK}", store=tmp_path):
        assert found.python == folder / "bin" / "python"
        [now] = list_environments(tmp_path)
        assert now.held
        assert (now.used_at - old.used_at).days >= 89
        assert not remove_environment(now)
    assert not remove_environment(old), "it was used since it was listed"
    [now] = list_environments(tmp_path)
    assert not now.held
    assert remove_environment(now)
    assert not remove_environment(now)
    assert list_environments(tmp_path) == []
    assert not list(tmp_path.glob("[!.]*"))
    lay(tmp_path, LOCK)
    with hold_environment(LOCK, store=tmp_path):
        assert is_whole(folder)


def test_what_is_being_built_stays_and_what_killed_builds_left_goes(tmp_path: Path) -> None:
    folder = lay(tmp_path, LOCK)
    left = [tmp_path / f"{start}{folder.name}-x" for start in (".unfinished-", ".swept-")]
    for path in left:
        (path / "lib").mkdir(parents=True)
    with alone(build_lock(tmp_path, folder.name)):
        [found] = list_environments(tmp_path)
        assert found.held
        assert not remove_environment(found)
        assert remove_leftovers(tmp_path) == 0
    assert remove_leftovers(tmp_path) == 2
    assert not any(path.exists() for path in left)
    assert is_whole(folder)
    assert remove_leftovers(tmp_path / "missing") == 0
    assert list_environments(tmp_path / "missing") == []


def test_who_wants_one_that_is_being_swept_waits(tmp_path: Path) -> None:
    import fcntl

    lay(tmp_path, LOCK)
    with (tmp_path / f".{environment_digest(LOCK)}.used").open("ab") as sweeping:
        fcntl.flock(sweeping, fcntl.LOCK_EX)
        asked: list[bool] = []

        def stop() -> bool:
            asked.append(True)
            return len(asked) > 1

        with pytest.raises(StopFitError), hold_environment(LOCK, store=tmp_path, stop=stop):
            pytest.fail("it is being swept")
    with hold_environment(LOCK, store=tmp_path):
        assert len(asked) == 2


def test_a_store_that_nobody_may_write_to_is_used_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = lay(tmp_path, LOCK)
    (tmp_path / f".{folder.name}.used").mkdir()  # root may write anywhere, but not into a folder
    tmp_path.chmod(0o555)
    try:
        with hold_environment(LOCK, store=tmp_path) as found:
            assert found.digest == folder.name
    finally:
        tmp_path.chmod(0o755)
