"""Python batch functions: loaded from the text that was digested, called with Arrow tables, held to their contract."""

from __future__ import annotations

import functools
import hashlib
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any

import pyarrow as pa

from millrace.errors import FeatureError


def call_function(text: str, origin: str, rows: Mapping[str, pa.Table], start: datetime, end: datetime) -> pa.Table:
    """What a batch function makes of clean rows.

    Args:
        text: source of its file.
        origin: `<file>:<function>`.
        rows: clean rows by source; instants are UTC.
        start: first instant of the partition.
        end: first instant after it.

    Raises:
        FeatureError: the file cannot be run, has no such function, or the function raises or returns no table.
    """
    function = load_function(text, origin)
    try:
        found = function(dict(rows), start, end)
    except (Exception, SystemExit) as error:  # code of the team's
        raise FeatureError(
            f"the function fails: {type(error).__name__}: {error}{_place(error, origin)}",
            where=origin,
            remedy="correct the function; it is also called with tables that have no rows",
        ) from error
    if isinstance(found, pa.Table):
        return found
    if not hasattr(found, "__arrow_c_stream__"):
        raise FeatureError(
            f"the function returns {type(found).__name__}, not an Arrow table",
            where=origin,
            remedy="return a pyarrow.Table, or a frame of a library that exports Arrow (polars, DuckDB)",
        )
    try:
        return plain_strings(pa.table(found))
    except Exception as error:  # whatever the library behind the frame raises
        raise FeatureError(
            f"what the function returns is no Arrow table: {error}", where=origin, remedy="give each column one type"
        ) from error


@functools.lru_cache(maxsize=64)
def load_function(text: str, origin: str) -> Callable[..., Any]:
    """The function of a file, made of its text alone: what is digested is what runs.

    Raises:
        FeatureError: the file cannot be run, or has no such function.
    """
    file, _, name = origin.partition(":")
    module = ModuleType(f"millrace_batch_{hashlib.sha256(text.encode()).hexdigest()[:16]}")
    module.__file__ = file
    try:
        exec(compile(text, file, "exec"), module.__dict__)  # the team's own code, beside the domain's YAML
    except (Exception, SystemExit) as error:
        raise FeatureError(
            f"the file cannot be run: {type(error).__name__}: {error}{_place(error, origin)}",
            where=file,
            remedy="correct it; it may import installed libraries, not files beside it",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise FeatureError(f"the file has no function {name!r}", where=file, remedy="correct `function`")
    checked: Callable[..., Any] = function
    return checked


def plain_strings(rows: pa.Table) -> pa.Table:
    """The table with `string` for other encodings of text, which libraries prefer inside."""
    fields = [
        field.with_type(pa.string())
        if pa.types.is_large_string(field.type) or pa.types.is_string_view(field.type)
        else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def _place(error: BaseException, origin: str) -> str:
    """The last line of the team's file that the error came through."""
    file = origin.partition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {lines[-1]})" if lines else ""
