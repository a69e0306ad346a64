"""Isolated environments: a virtual environment for each lock, built once, used by every candidate that names it."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from millrace.document import write_atomically
from millrace.errors import EnvironmentUnavailableError, TrainingError
from millrace.training.isolation.lock import NEEDED, canonical_lock, normalise, parse_lock
from millrace.training.run import StopFitError, alone, go_on

log = logging.getLogger(__name__)
COMPLETE = "complete.json"
LOCK = "requirements.lock"
UNFINISHED = ".unfinished-"
_PIP = (sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check")
_PROBE = "import numpy, orjson, pyarrow, pydantic, yaml"
_UNANSWERED = ("Retrying (", "ConnectionError", "Read timed out", "Temporary failure", "No space left")
_STEERING = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_REQUIRE_VIRTUALENV")
_ALIEN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An interpreter with its libraries.

    Attributes:
        python: the interpreter to start.
        digest: names the lock it was built from, and the Python it was built with; "" for that of this process.
        libraries: distribution → version that it was built of; empty for that of this process.
    """

    python: Path
    digest: str = ""
    libraries: dict[str, str] = field(default_factory=dict)


def own_environment() -> Environment:
    """The environment that this process runs in."""
    return Environment(python=Path(sys.executable))


def environment_digest(lock: str) -> str:
    """Names the environment of a lock: its pins, this Python and this machine's kind."""
    parts = [canonical_lock(lock), platform.python_version(), platform.system(), platform.machine(), sys.base_prefix]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def build_environment(lock: str, *, store: Path, stop: Callable[[], bool] = go_on) -> Environment:
    """The environment of a lock; it is built where it is missing, unfinished or damaged.

    pip brings exactly what the lock pins, from where pip's own configuration says, and checks the hashes that stand
    there. Several builders at once build it once; one that was killed leaves nothing that would be used.

    Args:
        lock: pins, as `parse_lock` takes them.
        store: folder of all environments.
        stop: asked twice a second; True ends the build.

    Raises:
        SpecError: the lock holds something else than exact pins, or lacks what Millrace needs.
        EnvironmentUnavailableError: no index answers, or there is no space.
        TrainingError: a pin does not exist, a hash differs, or what the lock pins cannot be imported.
        StopFitError: `stop` said so.
    """
    digest = environment_digest(lock)
    folder = store.absolute() / digest
    libraries = parse_lock(lock, where=f"lock of environment {digest[:12]}")
    found = Environment(python=folder / "bin" / "python", digest=digest, libraries=libraries)
    if is_whole(folder):
        return found
    with alone(build_lock(store, digest), stop):
        if is_whole(folder):
            return found
        try:
            _replace(folder, lock, stop)
        except OSError as error:
            raise EnvironmentUnavailableError(
                f"an environment cannot be made: {error.strerror or error}",
                where=str(folder),
                remedy="free some space, or make the folder writable",
            ) from error
    return found


def build_lock(store: Path, digest: str) -> Path:
    """The file that whoever builds an environment holds."""
    return store / f".{digest}.lock"


