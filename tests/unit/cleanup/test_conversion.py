from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.cleanup.conversion import lossless_cast
from millrace.cleanup.expression import isolated
from millrace.cleanup.kind import FLOATS, INSTANT, INTEGERS, arrow_kind
from millrace.spec.clock import Clock, Repeated

LOST = object()
INTEGER = st.sampled_from(
    [0, 1, -1, 2**15 - 1, 2**15, -(2**15) - 1, 2**24 + 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
)
FLOAT = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.1, 2.0**15, 2.0**31, 2.0**53, 2.0**63, -(2.0**63), 1e300, math.inf]),
    st.floats(allow_nan=False),
)
TEXT = st.one_of(
    st.sampled_from(
        ["1", "-1", "+7", " 12 ", "12.0", "12.", "1.5", "1e3", "0x10", "1_000", "", "one", "9" * 30, "32768"]
    ),
    st.sampled_from(["nan", "-inf", "Infinity", "1e400", ".5", ".", "1e-5", "true", "F", "yes", "NO", "2"]),
    st.integers().map(str),
    st.floats().map(repr),
)


def cast(
    values: Sequence[Any], kind: str, target: str, zone: str | None = None, repeated: Repeated = "quarantine"
) -> list[Any]:
    clock = None if zone is None else Clock(zone=ZoneInfo(zone), repeated=repeated)
    made = lossless_cast('"x"', kind, target, clock)
    assert made is not None
    with isolated() as connection:
        connection.register("given", pa.table({"x": pa.array(values, arrow_kind(kind))}))
        rows = connection.execute(f"SELECT {made.sql} FROM given").fetchall()
    if not made.may_fail:
        return [value for (value,) in rows]
    return [LOST if value is None else value["v"] for (value,) in rows]


def as_number(value: Any, target: str) -> Any:
    """What a number or truth is in a type, LOST where that is another one."""
    exact = Decimal(int(value)) if isinstance(value, (bool, int)) else Decimal(value)
    if target == "BOOLEAN":
        return bool(exact) if exact in (0, 1) else LOST
    if target in INTEGERS:
        bound = 1 << (INTEGERS[target] - 1)
        whole = exact.is_finite() and exact == exact.to_integral_value() and -bound <= exact < bound
        return int(exact) if whole else LOST
    with np.errstate(over="ignore"):
        held = float(np.float32(value)) if target == "FLOAT" else float(value)
    return held if Decimal(held) == exact else LOST


def as_read(text: str, target: str) -> Any:
    """What a text writes in a type."""
    if target == "BOOLEAN":
        low = text.lower()
        words = {"true": True, "t": True, "yes": True, "y": True, "1": True}
        words |= {"false": False, "f": False, "no": False, "n": False, "0": False}
        return words.get(low, LOST)
    if target in INTEGERS:
        found = re.fullmatch(r"\s*([+-]?\d+)(\.0*)?\s*", text)
        return as_number(int(found[1]), target) if found else LOST
    if re.fullmatch(r"\s*[+-]?(nan|inf|infinity)\s*", text.lower()):
        return None if "nan" in text.lower() else float(text)
    if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", text.lower()):
        return LOST
    with np.errstate(over="ignore"):
        value = float(np.float32(text)) if target == "FLOAT" else float(text)
    return value if math.isfinite(value) else LOST


def same(found: list[Any], expected: list[Any]) -> bool:
    return all(a is b or (a is not LOST and b is not LOST and a == b) for a, b in zip(found, expected, strict=True))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(INTEGER, min_size=1),
    st.sampled_from(["SMALLINT", "INTEGER", "FLOAT", "DOUBLE", "BOOLEAN", "BIGINT"]),
)
def test_whole_numbers_become_what_equals_them_or_are_lost(values: list[int], target: str) -> None:
    assert same(cast(values, "BIGINT", target), [as_number(value, target) for value in values])


@settings(max_examples=20, deadline=None)
@given(st.lists(FLOAT, min_size=1), st.sampled_from(["SMALLINT", "INTEGER", "BIGINT", "FLOAT", "BOOLEAN"]))
def test_decimals_become_what_equals_them_or_are_lost(values: list[float], target: str) -> None:
    assert same(cast(values, "DOUBLE", target), [as_number(value, target) for value in values])


