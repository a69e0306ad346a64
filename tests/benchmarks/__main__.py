"""`python -m tests.benchmarks [NAME] [--scale N]`: run one benchmark, or all; a line of JSON a row at the end."""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.registry import UnknownBenchmarkError, list_benchmarks, load_benchmark
from tests.benchmarks.row import Row


def main(words: list[str] | None = None) -> int:
    """Exit status 0 where all ran (met or not), 1 where one failed, 2 where there is none of that name."""
    parser = argparse.ArgumentParser(prog="make bench", description="Run benchmarks; a line of JSON a row at the end.")
    parser.add_argument("name", nargs="?", help="one of: " + ", ".join(list_benchmarks()))
    parser.add_argument("--scale", type=_positive, default=1.0, help="how much larger than usual the work is")
    options = parser.parse_args(words)
    try:
        runs = {name: load_benchmark(name) for name in ([options.name] if options.name else list_benchmarks())}
    except UnknownBenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[Row] = []
    failed = []
    for name, run in runs.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            rows += run(options.scale)
        except Exception as error:  # the others still run, and the exit status tells
            if options.name:
                raise
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(name)
    for row in rows:
        print(row.to_json())
    return 1 if failed else 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
