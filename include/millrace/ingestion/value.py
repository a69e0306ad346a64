"""One value of a text source as plain text that Arrow casts to its declared type without losing anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from millrace.ingestion.cast import Mask, unreadable_time
from millrace.lake.schema import TIMESTAMP, arrow_schema
from millrace.spec.base import ColumnType
from millrace.spec.clock import Clock

TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_SPECIAL = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d{1,12}))?)?)?)?"
    r"\s*(Z|z|UTC|GMT|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_BITS: dict[ColumnType, int] = {"int16": 16, "int32": 32, "int64": 64}
_EARLIEST, _LATEST = (
    pa.scalar(moment, TIMESTAMP)
    for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
)
_FLOAT32_LIMIT = 3.4028235677973366e38
"""From here on a number rounds to infinity in float32."""


class UnfitError(ValueError):
    """A text is no value of the declared type; its argument says why, without the text."""


class NoZoneError(UnfitError):
    """A time carries no zone, and the source declares none."""


def plain_text(kind: ColumnType, text: str, clock: Clock | None) -> str:
    """The text as Arrow's cast to that type takes it.

    Whole numbers may be written `3.0` or `1e3`, since nothing of them is lost; numbers in hexadecimal are refused.
    `nan` and `inf` are numbers of a float column; a number too large for it is refused.

    Args:
        kind: declared type.
        text: the value as it came.
        clock: how times that carry no zone are read.

    Raises:
        UnfitError: it is no value of that type.
        NoZoneError: it is a time without a zone where `clock` is None.
    """
    if kind == "string":
        return text
    text = text.strip()
    if kind == "bool":
        return _boolean(text)
    if kind == "timestamp":
        return _instant(text, clock)
    return _float(text, kind) if kind in ("float32", "float64") else _integer(text, kind)


def convert(texts: pa.Array, kind: ColumnType, clock: Clock | None) -> tuple[pa.Array, Mask | None]:
    """A column of texts in its declared type, null where one does not fit; and which do not, if any."""
    coded = texts.dictionary_encode()
    plain: list[str | None] = []
    unfit = []
    for code, text in enumerate(coded.dictionary.to_pylist()):
        try:
            plain.append(plain_text(kind, text, clock))
        except UnfitError:
            plain.append(None)
            unfit.append(code)
    values = cast(plain, kind).take(coded.indices)
    if not unfit:
        return values, None
    return values, pc.is_in(coded.indices, value_set=pa.array(unfit, pa.int32())).to_numpy(zero_copy_only=False)


def cast(plain: Sequence[str | None], kind: ColumnType) -> pa.Array:
    """Texts that `plain_text` gave, as values."""
    texts = pa.array(plain, pa.string())
    return texts if kind == "string" else pc.cast(texts, arrow_schema({"value": kind}).field("value").type)


def is_doubtful(values: pa.Array) -> bool:
    """Whether Arrow may have read what is no value: 1e400 as infinity, times that no calendar has."""
    if pa.types.is_floating(values.type):
        return bool(pc.any(pc.is_inf(values)).as_py())
    if pa.types.is_timestamp(values.type) and len(values) > values.null_count:
        ends = pc.min_max(values)
        return bool(pc.less(ends["min"], _EARLIEST).as_py() or pc.greater(ends["max"], _LATEST).as_py())
    return False


def _boolean(text: str) -> str:
    word = text.lower()
    if word in TRUE:
        return "true"
    if word in FALSE:
        return "false"
    raise UnfitError("neither true nor false")


def _integer(text: str, kind: ColumnType) -> str:
    if _WHOLE.fullmatch(text):
        digits = text.lstrip("+-").lstrip("0")
        value = int(text) if len(digits) < 20 else None
    elif len(text) < 64 and _NUMBER.fullmatch(text):
        exact = Decimal(text)
        if exact.adjusted() < 20 and exact != exact.to_integral_value():
            raise UnfitError("a number with a fraction where a whole one is declared")
        value = int(exact) if exact.adjusted() < 20 else None
    else:
        raise UnfitError("no whole number")
    limit = 1 << (_BITS[kind] - 1)
    if value is None or not -limit <= value < limit:
        raise UnfitError(f"too large for {kind}")
    return str(value)


def _float(text: str, kind: ColumnType) -> str:
    if _SPECIAL.fullmatch(text):
        return text.lower().lstrip("+")
    if not _NUMBER.fullmatch(text):
        raise UnfitError("no number")
    if abs(float(text)) >= (_FLOAT32_LIMIT if kind == "float32" else float("inf")):
        raise UnfitError(f"too large for {kind}")
    return text


def _instant(text: str, clock: Clock | None) -> str:
    found = _TIME.fullmatch(text)
    if found is None:
        raise UnfitError("no time such as 2013-01-01T00:00:00Z")
    *digits, fraction, mark, sign, hours, minutes = found.groups()
    if (fraction or "")[6:].strip("0"):
        raise UnfitError("a time finer than microseconds")
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in digits)
        naive = datetime(year, month, day, hour, minute, second, micros)
        moment = _placed(naive, clock) if mark is None else naive.replace(tzinfo=_offset(sign, hours, minutes))
        instant = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise error if isinstance(error, UnfitError) else UnfitError("a time that no calendar has") from error
    return f"{instant.replace(tzinfo=None).isoformat()}Z"


def _offset(sign: str | None, hours: str | None, minutes: str | None) -> timezone:
    ahead = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return timezone(-ahead if sign == "-" else ahead)


def _placed(naive: datetime, clock: Clock | None) -> datetime:
    if clock is None:
        raise NoZoneError("a time without a zone")
    if (instant := clock.instant(naive)) is None:
        raise UnfitError(unreadable_time(clock))
    return instant
