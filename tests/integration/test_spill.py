"""Feature SQL over more rows than its memory limit holds: it spills to disk, and the rows are the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.memory import READY, needs_proc, take
from tests.unit import tolls

from millrace.lake import Table
from millrace.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900), needs_proc]
ROOT = Path(__file__).resolve().parents[2]
PASSES, GATES, LIMIT_MB = 5_000_000, 40, 100
SQL = """
SELECT gate, passed_at AS event_timestamp, passed_at AS known_at, passes_1d, CAST(weight_1d AS DOUBLE) AS weight_1d
FROM (
    SELECT
        gate,
        passed_at,
        count(*) OVER past AS passes_1d,
        sum(CAST(weight AS BIGINT)) OVER past AS weight_1d,
        row_number() OVER past AS number
    FROM passes
    WINDOW past AS (PARTITION BY gate ORDER BY passed_at, pass_id ROWS 20 PRECEDING)
)
WHERE number % 1000 = 0 AND passed_at >= $start
"""
BUILD = """
import json, sys, threading
from pathlib import Path

from tests.unit import tolls

from millrace.errors import FeatureError
from millrace.features.compute import compute_rows, read_transformation
from millrace.lake.digest import content_digest
from millrace.settings import Settings

settings, scratch = Settings.load(), Path(sys.argv[2])
small, domain = tolls.make_domain(settings), tolls.make_domain(settings, memory_limit=sys.argv[1], threads=2)
(settings.sql_folder / "tolls" / "load.sql").write_text(sys.argv[3], encoding="utf-8")
made_by = read_transformation(domain, "gate_load", settings.sql_folder)
compute_rows(small, made_by, "2021-03", lake=settings.lake, scratch=scratch)
spilled, done = [0.0], threading.Event()


def watch():
    while not done.wait(0.01):
        try:
            sizes = [file.stat().st_size for file in scratch.rglob("*") if file.is_file()]
        except FileNotFoundError:
            continue
        spilled.append(sum(sizes) / 1e6)


%READY%
watching = threading.Thread(target=watch)
watching.start()
try:
    rows = compute_rows(domain, made_by, "2021-01", lake=settings.lake, scratch=scratch)
    found = {"rows": rows.num_rows, "digest": content_digest(rows)}
except FeatureError as error:
    found = {"error": str(error)}
finally:
    done.set()
    watching.join()
found |= {"spilled_mb": max(spilled), "left": len(list(scratch.iterdir()))}
print(json.dumps(found))
""".replace("%READY%", READY)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A month of five million passes, and one of a few."""
    base = tmp_path_factory.mktemp("spill")
    settings = Settings.load(
        {"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(base), "MILLRACE_DAGS": str(base / "dags")}
    )
    domain = tolls.make_domain(settings)
    tolls.write_clean(domain, settings.lake, passes=50)
    random = np.random.default_rng(1)
    start = int(domain.partition("2021-01").start.timestamp()) * 10**6
    at = np.sort(random.integers(0, 28 * 24 * 3600 * 10**6, PASSES)) + start
    gates = pa.array([f"G{number}" for number in range(GATES)])
    rows = pa.table(
        {
            "pass_id": np.arange(PASSES),
            "gate": gates.take(pa.array(random.integers(0, GATES, PASSES))),
            "passed_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "weight": random.integers(500, 40_000, PASSES).astype(float),
            "fined": random.random(PASSES),
            "month": pa.array(["2021-01"]).take(pa.array(np.zeros(PASSES, np.int32))),
        }
    )
    Table(settings.lake, domain.clean_table("passes")).replace(rows, partition="2021-01")
    yield settings
    shutil.rmtree(base)


def build(settings: Settings, folder: Path, limit: str) -> dict[str, Any]:
    variables = {"MILLRACE_VAR": str(settings.var), "MILLRACE_DAGS": str(settings.dags)}
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    taken = take(BUILD, limit, str(scratch), SQL, folder=folder, env=variables)
    return {**taken.told, "peak_mb": taken.peak_mb}


def test_what_does_not_fit_is_spilled_and_the_rows_are_the_same(installation: Settings, tmp_path: Path) -> None:
    within, ample = (build(installation, tmp_path, limit) for limit in (f"{LIMIT_MB}MB", "8GB"))
    print(f"{within['peak_mb']:.0f} MB within, {ample['peak_mb']:.0f} MB without a limit")
    assert within["digest"] == ample["digest"]
    assert within["rows"] > 4000
    assert (ample["spilled_mb"], within["left"]) == (0, 0)
    assert within["spilled_mb"] > LIMIT_MB
    assert within["peak_mb"] < 2.2 * LIMIT_MB < ample["peak_mb"], (within, ample)


def test_a_limit_that_nothing_can_be_done_in_is_told_with_the_remedy(installation: Settings, tmp_path: Path) -> None:
    found = build(installation, tmp_path, "4MB")
    assert "more memory than the limit" in found["error"]
    assert "compute.memory_limit" in found["error"]
    assert found["left"] == 0
