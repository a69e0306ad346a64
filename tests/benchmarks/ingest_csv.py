"""Seconds from a CSV file of 3.4 million flights to a Delta partition, against DuckDB's own copy to Parquet."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.benchmarks.flight_rows import write_csv
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import ROOT, run_python
from tests.benchmarks.row import Row

GOAL, GOAL_MB, PARTITION = 1.5, 1500.0, "2013-01"
_YEARS = 10
_CHECK = (
    "SELECT count(*), sum(year), sum(month * day), sum(flight), sum(distance), sum(arr_delay), count(dep_delay), "
    "count(tailnum), sum(length(origin || dest || carrier)), sum(epoch(time_hour)) FROM read_parquet(?)"
)
_SHARED = """
import json, shutil, sys, time
from pathlib import Path
import deltalake, duckdb, pyarrow, pyarrow.csv, pyarrow.parquet
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.ingestion import ingest_partition
from tests.benchmarks.process import peak_mb

root, folder, partition, check = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
columns = load_domain(root / "dags", "flights").sources["flights"].columns

def tell(started, files):
    seconds, peak = time.perf_counter() - started, peak_mb() - base
    sums = duckdb.execute(check, [[str(file) for file in files]]).fetchone()
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "sums": sums}))
"""
_OURS = """
source = {"uri": str(folder / "flights-{partition}.csv"), "columns": columns, "key": ["flight"]}
domain = DomainSpec.model_validate({
    "name": "flights", "description": "", "owners": ["admin"], "first": partition,
    "sources": {"flights": source}, "feature_tables": {},
})
settings = Settings.load({"MILLRACE_ROOT": str(root), "MILLRACE_VAR": str(folder / "var")})
base, started = peak_mb(), time.perf_counter()
report = ingest_partition(domain, "flights", partition, settings=settings)
ended = time.perf_counter()
assert report.rows_rejected == report.rows_unassigned == 0, report
into = folder / "fetched"
into.mkdir()
tell(started + time.perf_counter() - ended, Table(settings.lake, domain.raw_table("flights")).fetch(into))
shutil.rmtree(into)
shutil.rmtree(folder / "var")
"""
_OTHER = """
kinds = {"int32": "INTEGER", "float64": "DOUBLE", "string": "VARCHAR", "timestamp": "TIMESTAMPTZ"}
types = ", ".join(f"'{name}': '{kinds[kind]}'" for name, kind in columns.items())
target = folder / "other.parquet"
connection = duckdb.connect(config={"threads": 2, "memory_limit": "1GB"})
connection.execute("SET TimeZone = 'UTC'")
base, started = peak_mb(), time.perf_counter()
connection.execute(
    f"COPY (SELECT * FROM read_csv('{folder}/flights-{partition}.csv', columns = {{{types}}}, auto_detect = false, "
    f"header = true, nullstr = ['', 'NA'])) TO '{target}' (FORMAT parquet)"
)
ended = time.perf_counter()
tell(started + time.perf_counter() - ended, [target])
target.unlink()
"""


def run(scale: float) -> list[Row]:
    """The year ten times over (times `scale`), ingested into a fresh lake each time."""
    var = os.environ.get("MILLRACE_TEST_VAR")
    if var:
        Path(var).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="millrace-ingest-", dir=var) as name:
        folder = Path(name)
        write_csv(folder / f"flights-{PARTITION}.csv", copies=max(1, round(_YEARS * scale)))
        found = compare(lambda: _measure(_OURS, folder), lambda: _measure(_OTHER, folder))
    speed = Row(
        name="ingest_csv",
        scale=scale,
        ours=found.ours,
        other=found.other,
        other_is="DuckDB's COPY of the same CSV, with its types, to one Parquet file",
        unit="s",
        goal=GOAL,
        goal_kind="ratio",
        peak_mb=found.peak_mb,
    )
    memory = Row(
        name="ingest_csv.memory",
        scale=scale,
        ours=found.peak_mb or 0.0,
        unit="MB",
        goal=GOAL_MB,
        goal_kind="absolute",
        peak_mb=found.peak_mb,
    )
    return [speed, memory]


def _measure(work: str, folder: Path) -> Sample:
    told = run_python("-c", _SHARED + work, str(ROOT), str(folder), PARTITION, _CHECK)
    return Sample(figure=told["seconds"], result=told["sums"], peak_mb=told["peak_mb"])
