from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from millrace.lake import duck
from millrace.partition import Partition
from millrace.spec import DomainSpec, SourceSpec
from millrace.spec.load import check_values
from millrace.validation.past import look_back
from millrace.validation.suggestion import Suggestion, suggest

MONTHS = ["2020-01", "2020-02", "2020-03", "2020-04"]
COUNT = 2_000


def suggested(
    tables: Sequence[pa.Table],
    *,
    key: Sequence[str] = (),
    personal: Sequence[str] = (),
    given: Sequence[str] = (),
    static: bool = False,
) -> Suggestion:
    connection = duck.connect()
    try:
        keys = [""] if static else MONTHS[: len(tables)]
        for index, rows in enumerate(tables):
            connection.register(f"t{index}", rows)
        past = look_back(
            connection,
            {month: f"t{index}" for index, month in enumerate(keys)},
            tables[0].column_names,
            partitions={month: Partition(month) if month else None for month in keys},
            stage="clean",
            personal=frozenset(personal),
            given=frozenset(given),
        )
        return suggest(past, dataset="shop.sales", title="of a test", key=key)
    finally:
        connection.close()


def asked(found: Suggestion, column: str) -> dict[str, dict[str, Any]]:
    """Type → arguments of what is asked of one column."""
    return {
        item.expectation.type.removeprefix("expect_column_"): item.expectation.kwargs
        for item in found.proposals
        if item.expectation.kwargs.get("column") == column
    }


def of_one(values: Sequence[Any], kind: pa.DataType | None = None, months: int = 2) -> dict[str, dict[str, Any]]:
    return asked(suggested([pa.table({"c": pa.array(values, kind)})] * months), "c")


def loaded(found: Suggestion, columns: dict[str, str]) -> SourceSpec:
    """The suggestion, pasted as it is below a source of a domain's file, through the loader."""
    text = (
        "name: shop\ndescription: d\nowners: [a]\nfirst: '2020-01'\nfeature_tables: {}\n"
        "sources:\n  sales:\n    uri: 'x_{partition}.csv'\n    key: []\n"
        f"    columns: {yaml.safe_dump(columns, default_flow_style=True)}"
    )
    domain = check_values(DomainSpec, yaml.safe_load(text + found.to_yaml()), where="shop.yaml")
    return domain.sources["sales"]


def cycle(values: Sequence[Any], count: int = COUNT) -> list[Any]:
    return [values[index % len(values)] for index in range(count)]


def test_a_column_without_nulls_must_stay_so_and_one_with_nulls_is_watched() -> None:
    month = pa.table({"full": cycle([1.5, 2.5]), "half": cycle([1.5, None])})
    found = suggested([month, month])
    assert "values_to_not_be_null" in asked(found, "full")
    assert "values_to_not_be_null" not in asked(found, "half")
    assert [(item.spec.measure, item.spec.column) for item in found.history] == [
        ("row_count", None),
        ("null_share", "half"),
    ]


def test_one_partition_with_nulls_is_enough_to_allow_them() -> None:
    full, gaps = pa.table({"c": cycle([1.5, 2.5])}), pa.table({"c": pa.array(cycle([1.5, None]))})
    assert "values_to_not_be_null" not in asked(suggested([full, full, full, gaps]), "c")


def test_codes_become_a_set_and_a_rare_one_is_told_and_left_out() -> None:
    codes = [*cycle([3, 1, 2], 9_999), 99]
    found = suggested([pa.table({"c": codes})] * 2)
    assert asked(found, "c")["values_to_be_in_set"]["value_set"] == [1, 2, 3]
    assert "left out as rare: 99 in 2 rows" in found.to_yaml()


def test_values_that_come_with_a_partition_are_no_set() -> None:
    months = [pa.table({"c": [f"m{index}"] * COUNT}) for index in range(4)]
    assert "values_to_be_in_set" not in asked(suggested(months), "c")


def test_what_the_key_of_a_partition_gives_is_not_asked() -> None:
    month = pa.table({"year": [2020] * COUNT})
    assert set(asked(suggested([month, month], given=["year"]), "year")) == {"values_to_not_be_null"}


