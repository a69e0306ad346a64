"""Columns in their declared types: whole columns by Arrow's safe casts, and which rows do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import SourceError
from millrace.lake.schema import TIMESTAMP
from millrace.spec.clock import Clock

_ZONED = r":\d\d([.,]\d+)?\s*(Z|z|[+-]\d\d(:?\d\d)?)$"
NO_TEXT = "bytes that are no UTF-8 text"
_NUMBER = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_TEMPORAL = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A column in its declared type.

    Attributes:
        values: null where a value does not fit.
        faults: which rows those are, and why; the first that names a row counts.
    """

    values: pa.Array
    faults: list[tuple[Mask, str]] = field(default_factory=list)


def cast_column(values: pa.Array, target: pa.Field, *, null_values: list[str], clock: Clock | None, where: str) -> Cast:
    """A column in the type of `target`; nothing is rounded, cut or guessed.

    A decimal may become the nearest floating-point number: that is what such a column can hold of it.

    Args:
        values: as the source has it.
        target: name and declared type.
        null_values: texts that mean null.
        clock: how times that carry no zone are read.
        where: place, for messages.

    Raises:
        SourceError: no value of that type can become the declared one, or times carry no zone and the spec gives none.
    """
    values = _plain(values)
    if (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)) and not pa.types.is_string(
        target.type
    ):
        text = _cast(values, pa.string(), NO_TEXT)
        rest = cast_column(text.values, target, null_values=null_values, clock=clock, where=where)
        return Cast(values=rest.values, faults=[*text.faults, *rest.faults])
    if pa.types.is_string(values.type) and null_values:
        values = _without(values, null_values)
    if values.type == target.type:
        return Cast(values=values)
    if values.null_count == len(values):
        return Cast(values=pa.nulls(len(values), target.type))
    if not _is_possible(values.type, target.type):
        raise SourceError(
            f"column {target.name!r} is {values.type} where {target.type} is declared",
            where=f"{where}, column {target.name}",
            remedy="deliver the column as declared, or retype it in `columns` of the source",
        )
    if pa.types.is_timestamp(target.type):
        return _to_timestamp(values, target.name, clock, where)
    return _to_plain(values, target.type)


def unreadable_time(clock: Clock) -> str:
    """Why a time without a zone is none of that clock's."""
    often = "twice or never" if clock.repeated == "quarantine" else "never"
    return f"a time that {clock.zone.key} has {often}, as clocks change"


def sound_text(values: pa.Array) -> Cast:
    """A column as it is; of texts, null where the bytes are no UTF-8, which a file of Arrow's types may hold."""
    stored = values.storage if isinstance(values, pa.ExtensionArray) else values
    kind = stored.type
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return Cast(values=values)
    try:
        stored.validate(full=True)
    except pa.ArrowInvalid:
        return _cast(pc.cast(_plain(stored), pa.binary()), pa.string(), NO_TEXT)
    return Cast(values=values)


def _to_plain(values: pa.Array, target: pa.DataType) -> Cast:
    """A column as one of numbers, truth values or text."""
    if pa.types.is_boolean(target) and not pa.types.is_string(values.type):
        return _reversible(values, target, "neither 0 nor 1")
    if pa.types.is_float32(target) and pa.types.is_floating(values.type):
        return _reversible(values, target, "a number that float32 does not hold exactly")
    if pa.types.is_decimal(values.type) and pa.types.is_floating(target):
        values = pc.cast(values, pa.string())  # text is read to the nearest number, a decimal cast misses it by a bit
    found = _cast(values, target, _detail(values.type, target))
    grown = pa.types.is_floating(target) and not pa.types.is_floating(values.type)
    return _bounded(values, found) if grown else found


def _bounded(values: pa.Array, found: Cast) -> Cast:
    """The same, where a finite number became infinite: one that is too large for its column."""
    infinite = pc.is_inf(found.values)
    if not infinite.true_count:
        return found
    if pa.types.is_string(values.type):
        infinite = pc.and_(infinite, pc.invert(pc.match_substring(values, "inf", ignore_case=True)))
    faults = infinite.fill_null(False).to_numpy(zero_copy_only=False)
    detail = f"a number too large for {found.values.type}"
    return Cast(
        values=_drop(found.values, faults), faults=[*found.faults, *([(faults, detail)] if faults.any() else [])]
    )


def _plain(values: pa.Array) -> pa.Array:
    """The same values without dictionaries, runs, views or extension types; binary as it is."""
    if isinstance(values, pa.ExtensionArray):
        if values.type.extension_name == "arrow.uuid":
            return pa.array([None if item is None else str(item) for item in values.to_pylist()], pa.string())
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_run_end_encoded(values.type):
        values = pc.run_end_decode(values)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = pc.cast(values, pa.string())
    return values


def _without(values: pa.Array, null_values: list[str]) -> pa.Array:
    meant = pc.is_in(values, value_set=pa.array(null_values, pa.string()))
    return pc.if_else(meant, pa.scalar(None, pa.string()), values) if meant.true_count else values