def is_whole(folder: Path) -> bool:
    """Whether an environment was built to the end, and every file is as it was then."""
    try:
        recorded = orjson.loads((folder / COMPLETE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return (folder / "bin" / "python").exists() and recorded == {"files": _listing(folder)}


def resolve_lock(requirements: Sequence[str], *, stop: Callable[[], bool] = go_on) -> str:
    """A lock of requirements and of what Millrace needs beside them, resolved by pip for this Python and machine.

    Args:
        requirements: as pip takes them (`xgboost-cpu==2.1.4`).
        stop: asked while pip works; True ends it.

    Raises:
        EnvironmentUnavailableError: no index answers.
        TrainingError: pip finds no versions that go together.
        StopFitError: `stop` said so.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report), *requirements, *NEEDED]
        done = run_watched([*_PIP, "install", *asked], stop=stop)
        if done.returncode:
            raise _pip_failed(done.stdout)
        found = [_pin(item) for item in orjson.loads(report.read_bytes())["install"]]
    hashed = all(sha for _, sha in found)
    return "".join(f"{pin} --hash=sha256:{sha}\n" if hashed else f"{pin}\n" for pin, sha in sorted(found))


def _pin(item: dict[str, Any]) -> tuple[str, str]:
    """Exact pin and sha256 ("" where pip does not tell) of one entry of pip's report."""
    archive = item["download_info"].get("archive_info", {})
    sha = archive.get("hashes", {}).get("sha256", "")
    return f"{normalise(item['metadata']['name'])}=={item['metadata']['version']}", sha


def run_watched(argv: list[str], *, stop: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Run a command that ends when `stop` says so, with everything it started.

    Raises:
        StopFitError: `stop` said so.
    """
    environment = clean_environ()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                if stop():
                    raise StopFitError("asked to end")
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        told.seek(0)
        return subprocess.CompletedProcess(argv, process.returncode, stdout=told.read())


def clean_environ() -> dict[str, str]:
    """The environment variables of this process, without those that would lead another Python to our libraries."""
    return {name: value for name, value in os.environ.items() if name not in {*_ALIEN, *_STEERING}}


def _replace(folder: Path, lock: str, stop: Callable[[], bool]) -> None:
    """Build beside, then rename: a pip that outlives a builder that was killed writes into nobody's environment."""
    started = time.monotonic()
    log.info("environment %s: pip builds it", folder.name[:12])
    for left in folder.parent.glob(f"{UNFINISHED}{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{folder.name}-", dir=folder.parent))
    try:
        unfinished.chmod(0o755)
        _build(unfinished, lock, stop)
        if folder.exists():
            log.warning("environment %s was damaged and is replaced", folder.name[:12])
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    log.info("environment %s built in %.1f s", folder.name[:12], time.monotonic() - started)


def _build(folder: Path, lock: str, stop: Callable[[], bool]) -> None:
    python = folder / "bin" / "python"
    made = run_watched([sys.executable, "-m", "venv", "--without-pip", str(folder)], stop=stop)
    if made.returncode:
        raise EnvironmentUnavailableError(
            f"no virtual environment can be made: {_last(made.stdout)}", where=str(folder), remedy="mend what it names"
        )
    (folder / LOCK).write_text(lock, encoding="utf-8")
    pip = [*_PIP, "--python", str(python)]
    done = run_watched([*pip, "install", "--quiet", "--no-deps", "--no-compile", "-r", str(folder / LOCK)], stop=stop)
    if done.returncode:
        raise _pip_failed(done.stdout)
    checked = run_watched([*pip, "check"], stop=stop)
    if checked.returncode:
        log.warning("an environment does not fit together by pip's word: %s", checked.stdout.strip())
    _probe(python, stop)
    write_atomically(folder / COMPLETE, orjson.dumps({"files": _listing(folder)}))


def _probe(python: Path, stop: Callable[[], bool]) -> None:
    done = run_watched([str(python), "-I", "-B", "-c", _PROBE], stop=stop)
    if done.returncode:
        raise TrainingError(
            f"what Millrace needs cannot be imported there: {_last(done.stdout)}",
            where="its lock",
            remedy="lock what it names too; `millrace environment lock` resolves everything that is needed",
        )


def _pip_failed(told: str) -> TrainingError:
    faults = [line for line in told.splitlines() if line.startswith("ERROR")] or [_last(told)]
    where = "its lock"
    if any(sign in told for sign in _UNANSWERED):
        return EnvironmentUnavailableError(
            f"pip reaches no index: {faults[0]}",
            where=where,
            remedy="check the network or pip's configuration (PIP_INDEX_URL, PIP_FIND_LINKS), then run it again",
        )
    return TrainingError(
        f"pip cannot install the lock: {' '.join(faults)[:600]}", where=where, remedy="correct the lock"
    )


def _listing(folder: Path) -> dict[str, list[int]]:
    """Path → size and time of change of every file of the libraries; what Python compiles later does not count."""
    found: dict[str, list[int]] = {}
    for place, folders, names in os.walk(folder / "lib"):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(place) / name
            status = path.lstat()
            found[str(path.relative_to(folder))] = [status.st_size, status.st_mtime_ns]
    return found


def _last(told: str) -> str:
    return next((line for line in reversed(told.splitlines()) if line.strip()), "it said nothing")
