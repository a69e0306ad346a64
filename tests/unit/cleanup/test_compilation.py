from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.cleanup.source import COLUMNS, make_source

from millrace.cleanup import check_cleanup, clean_schema, compile_cleanup
from millrace.errors import SpecError
from millrace.lake.schema import TIMESTAMP, arrow_schema
from millrace.spec import load_domain

DAGS = Path(__file__).parents[3] / "dags"
ADD = "tests.unit.validation.team:add_length"


def faults(*steps: dict[str, Any], **values: Any) -> list[tuple[str, str]]:
    return [(fault.where, fault.what) for fault in check_cleanup(make_source(*steps, **values), "shop.sources.orders")]


def test_what_is_shipped_compiles() -> None:
    for name, source in load_domain(DAGS, "flights").sources.items():
        assert check_cleanup(source, f"flights.sources.{name}") == []
        assert clean_schema(source).names == source.clean_columns


def test_without_steps_the_clean_columns_are_the_raw_ones() -> None:
    assert clean_schema(make_source()) == arrow_schema(COLUMNS)
    assert clean_schema(make_source(pii={"text": "drop", "value": "tokenise"})).field("value").type == pa.string()


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("value * 2", pa.float64()),
        ("1.5", pa.float64()),
        ("1::HUGEINT", pa.int64()),
        ("small + 1::TINYINT", pa.int16()),
        ("length(text)", pa.int64()),
        ("text || '-' || id", pa.string()),
        ("seen + INTERVAL 90 MINUTE", TIMESTAMP),
        ("TIMESTAMP '2020-01-01 05:00:00'", TIMESTAMP),
        ("seen::DATE", pa.date32()),
        ("text = 'a'", pa.bool_()),
        ("NULL", pa.int32()),
        ("'a'::ENUM('a')", pa.string()),
        ("'1'::JSON", pa.string()),
    ],
)
def test_a_derived_column_has_a_type_that_tables_hold(expression: str, kind: pa.DataType) -> None:
    assert clean_schema(make_source({"derive": {"new": expression}})).field("new").type == kind


@pytest.mark.parametrize(
    "expression",
    [
        "[value]",
        "{'a': value}",
        "INTERVAL 1 DAY",
        "seen::TIME",
        "text::BLOB",
        "value::BIT",
        "(id, text)",
        "MAP {'a': 1}",
    ],
)
def test_a_type_that_no_table_holds_is_refused(expression: str) -> None:
    ((where, what),) = faults({"derive": {"fine": "id", "new": expression}})
    assert where == "shop.sources.orders.cleanup[0].derive.new"
    assert "a column cannot hold" in what


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("valeu * 2", 'column "valeu" not found'),
        ("avg(value)", "an aggregate"),
        ("lead(value) OVER ()", "looks at other rows"),
        ("(SELECT 1)", "a query of its own"),
        ("geomean(value)", "aggregates are not allowed"),
        ("unnest([id])", "several rows"),
        ("now()", "another value at every run"),
        ("text + 1", "No function matches"),
        ("raw.value", "raw"),
        ("length(text", "syntax error"),
    ],
)
def test_an_expression_that_cannot_be_a_column_is_named_with_its_place(expression: str, what: str) -> None:
    ((where, said),) = faults({"drop": ["flag"]}, {"derive": {"new": expression, "more": "new"}})
    assert where == "shop.sources.orders.cleanup[1].derive.new"
    assert what.lower() in said.lower()


def test_an_expression_sees_neither_dropped_nor_later_columns() -> None:
    assert faults({"drop": ["flag"]}, {"derive": {"new": "NOT flag"}})
    assert faults({"derive": {"new": "other", "other": "id"}})
    assert not faults({"derive": {"other": "id", "new": "other + OTHER"}})


