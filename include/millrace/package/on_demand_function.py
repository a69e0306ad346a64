"""One function that computes features when they are asked for, loaded from its text.

Numbers come in as float64 with NaN where missing, categories as text or None, whatever they were before. A number that
is not finite counts as missing on both sides, since no request and no model can hold it.

A function may import numpy and the standard library: the online service has nothing else. That keeps an honest
mistake out, it is no sandbox; the text is the team's own and sealed with the package.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import FeatureError
from millrace.package.feature import OnDemandView
from millrace.package.value import Values, listed, read_numbers, read_text

_ALLOWED = frozenset({"numpy", *sys.stdlib_module_names})


class OnDemandFunction:
    """The function of one on-demand view.

    Args:
        view: what it reads and gives.
        source: text of its file.

    Raises:
        FeatureError: the text is no Python, imports what it may not, fails, or has no such function.
    """

    def __init__(self, view: OnDemandView, source: str) -> None:
        self.view, self.source = view, source
        self._file, _, self._name = view.function.partition(":")
        self._function = self._load(source)

    def compute(self, columns: Mapping[str, Values], rows: int) -> dict[str, Any]:
        """Every feature it gives: a float64 array for a number, a list of text or None for a category.

        Args:
            columns: at least what it reads.
            rows: their length.

        Raises:
            FeatureError: a column is missing or holds what its kind cannot be, or the function fails or gives back
                something else than it declares.
        """
        given = _Given(self.view)
        for column in self.view.reads:
            if column.name not in columns:
                raise FeatureError(
                    f"column {column.name!r}, which on-demand view {self.view.view!r} reads, is missing",
                    where=self.view.function,
                    remedy=f"send all it reads: {', '.join(item.name for item in self.view.reads)}",
                )
            values = _read(column.name, column.kind, columns[column.name])
            if len(values) != rows:
                raise FeatureError(
                    f"column {column.name!r} has {len(values)} values for {rows} rows",
                    where="features",
                    remedy="send as many values for each column",
                )
            given[column.name] = values
        if not rows:
            return {item.name: np.empty(0) if item.kind == "number" else [] for item in self.view.gives}
        return self._checked(self._call(given), rows)

    def _load(self, source: str) -> Callable[[Any], Any]:
        code = self._compile(source)
        found: dict[str, Any] = {
            "__name__": f"on_demand.{self.view.view}",
            "__builtins__": {**vars(builtins), "__import__": self._import},
        }
        try:
            exec(code, found)
        except (Exception, SystemExit) as error:
            fault = f"fails when it is loaded: {type(error).__name__}: {error}"
            raise self._error(fault, "mend it", line=self._line(error)) from error
        function = found.get(self._name)
        if not callable(function):
            defined = [name for name, value in found.items() if callable(value) and not name.startswith("_")]
            near = difflib.get_close_matches(self._name, defined, n=1)
            raise FeatureError(
                f"there is no function {self._name!r}",
                where=f"{self._file}, on-demand view {self.view.view!r}",
                remedy=f"did you mean {near[0]!r}?" if near else "write it, or correct `function`",
            )
        checked: Callable[[Any], Any] = function
        return checked

    def _compile(self, source: str) -> CodeType:
        try:
            tree = ast.parse(source, self._file)
            code: CodeType = compile(tree, self._file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise self._error(f"is no Python: {error}", "mend the syntax", line=getattr(error, "lineno", 0)) from error
        for name, line in _imports(tree):
            if name.partition(".")[0] not in _ALLOWED:
                remedy = "use numpy and the standard library: the online service has nothing else"
                raise self._error(f"imports {name!r}", remedy, line=line)
        return code

    def _import(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] not in _ALLOWED:
            raise ImportError(f"{name!r} may not be imported here, only numpy and the standard library may")
        return builtins.__import__(name, *arguments, **keywords)

    def _call(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with np.errstate(all="ignore"):
                found = self._function(given)
        except FeatureError:
            raise
        except (Exception, SystemExit) as error:
            remedy = "mend the function: it must answer whatever its columns hold"
            raise self._error(f"raises {type(error).__name__}", remedy, line=self._line(error)) from error
        if not isinstance(found, Mapping):
            raise self._error(f"returns a {type(found).__name__}", "return a dict of one array a feature")
        declared = [item.name for item in self.view.gives]
        if absent := [name for name in declared if name not in found]:
            raise self._error(f"returns no feature {', '.join(map(repr, absent))}", "return all that is declared")
        if more := [str(name) for name in found if name not in declared]:
            raise self._error(f"returns {', '.join(map(repr, more))}", "declare it under `features`, or drop it")
        return found

    def _checked(self, found: Mapping[str, Any], rows: int) -> dict[str, Any]:
        checked: dict[str, Any] = {}
        for feature in self.view.gives:
            values = found[feature.name]
            shape = _shape(values)
            if shape != (rows,):
                told = f"{shape[0]} values" if len(shape) == 1 else f"shape {shape}" if shape else "one value"
                remedy = "return one value a row, in the order of the rows"
                raise self._error(f"returns {told} of {feature.name!r} for {rows} rows", remedy)
            if isinstance(values, np.ma.MaskedArray):
                raise self._error(f"returns {feature.name!r} masked", "return NaN or None where it is missing")
            try:
                read = _read(feature.name, feature.kind, values)
            except FeatureError as error:
                remedy = f"return a {feature.kind}, or declare it otherwise"
                raise self._error(f"returns something else: {error.what}", remedy) from error
            checked[feature.name] = read if feature.kind == "number" else read.tolist()
        return checked

    def _line(self, error: BaseException) -> int:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        return next((frame.lineno or 0 for frame in frames if frame.filename == self._file), 0)

    def _error(self, fault: str, remedy: str, *, line: int = 0) -> FeatureError:
        """The fault with file, function and line; never with the text of an exception, which may hold values."""
        at = f", line {line}" if line else ""
        return FeatureError(
            f"{self._name} {fault}", where=f"{self._file}{at}, on-demand view {self.view.view!r}", remedy=remedy
        )


class _Given(dict[str, Any]):
    """The columns of a call; asking for another one says which there are."""

    def __init__(self, view: OnDemandView) -> None:
        super().__init__()
        self._view = view

    def __missing__(self, name: object) -> Any:
        known = [column.name for column in self._view.reads]
        near = difflib.get_close_matches(str(name), known, n=1)
        raise FeatureError(
            f"asks for column {str(name)[:60]!r}, which on-demand view {self._view.view!r} does not read",
            where=self._view.function,
            remedy=f"did you mean {near[0]!r}?" if near else f"declare it; it reads {', '.join(known)}",
        )


def _shape(values: Any) -> tuple[int, ...]:
    """Lengths of what a function returned; -1 for that of rows which differ in length."""
    try:
        return np.shape(values)
    except ValueError:
        return len(values), -1


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module that a text imports, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def _read(name: str, kind: str, values: Values) -> NDArray[Any]:
    """A column as functions see it: a copy in one piece, read-only, of what JSON can hold."""
    array: NDArray[Any]
    if kind == "number":
        array = np.array(read_numbers(name, values), np.float64, order="C")
        array[np.isinf(array)] = np.nan
    else:
        array = np.empty(len(values), object)
        array[:] = [value if value.__class__ is str else read_text(name, value) for value in listed(values)]
    array.flags.writeable = False
    return array
