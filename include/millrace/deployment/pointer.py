"""The pointer `<serving_dir>/<use case>/current.json`: written whole or not at all, one writer at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson

from millrace.artifact import ReleaseRef
from millrace.errors import DeploymentError

log = logging.getLogger(__name__)
POINTER = "current.json"
_LOCK = ".deploying"


def pointer_path(serving_dir: Path, use_case: str) -> Path:
    """Where the pointer of a use case lies."""
    return serving_dir / use_case / POINTER


def write_pointer(serving_dir: Path, ref: ReleaseRef) -> bool:
    """Point the online service at a release; it reads the pointer when it is asked to load.

    Returns:
        False where the pointer said the same before and was left as it is.

    Raises:
        DeploymentError: the folder cannot be written to.
    """
    path = pointer_path(serving_dir, ref.use_case)
    content = orjson.dumps(ref.to_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise _unusable("cannot write the pointer", path, error) from error
    log.info("%s points at release %d, package %s", path, ref.release, ref.package)
    return True


@contextmanager
def deploying(serving_dir: Path, use_case: str, *, patience_s: float = 30.0) -> Iterator[None]:
    """Hold the right to deploy a use case, so that of two deployments the later one reads the ledger last.

    Args:
        serving_dir: folder of the pointers.
        use_case: what is deployed.
        patience_s: how long to wait for another deployment to end.

    Raises:
        DeploymentError: another deployment holds it all that time, or the folder cannot be used.
    """
    folder = serving_dir / use_case
    with _lock_file(folder) as lock:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise DeploymentError(
                        f"another deployment of {use_case!r} has been under way for {patience_s:g} s",
                        where=str(folder),
                        remedy="wait for it, then run the task again",
                    ) from error
                time.sleep(0.05)
        yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / _LOCK).open("a")
    except OSError as error:
        raise _unusable("cannot use the folder of the pointer", folder, error) from error


def _unusable(what: str, place: Path, error: OSError) -> DeploymentError:
    return DeploymentError(
        f"{what}: {error.strerror}",
        where=str(place),
        remedy="make the folder writable, or set MILLRACE_SERVING_DIR to one that is",
    )


def _replace(path: Path, content: bytes) -> None:
    """Write, flush to disk, then rename: a reader finds the old pointer or the new one, after a crash too."""
    handle, name = tempfile.mkstemp(prefix=".pointer-", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