@settings(max_examples=20, deadline=None)
@given(st.lists(TEXT, min_size=1), st.sampled_from([*INTEGERS, *FLOATS, "BOOLEAN"]))
def test_texts_become_what_they_write_or_are_lost(values: list[str], target: str) -> None:
    assert same(cast(values, "VARCHAR", target), [as_read(value, target) for value in values])


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2020-01-01T10:00:00Z", None, "2020-01-01T10:00:00"),
        ("2020-01-01 10:00+02", None, "2020-01-01T08:00:00"),
        ("2020-01-01T10:00:00.123456+0200", None, "2020-01-01T08:00:00.123456"),
        ("2020-01-01T10:00:00", None, LOST),
        ("2020-01-01", None, LOST),
        ("2020-01-01T10:00:00", "America/New_York", "2020-01-01T15:00:00"),
        ("2020-07-01", "America/New_York", "2020-07-01T04:00:00"),
        ("2020-03-08T02:30:00", "America/New_York", LOST),
        ("2020-11-01T01:30:00", "America/New_York", LOST),
        ("2020-11-01T00:59:59", "America/New_York", "2020-11-01T04:59:59"),
        ("2020-11-01T02:00:00", "America/New_York", "2020-11-01T07:00:00"),
        ("2020-04-05T01:45:00", "Australia/Lord_Howe", LOST),
        ("2020-01-01 10:00 Europe/Berlin", "America/New_York", LOST),
        ("2020-01-01T10:00:00.1234567Z", None, LOST),
        ("infinity", "America/New_York", LOST),
        ("epoch", "America/New_York", LOST),
        ("2020-13-01T10:00:00Z", None, LOST),
        ("12", "America/New_York", LOST),
    ],
)
def test_times_are_instants_of_a_zone_they_or_the_source_name(text: str, zone: str | None, moment: Any) -> None:
    expected = moment if moment is LOST else datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert same(cast([text], "VARCHAR", INSTANT, zone), [expected])


@settings(max_examples=10, deadline=None)
@given(st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1)), min_size=1, max_size=40))
def test_local_times_are_read_as_pythons_zones_read_them(moments: list[datetime]) -> None:
    zone = ZoneInfo("America/New_York")
    expected = []
    for moment in moments:
        early, late = (moment.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        expected.append(early if early == late else LOST)
    assert same(cast([moment.isoformat() for moment in moments], "VARCHAR", INSTANT, str(zone)), expected)


@pytest.mark.parametrize(
    ("repeated", "zone", "shown", "instant"),
    [
        ("earlier", "America/New_York", "2020-11-01T01:30:00", "2020-11-01T05:30:00"),
        ("later", "America/New_York", "2020-11-01T01:30:00", "2020-11-01T06:30:00"),
        ("earlier", "Australia/Lord_Howe", "2020-04-05T01:45:00", "2020-04-04T14:45:00"),
        ("later", "Australia/Lord_Howe", "2020-04-05T01:45:00", "2020-04-04T15:15:00"),
        ("earlier", "America/New_York", "2020-03-08T02:30:00", LOST),
        ("later", "America/New_York", "2020-03-08T02:30:00", LOST),
        ("later", "America/New_York", "2020-07-01T12:00:00", "2020-07-01T16:00:00"),
        ("earlier", "Antarctica/Casey", "2023-03-09T02:30:00", "2023-03-08T15:30:00"),
        ("later", "Antarctica/Casey", "2023-03-09T02:30:00", "2023-03-08T18:30:00"),
        ("quarantine", "Antarctica/Casey", "2023-03-09T02:30:00", LOST),
        ("quarantine", "Antarctica/Vostok", "1994-01-31T22:30:00", LOST),
        ("later", "Pacific/Apia", "2011-12-30T12:00:00", LOST),
        ("quarantine", "Africa/Monrovia", "1972-01-07T00:20:00", LOST),
    ],
)
def test_a_repeated_time_is_read_as_the_source_says(repeated: Repeated, zone: str, shown: str, instant: Any) -> None:
    expected = instant if instant is LOST else datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert same(cast([shown], "VARCHAR", INSTANT, zone, repeated), [expected])
    told = Clock(zone=ZoneInfo(zone), repeated=repeated).instant(datetime.fromisoformat(shown))
    assert told == (None if expected is LOST else expected)


@settings(max_examples=10, deadline=None)
@given(st.lists(FLOAT, min_size=1))
def test_a_number_written_as_text_is_read_back_as_itself(values: list[float]) -> None:
    assert cast(cast(values, "DOUBLE", "VARCHAR"), "VARCHAR", "DOUBLE") == values


def test_a_null_stays_one_and_is_not_lost() -> None:
    for kind in ("VARCHAR", "DOUBLE", "BIGINT", "BOOLEAN"):
        assert cast([None], kind, "SMALLINT") == [None]


@pytest.mark.parametrize(
    ("kind", "target"), [(INSTANT, "BIGINT"), ("BIGINT", INSTANT), ("DATE", "INTEGER"), ("BOOLEAN", INSTANT)]
)
def test_there_are_casts_that_mean_nothing(kind: str, target: str) -> None:
    assert lossless_cast("x", kind, target, None) is None
