"""Which code trains: a checkpoint, or a study, of other code is another job's."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from collections.abc import Iterable
from pathlib import Path

import millrace
from millrace.artifact import digest_of
from millrace.training.isolation.software import installed_pins

_OURS = ("training", "package")
_COMPILED = "__pycache__"


@functools.cache
def code_digest(trainer: str = "") -> str:
    """Names the code that trains and encodes, and of a trainer outside Millrace also its package and what that needs.

    Asked once in a process, as code is loaded once.

    Args:
        trainer: as the spec names it; `package.module:Class` for one outside Millrace.
    """
    root = Path(millrace.__file__).parent
    ours = [path for part in _OURS for path in (root / part).rglob("*.py")]
    parts: list[object] = [platform.python_version(), _digest(root, ours)]
    if package := package_of(trainer):
        parts += [package_digest(package), installed_pins(package)]
    return digest_of(parts)


def package_of(trainer: str) -> str:
    """Import name of the package that a trainer outside Millrace is in; "" for one of ours."""
    return trainer.partition(":")[0].partition(".")[0] if ":" in trainer else ""


def package_digest(package: str) -> str:
    """sha256 over every file of an importable package, or of its one module; "" where there is no such package.

    Args:
        package: its import name, without a dot.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    if spec.submodule_search_locations is None:
        alone = Path(spec.origin or "")
        return _digest(alone.parent, [alone]) if alone.is_file() else ""
    roots = [Path(place) for place in spec.submodule_search_locations]
    return digest_of([_digest(root, root.rglob("*")) for root in roots])


def _digest(root: Path, paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file() and _COMPILED not in path.parts):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + content.digest())
    return found.hexdigest()
