"""The clock of `latency`, run in a process of its own: opens a package and times it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import orjson

BATCH_ROWS = 1_000
_WARM_UP, _ONES, _BATCHES = 10, 200, 5


def main(folder: str, digest: str, told: str) -> None:
    """Time a package and write the figures, in milliseconds, to a file."""
    Path(told).write_bytes(orjson.dumps(time_package(Path(folder), digest)))


def time_package(folder: Path, digest: str) -> dict[str, float]:
    """Load a package; then its golden rows one at a time, and repeated to a batch."""
    started = perf_counter()
    from millrace.package import Package

    package = Package.open(folder, digest)
    predictor = package.predictor()
    golden = {name: package.golden.columns[name] for name in predictor.columns}
    rows = [
        {name: values[place : place + 1] for name, values in golden.items()} for place in range(len(package.golden))
    ]
    predictor.predict(rows[0])
    load = perf_counter() - started
    ones = _time(predictor.predict, rows, _WARM_UP + _ONES)[_WARM_UP:]
    batch = {name: list(itertools.islice(itertools.cycle(values), BATCH_ROWS)) for name, values in golden.items()}
    batches = _time(predictor.predict, [batch], 1 + _BATCHES)[1:]
    return {
        "rows": BATCH_ROWS,
        "load": _milliseconds(load),
        "one_median": _milliseconds(float(np.median(ones))),
        "one_p99": _milliseconds(float(np.quantile(ones, 0.99))),
        "batch": _milliseconds(float(np.median(batches))),
    }


def _time(predict: Callable[[Mapping[str, Any]], Any], inputs: list[dict[str, Any]], count: int) -> list[float]:
    found = []
    for columns in itertools.islice(itertools.cycle(inputs), count):
        started = perf_counter()
        predict(columns)
        found.append(perf_counter() - started)
    return found


def _milliseconds(seconds: float) -> float:
    return float(f"{1000 * seconds:.4g}")
