"""Seconds of the flights contract over 3.4 M rows, beside one raw query of its counts and Great Expectations on pandas.

Every sample is a process of its own, which has imported and once used what it needs before the clock starts: a task
finds it preloaded. Ours and the raw query read Parquet files; pandas is given its frame before the clock starts.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from millrace.lake import duck
from millrace.spec import ExpectationSpec
from tests.benchmarks.flight_rows import write_csv
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import peak_mb, run_python
from tests.benchmarks.row import Row

GOAL_RAW, GOAL_PANDAS = 3.0, 0.2
COPIES = 10
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
AIRPORTS = ["EWR", "JFK", "LGA"]
_TABLE = "clean"

_ROWS = """
COPY (
    SELECT (row_number() OVER () - 1)::BIGINT AS "row#", * REPLACE (
        dep_delay::DOUBLE AS dep_delay, arr_delay::DOUBLE AS arr_delay, air_time::DOUBLE AS air_time,
        distance::DOUBLE AS distance, sched_dep_time::INTEGER AS sched_dep_time, flight::INTEGER AS flight,
        time_hour + to_years(copy::INTEGER) AS time_hour
    ), carrier || '-' || flight || '-' || origin || '-' || strftime(time_hour, '%m%dT%H%MZ') || '-' || copy AS flight_id
    FROM range($copies) AS copies(copy), read_csv($csv, nullstr = 'NA')
) TO '{path}' (FORMAT parquet)
"""
_RAW = f"""
SELECT count(*), count(flight_id) - count(DISTINCT flight_id), count(*) - count(flight_id),
    count_if(carrier NOT IN ({", ".join(map(duck.text, CARRIERS))})),
    count_if(origin NOT IN ({", ".join(map(duck.text, AIRPORTS))})),
    count_if(NOT regexp_matches(dest, '^[A-Z]{{3}}$')), count_if(NOT regexp_matches(tailnum, '^[A-Z0-9]{{4,6}}$')),
    count_if(sched_dep_time NOT BETWEEN 0 AND 2359), count_if(distance NOT BETWEEN 50 AND 5500),
    count_if(dep_delay NOT BETWEEN -120 AND 240), count_if(air_time NOT BETWEEN 10 AND 600), avg(arr_delay)
FROM {_TABLE}
"""


def contract() -> list[ExpectationSpec]:
    """Twelve expectations as the flights have them; about one row in two hundred is set aside."""
    aside: list[tuple[str, dict[str, Any]]] = [
        ("column_values_to_be_unique", {"column": "flight_id"}),
        ("column_values_to_not_be_null", {"column": "flight_id"}),
        ("column_values_to_be_in_set", {"column": "carrier", "value_set": CARRIERS}),
        ("column_values_to_be_in_set", {"column": "origin", "value_set": AIRPORTS}),
        ("column_values_to_match_regex", {"column": "dest", "regex": "^[A-Z]{3}$"}),
        ("column_values_to_match_regex", {"column": "tailnum", "regex": "^[A-Z0-9]{4,6}$"}),
        ("column_values_to_be_between", {"column": "sched_dep_time", "min_value": 0, "max_value": 2359}),
        ("column_values_to_be_between", {"column": "distance", "min_value": 50, "max_value": 5500}),
        ("column_values_to_be_between", {"column": "dep_delay", "min_value": -120, "max_value": 240}),
        ("column_values_to_be_between", {"column": "air_time", "min_value": 10, "max_value": 600}),
    ]
    rows = ExpectationSpec(type="expect_table_row_count_to_be_between", kwargs={"min_value": 1000})
    mean = ExpectationSpec(
        type="expect_column_mean_to_be_between",
        kwargs={"column": "arr_delay", "min_value": -30, "max_value": 60},
        on_failure="warn",
    )
    return [
        rows,
        *(ExpectationSpec(type=f"expect_{kind}", kwargs=kwargs, on_failure="quarantine") for kind, kwargs in aside),
        mean,
    ]


def run(scale: float) -> list[Row]:
    """The year ten times over (times `scale`), each time a year later; verdicts and failing rows are compared.

    Raises:
        DifferentResultsError: ours are not those of Great Expectations on pandas, or counts not those of the query.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-validate-") as name:
        path = str(make_rows(Path(name), copies=max(1, round(COPIES * scale))))
        raw = compare(lambda: _fresh("ours", path), lambda: _fresh("raw", path), pairs=5, same=_same_counts)
        pandas = compare(lambda: _fresh("ours", path), lambda: _fresh("pandas", path), pairs=2)
    return [
        Row(
            name="validate",
            scale=scale,
            ours=raw.ours,
            other=raw.other,
            other_is="one DuckDB query of the same twelve counts over the same Parquet file",
            unit="s",
            goal=GOAL_RAW,
            goal_kind="ratio",
            peak_mb=raw.peak_mb,
        ),
        Row(
            name="validate.pandas",
            scale=scale,
            ours=pandas.ours,
            other=pandas.other,
            other_is="Great Expectations on pandas with full row results, reading not counted",
            unit="s",
            goal=GOAL_PANDAS,
            goal_kind="ratio",
            peak_mb=pandas.peak_mb,
        ),
    ]