def test_a_run_of_whole_numbers_is_a_range_and_no_set() -> None:
    told = of_one(cycle(list(range(24))))
    assert "values_to_be_in_set" not in told
    assert told["values_to_be_between"]["min_value"] == 0


def test_a_quantity_that_is_hardly_ever_zero_must_be_above_it() -> None:
    values = [*[0.5 + index / 100 for index in range(1_990)], *[0.0] * 8, -3.0, -4.0]
    told = of_one(values)["values_to_be_between"]
    assert (told["min_value"], told["strict_min"]) == (0, True)
    assert told["max_value"] > 20


def test_a_quantity_that_is_often_zero_may_be_zero_and_not_less() -> None:
    told = of_one([*cycle([0.0, 1.25, 2.5], 1_990), *[-1.0] * 10])["values_to_be_between"]
    assert told["min_value"] == 0
    assert "strict_min" not in told


def test_a_quantity_of_both_signs_is_bound_on_both_sides() -> None:
    told = of_one([index / 10 for index in range(-1_000, 1_000)])["values_to_be_between"]
    assert -330 < told["min_value"] < -100
    assert 100 < told["max_value"] < 330


def test_strays_do_not_stretch_a_range() -> None:
    values = [*[index / 100 for index in range(1, 9_951)], *[1e6] * 50]
    found = suggested([pa.table({"c": values})] * 2)
    assert asked(found, "c")["values_to_be_between"]["max_value"] < 1_000
    assert "tail of strays" in found.to_yaml()


def test_what_breaks_too_often_only_warns() -> None:
    good = pa.table({"a": cycle([1.5, 2.5]), "b": [index / 10 for index in range(COUNT)]})
    odd = pa.table({"a": cycle([1.5, 2.5]), "b": [-5.0] * 200 + [index / 10 for index in range(COUNT - 200)]})
    found = suggested([good] * 3 + [odd])
    by_type = {(item.expectation.kwargs.get("column"), item.expectation.on_failure) for item in found.proposals}
    assert ("a", "quarantine") in by_type
    tight = suggested([pa.table({"b": [index / 10 for index in range(20_000)]})] * 3 + [odd.select(["b"])])
    between = next(item for item in tight.proposals if item.expectation.type.endswith("values_to_be_between"))
    assert between.expectation.on_failure == "warn"


def test_texts_get_their_pattern_and_free_text_its_length() -> None:
    codes = [f"AB-{index:04d}" for index in range(COUNT)]
    assert of_one(codes)["values_to_match_regex"]["regex"] == "^[A-Z]{2}-[0-9]{4}$"
    words = [f"some words {'x' * (index % 30)} {index}" for index in range(COUNT)]
    told = of_one(words)
    assert told["value_lengths_to_be_between"]["min_value"] == 1
    assert "values_to_match_regex" not in told


