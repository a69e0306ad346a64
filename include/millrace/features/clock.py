"""Whether a transformation reads a clock: told by its text, since two runs in one second, or one year, agree."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from millrace.cleanup.expression import isolated, unrepeatable_calls
from millrace.features.definition import function_code

_NOW = {"now", "utcnow", "today"}
_TIME = {"time", "time_ns", "localtime", "gmtime", "ctime"}


def clocks_in_sql(text: str) -> list[str]:
    """Functions the SQL calls that may give another value at every run: clocks and chance, sorted."""
    with isolated() as connection:
        return [f"{name}()" for name in unrepeatable_calls(connection, text)]


def clocks_in_python(text: str, function: str) -> list[str]:
    """Calls by which Python usually asks for the present moment, of those that a function reaches, in their order.

    What is imported under another name, or asked for in another way, is not seen.

    Raises:
        FeatureError: the text is no Python.
    """
    tree = ast.parse(function_code(text, function))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_clock(node, set(_of_time(tree)))]
    return list(dict.fromkeys(f"{ast.unparse(node.func)}()" for node in calls))


def _of_time(tree: ast.AST) -> Iterator[str]:
    """Names that were imported from the module `time`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (alias.asname or alias.name for alias in node.names if alias.name in _TIME)


def _is_clock(node: ast.Call, of_time: set[str]) -> bool:
    function = node.func
    if isinstance(function, ast.Name):
        return function.id in of_time and not node.args
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr == "datetime64":
        return bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value in ("now", "today")
    of = ast.unparse(function.value)
    return function.attr in _NOW or (of == "time" and function.attr in _TIME and not node.args)
