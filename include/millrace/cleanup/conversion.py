"""Casts that lose nothing, as SQL."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.cleanup.kind import FLOATS, INSTANT, INTEGERS
from millrace.lake.duck import text
from millrace.spec.clock import Clock

_WHOLE = r"\s*([+-]?\d+)(\.0*)?\s*"
_NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
_ENDLESS = r"(?i)\s*[+-]?inf(inity)?\s*"
_NOTHING = r"(?i)\s*[+-]?nan\s*"
_TIME = r"\s*\d{1,4}-\d{1,2}-\d{1,2}[T ]\d{1,2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_ZONED = _TIME + r"\s*(Z|z|UTC|[+-]\d{2}(:?\d{2})?)\s*"
_NAIVE = rf"({_TIME}|\s*\d{{1,4}}-\d{{1,2}}-\d{{1,2}})\s*"
_AROUND = "INTERVAL 26 HOUR"
"""So far before and after a time, the offsets are those of either side of a change; none was ever set by more."""
_FLOAT_LIMIT = "3.4028235677973366e38"
"""From here on a number rounds to infinity in 32 bits; DuckDB reads this very one as the largest there is."""
_PLAIN = {*INTEGERS, *FLOATS, "BOOLEAN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A cast as SQL.

    Attributes:
        sql: the value; where the cast may fail, a struct of it, and null in its place where it does.
        may_fail: whether it may.
    """

    sql: str
    may_fail: bool


def lossless_cast(column: str, kind: str, target: str, clock: Clock | None) -> Cast | None:
    """The cast of a column from one type to another, None where no value of the one can be one of the other.

    Texts are read as numbers written in decimal, as `true`/`false` and their short forms, and as ISO times. A time of
    no zone is read as `clock` says; where that leaves it open, or there is no clock, it fails.

    Args:
        column: the column as SQL.
        kind: its DuckDB type.
        target: the DuckDB type it becomes.
        clock: how times that carry no zone are read.
    """
    if kind == target:
        return Cast(sql=column, may_fail=False)
    if target == "VARCHAR":
        return Cast(sql=f"CAST({column} AS VARCHAR)", may_fail=False)
    if kind == "VARCHAR":
        return Cast(sql=_from_text(column, target, clock), may_fail=True)
    if not (kind in _PLAIN and target in _PLAIN) and (kind, target) != ("DATE", INSTANT):
        return None
    if _widens(kind, target):
        return Cast(sql=f"CAST({column} AS {target})", may_fail=False)
    return Cast(sql=_there_and_back(column, kind, target), may_fail=True)


def _widens(kind: str, target: str) -> bool:
    if kind in INTEGERS and target in INTEGERS:
        return INTEGERS[kind] < INTEGERS[target]
    return (kind, target) in {("FLOAT", "DOUBLE"), ("SMALLINT", "FLOAT"), ("SMALLINT", "DOUBLE"), ("INTEGER", "DOUBLE")}


def _there_and_back(column: str, kind: str, target: str) -> str:
    there = f"TRY_CAST({column} AS {target})"
    return f"CASE WHEN TRY_CAST({there} AS {kind}) IS NOT DISTINCT FROM {column} THEN {_struct(there)} END"


def _from_text(column: str, target: str, clock: Clock | None) -> str:
    cast = f"TRY_CAST({column} AS {target})"
    cases = [f"WHEN {column} IS NULL THEN {_struct(f'CAST(NULL AS {target})')}"]
    if target in INTEGERS:
        digits = f"regexp_extract({column}, {text(f'^{_WHOLE}$')}, 1)"
        cast = f"TRY_CAST({digits} AS {target})"
        cases.append(f"WHEN {cast} IS NOT NULL THEN {_struct(cast)}")
    elif target in FLOATS:
        small = f" AND abs(TRY_CAST({column} AS DOUBLE)) < {_FLOAT_LIMIT}" if target == "FLOAT" else ""
        cases += [
            f"WHEN {_matches(column, _NUMBER)} AND isfinite({cast}){small} THEN {_struct(cast)}",
            f"WHEN {_matches(column, _ENDLESS)} THEN {_struct(cast)}",
            f"WHEN {_matches(column, _NOTHING)} THEN {_struct(f'CAST(NULL AS {target})')}",
        ]
    elif target == INSTANT:
        cases.append(f"WHEN {_matches(column, _ZONED)} AND {cast} IS NOT NULL THEN {_struct(cast)}")
        if clock is not None:
            instant = _placed(f"TRY_CAST({column} AS TIMESTAMP)", clock)
            cases.append(f"WHEN {_matches(column, _NAIVE)} AND {instant} IS NOT NULL THEN {_struct(instant)}")
    else:
        cases.append(f"WHEN {cast} IS NOT NULL THEN {_struct(cast)}")
    return f"CASE {' '.join(cases)} END"


def _placed(naive: str, clock: Clock) -> str:
    """The instant at which the clock showed a time, null where it never did or leaves it open.

    Of a time it is any instant by the offset before or after it that shows it. Where both are one, there is no other.
    """
    zone = text(clock.zone.key)
    guess = f"timezone({zone}, {naive})"
    before, after = (
        f"(epoch_us(timezone({zone}, {there})) - epoch_us({there}))"
        for there in (f"({guess} - {_AROUND})", f"({guess} + {_AROUND})")
    )
    readings = [guess, *(f"make_timestamptz(epoch_us({naive}) - {offset})" for offset in (before, after))]
    shown = ", ".join(f"CASE WHEN timezone({zone}, {each}) = {naive} THEN {each} END" for each in readings)
    chosen = f"greatest({shown})" if clock.repeated == "later" else f"least({shown})"
    if clock.repeated == "quarantine":
        chosen = f"CASE WHEN {chosen} = greatest({shown}) THEN {chosen} END"
    return f"CASE WHEN {before} = {after} THEN {guess} ELSE {chosen} END"


def _matches(column: str, pattern: str) -> str:
    return f"regexp_full_match({column}, {text(pattern)})"


def _struct(value: str) -> str:
    return f"struct_pack(v := {value})"
