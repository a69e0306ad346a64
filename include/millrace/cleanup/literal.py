"""Values of a spec as SQL of a column's type, where they fit it without loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime

from millrace.cleanup.kind import FLOATS, INSTANT, INTEGERS
from millrace.lake.duck import text
from millrace.spec.cleanup import Scalar
from millrace.spec.clock import Clock

_WHOLE = re.compile(r"[+-]?\d+")
_LARGEST_FLOAT = 3.4028234663852886e38
_WIDER = {
    "SMALLINT": ["SMALLINT", "INTEGER", "BIGINT", "DOUBLE"],
    "INTEGER": ["INTEGER", "BIGINT", "DOUBLE"],
    "FLOAT": ["FLOAT", "DOUBLE"],
}


def literal(value: Scalar, kind: str, clock: Clock | None = None) -> str | None:
    """SQL of the value in that type, None where it does not fit. A decimal becomes the nearest floating-point number.

    Args:
        value: as the spec has it; instants and dates as ISO text.
        kind: DuckDB type.
        clock: of instants that carry no zone; without it they do not fit.
    """
    if kind == "BOOLEAN":
        return str(value).upper() if isinstance(value, bool) else None
    if kind in INTEGERS:
        return _integer(value, kind)
    if kind in FLOATS:
        return _float(value, kind)
    if not isinstance(value, str) or "\x00" in value:
        return None
    if kind == "DATE":
        return _date(value)
    return _instant(value, clock) if kind == INSTANT else text(value)


def parsed(written: str, kind: str) -> Scalar | None:
    """The value that a text writes in that type, None where it writes none."""
    stripped = written.strip()
    if kind == "BOOLEAN":
        return {"true": True, "false": False}.get(stripped.lower())
    if kind in INTEGERS:
        return int(stripped) if _WHOLE.fullmatch(stripped) else None
    if kind in FLOATS:
        try:
            return float(stripped)
        except ValueError:
            return None
    return written


def common_kind(kind: str, values: Iterable[Scalar], clock: Clock | None = None) -> str | None:
    """The narrowest type that holds a column's own values and these, None where none does."""
    held = list(values)
    for wider in _WIDER.get(kind, [kind]):
        if all(literal(value, wider, clock) is not None for value in held):
            return wider
    return None


def _integer(value: Scalar, kind: str) -> str | None:
    if isinstance(value, (bool, str)) or not math.isfinite(value) or value != int(value):
        return None
    bound = 1 << (INTEGERS[kind] - 1)
    return f"CAST({text(str(int(value)))} AS {kind})" if -bound <= value < bound else None


def _float(value: Scalar, kind: str) -> str | None:
    if isinstance(value, (bool, str)) or (isinstance(value, int) and not _is_float(value)) or math.isnan(value):
        return None
    if kind == "FLOAT" and math.isfinite(value) and abs(value) > _LARGEST_FLOAT:
        return None
    return f"CAST({text(repr(float(value)))} AS {kind})"


def _is_float(value: int) -> bool:
    return abs(value) < 1 << 1023 and int(float(value)) == value


def _date(value: str) -> str | None:
    try:
        return f"DATE {text(date.fromisoformat(value).isoformat())}"
    except ValueError:
        return None


def _instant(value: str, clock: Clock | None) -> str | None:
    try:
        given = datetime.fromisoformat(value)
        if given.tzinfo is not None:
            moment: datetime | None = given.astimezone(UTC)
        else:
            moment = None if clock is None else clock.instant(given)
    except (ValueError, OverflowError):
        return None
    return None if moment is None else f"CAST({text(moment.isoformat())} AS {INSTANT})"
