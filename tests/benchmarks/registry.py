"""Which benchmarks there are: every module of this folder that defines `run(scale) -> list[Row]`.

They are found by reading, not by importing, so that a benchmark may import what it likes and one that is broken is
still named. The first line of its docstring is its description.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.row import Row

FOLDER = Path(__file__).resolve().parent
Run = Callable[[float], list[Row]]


class UnknownBenchmarkError(LookupError):
    """No benchmark has that name; the message lists those there are. A retry does not help."""


def list_benchmarks(folder: Path = FOLDER) -> dict[str, str]:
    """Name → description, by name."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def load_benchmark(name: str, folder: Path = FOLDER) -> Run:
    """The function behind a name.

    Raises:
        UnknownBenchmarkError: there is none.
    """
    known = list_benchmarks(folder)
    if name not in known:
        raise UnknownBenchmarkError(f"no benchmark {name!r}; there are: {', '.join(known)}")
    found: Run = importlib.import_module(f"tests.benchmarks.{name}").run
    return found