def test_keys_must_be_unique_and_so_must_what_always_was() -> None:
    month = pa.table({"id": list(range(COUNT)), "a": cycle([1, 2]), "b": [index // 2 for index in range(COUNT)]})
    found = suggested([month, month], key=["a", "b"])
    assert "values_to_be_unique" in asked(found, "id")
    assert "values_to_be_unique" not in asked(found, "b")
    compound = [item.expectation for item in found.proposals if "compound" in item.expectation.type]
    assert [item.kwargs["column_list"] for item in compound] == [["a", "b"]]


def times(month: str, shift: int) -> list[datetime]:
    start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    return [start + timedelta(minutes=20 * index + shift) for index in range(COUNT)]


def trips(month: str) -> pa.Table:
    later = times(month, 90)
    return pa.table({"left": times(month, 1), "landed": [*later[:-2], *times(month, -5)[-2:]]})


def test_instants_that_follow_one_another_are_compared_and_the_first_lies_in_its_partition() -> None:
    found = suggested([trips(month) for month in MONTHS[:3]])
    (pair,) = [item for item in found.proposals if "pair" in item.expectation.type]
    assert (pair.expectation.kwargs["column_A"], pair.expectation.kwargs["column_B"]) == ("landed", "left")
    assert "breaks in 6 of 6,000 rows" in pair.seen
    bound = asked(found, "left")["values_to_be_between"]
    assert bound["min_value"] == {"$PARAMETER": "partition_start"}
    assert bound["max_value"] == {"$PARAMETER": "partition_end"}
    assert "values_to_be_between" not in asked(found, "landed")
    fresh = [item.spec for item in found.history if item.spec.measure == "freshness"]
    assert [(item.column, item.max_hours) for item in fresh] == [("left", 156)]


def test_a_static_table_has_no_bounds_in_time() -> None:
    found = suggested([trips("2020-01")], static=True)
    assert "values_to_be_between" not in asked(found, "left")
    assert [item.spec.measure for item in found.history] == ["row_count"]


def test_of_personal_columns_no_value_is_told() -> None:
    month = pa.table({"mail": [f"user{index}@example.org" for index in range(COUNT)], "sex": cycle(["f", "m"])})
    found = suggested([month, month], personal=["mail", "sex"])
    assert set(asked(found, "mail")) == {"values_to_not_be_null", "values_to_be_unique"}
    assert set(asked(found, "sex")) == {"values_to_not_be_null"}
    assert "user1" not in found.to_yaml()
    assert "example" not in found.to_yaml()


def test_rows_are_bound_and_the_limit_is_twice_the_worst_partition() -> None:
    months = [
        pa.table({"c": [*cycle([1.5, 2.25, 3.75], count - odd), *[-9.0] * odd]})
        for count, odd in ((3000, 9), (1000, 8))
    ]
    found = suggested(months)
    first = found.proposals[0].expectation
    assert (first.on_failure, first.kwargs) == ("block", {"min_value": 500, "max_value": 4500})
    assert found.worst_share == 8 / 1000
    assert found.max_quarantined_share == 0.02
    assert found.history[0].spec.max_relative_change == 1.0


def test_the_suggestion_loads_as_it_is() -> None:
    month = trips("2020-01").append_column("code", [cycle(["N", "Y", "no", "1", "a: b # c"])])
    month = month.append_column("empty", pa.nulls(COUNT, pa.float64()))
    found = suggested([month])
    columns = {"left": "timestamp", "landed": "timestamp", "code": "string", "empty": "float64"}
    spec = loaded(found, columns)
    assert [item.model_dump() for item in spec.contract] == [item.expectation.model_dump() for item in found.proposals]
    assert [item.model_dump() for item in spec.history] == [item.spec.model_dump() for item in found.history]
    assert spec.max_quarantined_share == found.max_quarantined_share
    assert "# empty: always null" in found.to_yaml()


VALUES = st.one_of(
    st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=8),
    st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=8),
    st.lists(st.none() | st.text(max_size=5).filter(lambda text: "\0" not in text), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=3),
    st.lists(st.integers(0, 10**8).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=s)), min_size=1),
)


@effort(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, VALUES, st.integers(1, 400), st.integers(1, 3))
def test_whatever_the_data_a_suggestion_loads(a: list[Any], b: list[Any], count: int, months: int) -> None:
    month = pa.table({"a": cycle(a, count), "b": cycle(b, count)})
    month = month.cast(pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in month.schema]))
    found = suggested([month] * months, key=["a", "b"])
    spec = loaded(found, {"a": "string", "b": "string"})
    assert len(spec.contract) == len(found.proposals)
    assert 0 <= found.worst_share <= 1


def test_a_column_that_came_later_counts_as_null_before() -> None:
    early, late = pa.table({"a": cycle([1.5, 2.5])}), pa.table({"a": cycle([1.5, 2.5]), "b": cycle([1.5, 2.5])})
    connection = duck.connect()
    connection.register("early", early)
    connection.register("late", late)
    past = look_back(
        connection,
        {MONTHS[0]: "early", MONTHS[1]: "late"},
        ["a", "b"],
        partitions={month: Partition(month) for month in MONTHS[:2]},
        stage="clean",
    )
    assert [item.null_share for item in past.of("b")] == [1.0, 0.0]
    found = suggest(past, dataset="shop.sales", title="of a test", key=[])
    assert "values_to_not_be_null" in asked(found, "a")
    assert "values_to_not_be_null" not in asked(found, "b")
