"""What the benchmarks of materialization share: both sides in processes of their own, in turns."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import redis_server
from tests.benchmarks.online_rows import write_facts
from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import run_python
from tests.benchmarks.row import Row

RAW_GOAL, BYTES_GOAL = 3.0, 3.0
_ENTITIES, _RAW_FACTOR = 40_000, 5


def measure(name: str, kind: str, scale: float, *, stock_goal: float, raw_is: str) -> tuple[list[Row], dict[str, int]]:
    """Rows beside Feast's own store and beside raw writes, and the bytes of each side by name."""
    sizes: dict[str, int] = {}
    rows = []
    with tempfile.TemporaryDirectory(prefix="millrace-online-") as scratch, _server(kind) as url:
        folder = Path(scratch)
        for part, other, factor, goal, other_is in (
            ("", "stock", 1, stock_goal, f"Feast's own {kind} store and engine, on DuckDB"),
            (".raw", "raw", _RAW_FACTOR, RAW_GOAL, raw_is),
        ):
            facts = folder / f"facts{factor}.parquet"
            write_facts(facts, round(_ENTITIES * factor * scale))

            def side(which: str, facts: Path = facts) -> Sample:
                words = ("-m", "tests.benchmarks.online_side", which, kind, str(facts), str(folder / which), url)
                told = run_python(*words)
                sizes[which] = told["bytes"]
                return Sample(figure=told["seconds"], result=told["sums"], peak_mb=told["peak_mb"])

            found = compare(lambda side=side: side("ours"), lambda side=side, other=other: side(other))
            rows.append(
                Row(
                    name=f"{name}{part}",
                    scale=scale,
                    ours=found.ours,
                    other=found.other,
                    other_is=other_is,
                    unit="s",
                    goal=goal,
                    goal_kind="ratio",
                    peak_mb=found.peak_mb,
                )
            )
    return rows, sizes


def bytes_row(name: str, scale: float, sizes: dict[str, int]) -> Row:
    """Bytes on disk of ours beside those of raw rows, of the same facts."""
    return Row(
        name=f"{name}.bytes",
        scale=scale,
        ours=sizes["ours"],
        other=sizes["raw"],
        other_is="raw packed rows in SQLite",
        unit="bytes",
        goal=BYTES_GOAL,
        goal_kind="ratio",
    )


@contextlib.contextmanager
def _server(kind: str) -> Iterator[str]:
    if kind == "redis":
        with redis_server.serve(tcp=True) as server:
            yield server.url
    else:
        yield ""
