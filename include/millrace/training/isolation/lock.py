"""Locks of candidates that bring their own software: exact pins, and nothing that pip would take as an order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from millrace.errors import SpecError

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._,\s-]+\])?\s*==\s*(?P<version>[A-Za-z0-9][A-Za-z0-9._+!-]*)"
    r"(\s*;(?:(?!\s-)[^#])*?)?(\s+--hash=[a-z0-9]+:[0-9a-f]+)*"
)
NEEDED = ("numpy", "orjson", "pyarrow", "pydantic", "pyyaml")
"""What Millrace itself needs where a candidate trains, beside the library of its trainer."""


def read_lock(dags: Path, name: str) -> str:
    """The text of a candidate's lock.

    Args:
        dags: the DAGs folder.
        name: path relative to it.

    Raises:
        SpecError: it lies outside the folder, cannot be read, or holds something else than exact pins.
    """
    try:
        path = (dags / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise SpecError(
            f"the lock has no path: {error}", where=name, remedy="correct environment.lock of the candidate"
        ) from error
    if not path.is_relative_to(dags.resolve()):
        raise SpecError("the lock lies outside the DAGs folder", where=name, remedy="move it there")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"the lock cannot be read: {error}", where=str(path), remedy="correct environment.lock of the candidate"
        ) from error
    parse_lock(text, where=str(path))
    return text


def parse_lock(text: str, *, where: str) -> dict[str, str]:
    """Distribution (normalised name) → version of every pin.

    Raises:
        SpecError: a line is no exact pin, a distribution stands there twice, or one that Millrace needs does not.
    """
    pins: dict[str, str] = {}
    for number, line in _lines(text):
        found = _PIN.fullmatch(line)
        if found is None:
            raise SpecError(
                f"line {number} is no exact pin: {line[:80]!r}",
                where=where,
                remedy="write name==version, with --hash where wanted; indexes are a matter of pip's configuration",
            )
        name = normalise(found["name"])
        if ";" not in line and name in pins:
            raise SpecError(f"line {number} pins {name!r} a second time", where=where, remedy="take one of them out")
        pins[name] = found["version"]
    if absent := [name for name in NEEDED if name not in pins]:
        raise SpecError(
            f"the lock has no {', '.join(absent)}, which Millrace needs to train there",
            where=where,
            remedy=f"lock {' '.join(NEEDED)} together with the trainer's library: `millrace environment lock`",
        )
    return pins


def canonical_lock(text: str) -> str:
    """The pins alone, one a line and sorted: locks that differ in comments or order are one environment."""
    return "".join(f"{line}\n" for line in sorted(" ".join(line.split()) for _, line in _lines(text)))


def normalise(name: str) -> str:
    """A distribution's name in the one form that compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of each requirement; backslashes join lines, comments are dropped."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        start = start or number
        if line.endswith("\\"):
            pending += line[:-1].rstrip() + " "
            continue
        if whole := (pending + line).strip():
            yield start, whole
        pending, start = "", 0
    if pending.strip():
        yield start, pending.strip()
