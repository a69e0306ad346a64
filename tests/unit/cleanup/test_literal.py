from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace.cleanup.expression import isolated
from millrace.cleanup.literal import common_kind, literal, parsed
from millrace.spec.clock import Clock

INSTANT = "TIMESTAMP WITH TIME ZONE"
NEW_YORK = Clock(zone=ZoneInfo("America/New_York"))


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (1, "SMALLINT", True),
        (40_000, "SMALLINT", False),
        (-32_768, "SMALLINT", True),
        (2.0, "INTEGER", True),
        (2.5, "INTEGER", False),
        (True, "INTEGER", False),
        ("1", "INTEGER", False),
        (1 << 63, "BIGINT", False),
        (math.inf, "BIGINT", False),
        (1, "DOUBLE", True),
        ((1 << 53) + 1, "DOUBLE", False),
        (10**400, "DOUBLE", False),
        (math.nan, "DOUBLE", False),
        (math.inf, "DOUBLE", True),
        (0.1, "FLOAT", True),
        (1e39, "FLOAT", False),
        (True, "BOOLEAN", True),
        (1, "BOOLEAN", False),
        ("it's", "VARCHAR", True),
        (1, "VARCHAR", False),
        ("2020-02-30", "DATE", False),
        ("2020-02-28", "DATE", True),
        ("2020-01-01T00:00:00Z", INSTANT, True),
        ("2020-01-01T00:00:00", INSTANT, False),
        ("yesterday", INSTANT, False),
    ],
)
def test_a_value_fits_a_type_or_does_not(value: Any, kind: str, fits: bool) -> None:
    assert (literal(value, kind) is not None) == fits


@settings(max_examples=5, deadline=None)
@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.booleans())))
@example(["it's", "a\x00b", "", "\n"])
def test_what_fits_is_read_back_as_the_same_value(values: list[Any]) -> None:
    kinds = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
    with isolated() as connection:
        for value in values:
            sql = literal(value, kinds[type(value)])
            if isinstance(value, str) and "\x00" in value:
                assert sql is None, "SQL cannot carry it"
                continue
            assert connection.execute(f"SELECT {sql}").fetchall() == [(value,)]


def test_a_time_beyond_the_calendar_fits_nowhere() -> None:
    assert literal("9999-12-31T23:59:59", INSTANT, NEW_YORK) is None
    assert literal("0001-01-01T00:00:00+05:00", INSTANT) is None


def test_a_time_without_a_zone_is_one_of_the_sources() -> None:
    assert literal("2020-07-01T00:00:00", INSTANT, NEW_YORK) == literal("2020-07-01T04:00:00Z", INSTANT)


@pytest.mark.parametrize(
    ("kind", "values", "common"),
    [
        ("SMALLINT", [1, 2], "SMALLINT"),
        ("SMALLINT", [1, 70_000], "INTEGER"),
        ("INTEGER", [1, 1 << 40], "BIGINT"),
        ("INTEGER", [1, 0.5], "DOUBLE"),
        ("BIGINT", [0.5], None),
        ("FLOAT", [1e300], "DOUBLE"),
        ("VARCHAR", ["a"], "VARCHAR"),
        ("VARCHAR", ["a", 1], None),
        ("BOOLEAN", [1], None),
    ],
)
def test_the_common_type_is_the_narrowest_that_holds_all(kind: str, values: list[Any], common: str | None) -> None:
    assert common_kind(kind, values) == common


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("12", "INTEGER", 12),
        ("1.5", "INTEGER", None),
        ("1.5", "DOUBLE", 1.5),
        ("True", "BOOLEAN", True),
        ("x", "DOUBLE", None),
    ],
)
def test_texts_are_read_in_the_type_of_the_column(written: str, kind: str, value: Any) -> None:
    assert parsed(written, kind) == value
