"""The folder of all isolated environments: who uses one holds it, and what nobody needs is swept."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millrace.training.isolation.environment import (
    COMPLETE,
    LOCK,
    UNFINISHED,
    Environment,
    build_environment,
    build_lock,
    environment_digest,
)
from millrace.training.isolation.lock import canonical_lock
from millrace.training.run import StopFitError, alone, go_on

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SWEPT = ".swept-"
_INSTANT = timedelta(milliseconds=1)
_LEFT = re.compile(rf"(?:{re.escape(UNFINISHED)}|{re.escape(_SWEPT)})([0-9a-f]{{64}})-.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEnvironment:
    """An environment as it lies in the store.

    Attributes:
        digest: names it.
        folder: where it lies.
        lock: the pins it was built from, in their one form; "" where they cannot be read.
        size: bytes on disk.
        used_at: when something last began or ended in it, or when it was built.
        held: whether something runs in it, or builds it, now.
    """

    digest: str
    folder: Path
    lock: str
    size: int
    used_at: datetime
    held: bool


@contextmanager
def hold_environment(lock: str, *, store: Path, stop: Callable[[], bool] = go_on) -> Iterator[Environment]:
    """The environment of a lock, built where it has to be, and not swept as long as it is held.

    A process that ends, however it does, holds nothing any longer.

    Args:
        lock: pins, as `parse_lock` takes them.
        store: folder of all environments.
        stop: asked twice a second while it waits or builds; True ends it.

    Raises:
        SpecError, EnvironmentUnavailableError, TrainingError, StopFitError: as `build_environment`.
    """
    path = _mark(store, environment_digest(lock))
    with _shared(path, stop):
        found = build_environment(lock, store=store, stop=stop)
        try:
            yield found
        finally:
            with suppress(OSError):  # a store that only others may write to
                os.utime(path)


def list_environments(store: Path) -> list[StoredEnvironment]:
    """The environments of a store, the one used last first; what else lies there is left out."""
    folders = [path for path in store.glob("[0-9a-f]*") if _DIGEST.fullmatch(path.name)] if store.is_dir() else []
    found = [_stored(folder) for folder in folders if folder.is_dir() and not folder.is_symlink()]
    return sorted(found, key=lambda item: (item.used_at, item.digest), reverse=True)


def remove_environment(environment: StoredEnvironment) -> bool:
    """Take an environment away; False where it is held, or was used since it was listed.

    Raises:
        OSError: it cannot be taken away.
    """
    folder = environment.folder
    with _alone_with(folder.parent, environment.digest) as ours:
        if not ours or not folder.is_dir() or _used_at(folder) > environment.used_at + _INSTANT:
            return False
        # Renamed first: a sweep that is killed leaves nothing that looks like an environment.
        aside = folder.with_name(f"{_SWEPT}{folder.name}-{os.getpid()}")
        folder.rename(aside)
        shutil.rmtree(aside)
    log.info("environment %s is taken away: %.0f MB", environment.digest[:12], environment.size / 1e6)
    return True


def remove_leftovers(store: Path) -> int:
    """Take away what killed builds and sweeps left; how many folders."""
    removed = 0
    for folder in sorted(store.iterdir()) if store.is_dir() else []:
        if not (found := _LEFT.fullmatch(folder.name)):
            continue
        with _alone_with(store, found[1]) as ours:
            if ours:
                shutil.rmtree(folder, ignore_errors=True)
                removed += not folder.exists()
    return removed


def _stored(folder: Path) -> StoredEnvironment:
    try:
        lock = canonical_lock((folder / LOCK).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        lock = ""
    return StoredEnvironment(
        digest=folder.name,
        folder=folder,
        lock=lock,
        size=_size(folder),
        used_at=_used_at(folder),
        held=_is_held(folder),
    )


def _size(folder: Path) -> int:
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                found += os.lstat(Path(place) / name).st_blocks * 512
    return found


def _used_at(folder: Path) -> datetime:
    seen = [0.0]
    for path in (_mark(folder.parent, folder.name), folder / COMPLETE, folder):
        with suppress(OSError):
            seen.append(path.stat().st_mtime)
    return datetime.fromtimestamp(max(seen), UTC)


def _mark(store: Path, digest: str) -> Path:
    """The file that users of an environment hold together; its time is that of the last use."""
    return store.absolute() / f".{digest}.used"


@contextmanager
def _shared(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        opened = path.open("rb")
    except OSError as error:
        log.warning("%s cannot be written, so that the environment is not held: %s", path, error.strerror)
        yield
        return
    with opened as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:  # it is being swept, and is built anew afterwards
                if stop():
                    raise StopFitError("asked to end") from error
                time.sleep(0.1)
        yield


@contextmanager
def _alone_with(store: Path, digest: str) -> Iterator[bool]:
    """Whether nobody uses or builds an environment; so long as it is True, nobody does."""
    with ExitStack() as stack:
        mark = _mark(store, digest)
        if not mark.exists():  # to be looked at is not to be used
            seen = _used_at(store / digest).timestamp()
            mark.touch()
            os.utime(mark, (seen, seen))
        file = stack.enter_context(mark.open("rb"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.enter_context(alone(build_lock(store, digest), _at_once))
        except (BlockingIOError, StopFitError):
            yield False
        else:
            yield True


def _is_held(folder: Path) -> bool:
    """Whether somebody uses or builds an environment at this moment; nothing is written to tell."""
    for path in (_mark(folder.parent, folder.name), build_lock(folder.parent, folder.name)):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            return True
    return False


def _at_once() -> bool:
    return True
