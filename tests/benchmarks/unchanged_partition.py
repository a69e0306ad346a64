"""Seconds that ingesting and validating an unchanged partition of 3.4 M rows takes, above an empty task."""

from __future__ import annotations

import importlib
import tempfile
import time
from pathlib import Path

from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.ingestion import ingest_partition
from millrace.step.validation import validate_partition
from tests.benchmarks.flight_rows import write_csv
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import ROOT, peak_mb
from tests.benchmarks.row import Row

GOAL_S = 0.5
_SOURCE, _PARTITION = "flights", "2013-01"


def run(scale: float) -> list[Row]:
    """The year ten times over (times `scale`) as one static partition, taken in once and then again and again.

    Raises:
        AssertionError: a repetition wrote something.
    """
    importlib.import_module("millrace.validation.gx_validator")  # a task finds it preloaded
    with tempfile.TemporaryDirectory(prefix="millrace-unchanged-") as name:
        folder = Path(name)
        domain = make_domain(write_csv(folder / "flights.csv", copies=max(1, round(10 * scale))))
        settings = Settings.load({"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(folder / "var")})
        time.sleep(2.5)  # a file that has just been written is not trusted to stay as it is
        _both(domain, settings)
        base = peak_mb()
        before = _state(folder)

        def ours() -> Sample:
            started = time.perf_counter()
            _both(domain, settings)
            return Sample(figure=time.perf_counter() - started, peak_mb=peak_mb() - base)

        found = compare(ours, lambda: Sample(figure=0.0), pairs=5)
        if _state(folder) != before:
            raise AssertionError("an unchanged partition was written again")
    return [
        Row(
            name="unchanged_partition",
            scale=scale,
            ours=found.ours,
            unit="s",
            goal=GOAL_S,
            goal_kind="absolute",
            peak_mb=found.peak_mb,
        )
    ]


def make_domain(path: Path) -> DomainSpec:
    """The domain `flights` of the checkout with its flights as one static partition of a file."""
    domain = load_domain(ROOT / "dags", "flights")
    source = domain.sources[_SOURCE].model_copy(
        update={"uri": str(path), "partition_columns": {}, "max_quarantined_share": 1.0, "key": [], "contract": []}
    )
    contract = [
        item.model_copy(update={"on_failure": "warn"}) if item.on_failure == "block" else item
        for item in domain.sources[_SOURCE].contract
        if "unique" not in item.type
    ]
    source = source.model_copy(update={"contract": contract})
    return domain.model_copy(update={"sources": {_SOURCE: source}})


def _both(domain: DomainSpec, settings: Settings) -> None:
    ingest_partition(domain, _SOURCE, _PARTITION, settings=settings)
    validate_partition(domain, _SOURCE, _PARTITION, settings=settings)


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Every file of the lake with its size and time of change."""
    lake = Table(str(folder / "var" / "lake"), "")
    found = [(path, path.stat()) for path in Path(lake.lake).rglob("*") if path.is_file()]
    return sorted((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found)
