"""What a training came to, kept beside its checkpoints until it is logged: a retry then only logs."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from millrace.artifact import PlainValue
from millrace.errors import PackageError
from millrace.package import Package
from millrace.training.run import Curves

log = logging.getLogger(__name__)
_FILE = "outcome.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(PlainValue):
    """A sealed package and the facts of its training that are not in it.

    Attributes:
        package: digest of the package.
        params: values that tuning found.
        metrics: figures of the training.
        curves: metric → (step, value) in the order of the steps.
        samples: of the machine: milliseconds since the epoch, and name → value.
        started: milliseconds since the epoch.
        ended: the same.
        files: of the training's folder, for people, relative to it.
    """

    package: str
    started: int
    ended: int
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def store(self, folder: Path) -> None:
        """Write it beside, then rename."""
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{_FILE}.{os.getpid()}"
        fresh.write_bytes(orjson.dumps(self.to_dict()))
        fresh.replace(folder / _FILE)


def load_outcome(folder: Path, *, packages: Path) -> Outcome | None:
    """The outcome kept in a folder; None where there is none, or its package is gone or damaged.

    Args:
        folder: of the training.
        packages: folder of all packages.
    """
    try:
        plain = orjson.loads((folder / _FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    # JSON has no word for what is no number.
    plain["curves"] = {
        name: [(step, _number(value)) for step, value in curve] for name, curve in plain["curves"].items()
    }
    plain["metrics"] = {name: _number(value) for name, value in plain["metrics"].items()}
    plain["samples"] = [(at, {name: _number(value) for name, value in found.items()}) for at, found in plain["samples"]]
    outcome = Outcome.from_dict(plain)
    try:
        Package.open(packages / outcome.package, outcome.package)
    except PackageError as error:
        log.warning("the package of a training that was over cannot be read; it is trained again: %s", error)
        return None
    return outcome


def write_trials(trials: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the trials of a tuning as a table for people: how each ended, its parameters, and why it failed.

    Args:
        trials: `number`, `state`, `value`, `seconds`, `params` and `error` of each.
        path: CSV file.
    """
    names = sorted({name for trial in trials for name in trial["params"]})
    facts = ("number", "state", "value", "seconds")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*facts, *names, "error"])
        for trial in trials:
            tried = (trial["params"].get(name) for name in names)
            writer.writerow([*(trial[name] for name in facts), *tried, trial["error"]])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