def test_running_says_which_partition_and_which_step() -> None:
    with pytest.raises(SpecError) as caught:
        compile_cleanup(make_source({"derive": {"b": "valeu"}}), where="shop/raw/orders, partition 2020-01")
    assert caught.value.where == "shop/raw/orders, partition 2020-01, cleanup[0].derive.b"
    assert caught.value.remedy == "correct the expression"


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"fill": {"id": "none"}}, "'none' does not fit column 'id', which holds int32"),
        ({"fill": {"id": 0.5}}, "0.5 does not fit"),
        ({"fill": {"small": 40_000}}, "40000 does not fit"),
        ({"fill": {"flag": 1}}, "1 does not fit column 'flag', which holds bool"),
        ({"fill": {"text": 1}}, "does not fit"),
        ({"fill": {"value": float("nan")}}, "does not fit"),
        ({"fill": {"seen": "2020-01-01T00:00:00"}}, "does not fit"),
        ({"clip": {"text": {"min": 0}}}, "only numbers have bounds"),
        ({"clip": {"flag": {"min": 0}}}, "only numbers have bounds"),
        ({"clip": {"id": {"min": 0.5}}}, "0.5 does not fit"),
        ({"clip": {"id": {}}}, "neither `min` nor `max`"),
        ({"clip": {"value": {"min": 2, "max": 1}}}, "`min` 2 is above `max` 1"),
        ({"map": {"text": {"a": 1}}}, "1 does not fit"),
        ({"map": {"id": {"1": "one"}}}, "'one' does not fit"),
        ({"map": {"id": {"one": 1}}}, "'one' writes no int32"),
        ({"map": {"big": {"1": 0.5}}}, "0.5 does not fit"),
        ({"map": {"value": {"1": 2, "1.0": 3}}}, "'1' and '1.0' are one value"),
        ({"cast": {"seen": "int64"}}, "column 'seen' holds timestamp, of which no value is a int64"),
        ({"cast": {"id": "timestamp"}}, "of which no value is a timestamp"),
        ({"python": "no.such.module:clean"}, "cannot be imported"),
        ({"python": "tests.unit.validation.team:nobody"}, "has no function 'nobody'"),
    ],
)
def test_a_step_that_cannot_work_on_its_column_is_refused(step: dict[str, Any], what: str) -> None:
    ((where, said),) = faults(step)
    verb = next(iter(step))
    assert where.startswith(f"shop.sources.orders.cleanup[0].{verb}.")
    assert what in said


def test_all_faults_of_one_step_are_told_and_none_of_those_after_it() -> None:
    found = faults({"fill": {"id": "x", "value": "y"}}, {"fill": {"small": "z"}})
    assert [where for where, _ in found] == [
        "shop.sources.orders.cleanup[0].fill.id",
        "shop.sources.orders.cleanup[0].fill.value",
    ]


def test_names_that_sql_does_not_tell_apart_are_refused() -> None:
    ((where, what),) = faults({"derive": {"Value": "1"}}, {"drop": ["Value"]})
    assert where == "shop.sources.orders.cleanup[0].derive.Value"
    assert "differ in case only" in what
    assert not faults({"rename": {"value": "Value"}})


@pytest.mark.parametrize(
    ("steps", "column", "kind"),
    [
        ([{"rename": {"id": "value", "value": "id"}}], "id", pa.float64()),
        ([{"cast": {"id": "int64"}}], "id", pa.int64()),
        ([{"cast": {"seen": "string"}}], "seen", pa.string()),
        ([{"fill": {"value": 1}}], "value", pa.float64()),
        ([{"clip": {"small": {"min": 0, "max": 9}}}], "small", pa.int16()),
        ([{"map": {"small": {"1": 70_000}}}], "small", pa.int32()),
        ([{"map": {"id": {"1": 0.5}}}], "id", pa.float64()),
        ([{"map": {"light": {"1": 0.1}}}], "light", pa.float32()),
        ([{"deduplicate": ["id"], "order_by": "seen"}], "id", pa.int32()),
        ([{"python": ADD, "adds": {"length": "int16"}}, {"derive": {"more": "length + 1"}}], "length", pa.int16()),
    ],
)
def test_every_step_leaves_columns_of_known_types(steps: list[dict[str, Any]], column: str, kind: pa.DataType) -> None:
    source = make_source(*steps)
    assert clean_schema(source).field(column).type == kind
    assert clean_schema(source).names == source.clean_columns


def test_a_fault_names_the_raw_columns_behind_it() -> None:
    plan = compile_cleanup(
        make_source(
            {"rename": {"text": "word"}},
            {"derive": {"joined": "word || id", "number": "CAST(JOINED AS INTEGER) + small"}},
            {"cast": {"word": "int32"}},
        ),
        where="here",
    )
    named = {fault.reason: fault.columns for step in plan.steps for fault in step.faults.values()}
    assert named == {
        "cleanup.derive.joined": ("id", "text"),
        "cleanup.derive.number": ("id", "text", "small"),
        "cleanup.cast.word": ("text",),
    }