def _is_possible(kind: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_string(kind):
        return True
    if pa.types.is_boolean(kind):
        return pa.types.is_boolean(target) or pa.types.is_string(target)
    number = any(test(kind) for test in _NUMBER)
    if pa.types.is_string(target):
        return number or any(test(kind) for test in (*_TEMPORAL, pa.types.is_binary, pa.types.is_large_binary))
    if pa.types.is_timestamp(target):
        return pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return number


def _detail(kind: pa.DataType, target: pa.DataType) -> str:
    if pa.types.is_string(target):
        return NO_TEXT
    if pa.types.is_string(kind):
        return f"text that is no {target}"
    return f"a number that {target} does not hold exactly"


def _cast(values: pa.Array, target: pa.DataType, detail: str) -> Cast:
    """Arrow's safe cast; where it refuses, the rows at fault."""
    try:
        return Cast(values=pc.cast(values, target))
    except pa.ArrowInvalid:
        faults = np.zeros(len(values), dtype=bool)
        _search(values, 0, faults, lambda part: pc.cast(part, target))
        return Cast(values=pc.cast(_drop(values, faults), target), faults=[(faults, detail)])


def _search(values: pa.Array, start: int, faults: Mask, cast: Callable[[pa.Array], object]) -> None:
    """Mark the values that `cast` refuses, by halves: few faults cost few casts."""
    try:
        cast(values)
    except pa.ArrowInvalid:
        if len(values) == 1:
            faults[start] = True
            return
        middle = len(values) // 2
        _search(values[:middle], start, faults, cast)
        _search(values[middle:], start + middle, faults, cast)


def _reversible(values: pa.Array, target: pa.DataType, detail: str) -> Cast:
    """A cast that Arrow does not guard: a value fits where casting back gives it again."""
    if pa.types.is_decimal(values.type):
        values = pc.cast(values, pa.float64())
    found = pc.cast(values, target, safe=False)
    same = pc.equal(pc.cast(found, values.type), values)
    if pa.types.is_floating(values.type):
        same = pc.or_(same, pc.is_nan(values)) if not pa.types.is_boolean(target) else same
    faults = ~same.fill_null(True).to_numpy(zero_copy_only=False)
    return Cast(values=_drop(found, faults), faults=[(faults, detail)] if faults.any() else [])


def _to_timestamp(values: pa.Array, column: str, clock: Clock | None, where: str) -> Cast:
    if pa.types.is_string(values.type):
        return _read_times(values, column, clock, where)
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        return _cast(values, TIMESTAMP, "a time finer than microseconds")
    if clock is None:
        raise _no_zone(column, where)
    naive = _cast(values, pa.timestamp("us"), "a time finer than microseconds")
    return _localise(naive, clock)


def _read_times(values: pa.Array, column: str, clock: Clock | None, where: str) -> Cast:
    zoned = pc.match_substring_regex(values, _ZONED).fill_null(True)
    detail = "text that is no time such as 2013-01-01T00:00:00Z"
    if zoned.false_count == 0:
        return _cast(values, TIMESTAMP, detail)
    nothing = pa.scalar(None, pa.string())
    aware = _cast(pc.if_else(zoned, values, nothing), TIMESTAMP, detail)
    naive = _cast(pc.if_else(zoned, nothing, values), pa.timestamp("us"), detail)
    if clock is None:
        if aware.values.null_count == len(values) and naive.values.null_count < len(values):
            raise _no_zone(column, where)
        without = naive.values.is_valid().to_numpy(zero_copy_only=False)
        return Cast(values=aware.values, faults=[*aware.faults, *naive.faults, (without, "a time without a zone")])
    local = _localise(naive, clock)
    return Cast(values=pc.coalesce(aware.values, local.values), faults=[*aware.faults, *local.faults])


def _localise(naive: Cast, clock: Clock) -> Cast:
    """Times of a zone as instants; those it never had are faults, and those it had twice where the clock says so."""
    first, last = {"earlier": ("earliest",) * 2, "later": ("latest",) * 2}.get(clock.repeated, ("earliest", "latest"))
    early = pc.assume_timezone(naive.values, clock.zone.key, ambiguous=first, nonexistent="earliest")
    late = pc.assume_timezone(naive.values, clock.zone.key, ambiguous=last, nonexistent="latest")
    doubtful = ~pc.equal(early, late).fill_null(True).to_numpy(zero_copy_only=False)
    instants = pc.cast(early, TIMESTAMP)
    if not doubtful.any():
        return Cast(values=instants, faults=naive.faults)
    detail = unreadable_time(clock)
    return Cast(values=_drop(instants, doubtful), faults=[*naive.faults, (doubtful, detail)])


def _drop(values: pa.Array, faults: Mask) -> pa.Array:
    return pc.if_else(pa.array(~faults), values, pa.scalar(None, values.type)) if faults.any() else values


def _no_zone(column: str, where: str) -> SourceError:
    return SourceError(
        f"column {column!r} holds times without a zone, which is ambiguous",
        where=f"{where}, column {column}",
        remedy="declare the source's `timezone`, or deliver the times with a zone (2013-01-01T00:00:00Z)",
    )