def make_rows(folder: Path, *, copies: int) -> Path:
    """The flights with their positions and ids as a Parquet file."""
    csv, path = write_csv(folder / "flights.csv", copies=1), folder / "flights.parquet"
    connection = duck.connect(spill=folder)
    connection.execute(_ROWS.format(path=path), {"copies": copies, "csv": str(csv)})
    connection.close()
    return path


def _fresh(side: str, path: str) -> Sample:
    told = run_python("-m", "tests.benchmarks.validate", side, path, env={"PYTHONPATH": "include:."}, timeout_s=600)
    return Sample(figure=told["s"], result=told["result"], peak_mb=told["peak_mb"])


def _same_counts(ours: Any, raw: Any) -> bool:
    """Counts are equal; the mean within what the order of adding up changes."""
    counts = [item["count"] for item in ours]
    return bool(counts[:-1] == raw[:-1] and abs(counts[-1] - raw[-1]) < 1e-9)


def _ours(connection: Any) -> Callable[[], Any]:
    from millrace.validation.gx_validator import GXValidator

    return lambda: _told(GXValidator().validate(connection, _TABLE, contract(), suite="flights"))


def _told(validation: Any) -> list[dict[str, Any]]:
    results = [item["result"] for item in validation.document["results"]]
    return [
        _judged(finding.holds, result, finding.rows)
        for finding, result in zip(validation.findings, results, strict=True)
    ]


def _judged(holds: bool, result: Any, rows: Any) -> dict[str, Any]:
    observed = result.get("unexpected_count", result.get("observed_value"))
    digest = "" if rows is None else hashlib.sha256(rows.tobytes()).hexdigest()
    return {"holds": holds, "count": float(f"{observed:.12g}"), "rows": digest}


def _pandas(connection: Any) -> Callable[[], Any]:
    from millrace.validation.gx_expectation import build_suite, needed_columns
    from millrace.validation.gx_pandas import failing_rows, read_frame, validate_frame

    columns = [row[0] for row in connection.execute(f"DESCRIBE {_TABLE}").fetchall()]
    frame = read_frame(connection, _TABLE, needed_columns(contract(), columns))

    def work() -> Any:
        found = validate_frame(frame, build_suite(contract(), columns), "flights").values()
        return [_judged(result.success, result.result, failing_rows(result)) for result in found]

    return work


def _raw(connection: Any) -> Callable[[], Any]:
    return lambda: list(connection.execute(_RAW).fetchone())


_SIDES: dict[str, Callable[[Any], Callable[[], Any]]] = {"ours": _ours, "raw": _raw, "pandas": _pandas}


def _main(side: str, path: str) -> None:
    small = _connect(f"SELECT * FROM read_parquet({duck.text(path)}) LIMIT 1000")
    _SIDES[side](small)()
    work = _SIDES[side](_connect(f"SELECT * FROM read_parquet({duck.text(path)})"))
    base = peak_mb()
    started = time.perf_counter()
    result = work()
    told = {"s": time.perf_counter() - started, "result": result, "peak_mb": peak_mb() - base}
    print(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY).decode())


def _connect(select: str) -> Any:
    connection = duck.connect()
    connection.execute(f"CREATE VIEW {_TABLE} AS {select}")
    return connection


if __name__ == "__main__":
    _main(*sys.argv[1:])
