from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from millrace.errors import SpecError
from millrace.spec import ExpectationSpec
from millrace.validation.gx_expectation import build_expectation
from millrace.validation.suite import load_suite

_NUMBERS = count()
_HEAD = "import great_expectations as gx\nimport great_expectations.expectations as gxe\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body: str) -> str:
        name = f"team_suite_{next(_NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(f"{_HEAD}def orders():\n    {body}\n")
        return f"{name}:orders"

    return write


def test_a_suite_becomes_a_contract(write) -> None:  # type: ignore[no-untyped-def]
    target = write(
        "return gx.ExpectationSuite(name='orders', expectations=["
        "gxe.ExpectColumnValuesToBeBetween(column='x', min_value=1, meta={'on_failure': 'quarantine', 'id': 'x_low'}),"
        "gxe.ExpectTableColumnsToMatchSet(column_set={'b', 'a'}, meta={'on_failure': 'warn', 'stage': 'raw'}),"
        "gxe.ExpectColumnMedianToBeBetween(column='x', max_value=5)])"
    )
    contract = load_suite(target)
    assert [(item.name, item.on_failure, item.stage) for item in contract] == [
        ("x_low", "quarantine", "clean"),
        ("raw.table_columns_to_match_set", "warn", "raw"),
        ("column_median_to_be_between.x", "block", "clean"),
    ]
    assert contract[1].kwargs == {"column_set": ["a", "b"]}
    assert build_expectation(contract[0], ["x"]).min_value == 1


def test_a_list_and_a_condition_do_too(write) -> None:  # type: ignore[no-untyped-def]
    (item,) = load_suite(
        write(
            "from great_expectations.expectations.row_conditions import Column; "
            "return [gxe.ExpectColumnValuesToNotBeNull(column='x', row_condition=Column('y') > 2)]"
        )
    )
    assert ExpectationSpec.model_validate_json(item.model_dump_json()) == item
    assert build_expectation(item, ["x", "y"]).row_condition.parameter == 2


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 5", "gives a int"),
        ("return {}", "gives a dict"),
        ("return ['expect_it']", "a str is no expectation"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return [gxe.ExpectColumnToExist(column='x', meta={'on_failure': 'explode'})]", "on_failure"),
    ],
)
def test_what_is_no_suite_is_refused(write, body: str, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError, match=told):
        load_suite(write(body))


@pytest.mark.parametrize("target", ["nowhere.at_all:f", "json:nothing", "json", ":f", "json:"])
def test_what_cannot_be_imported_is_refused_with_a_remedy(target: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_suite(target)
    assert caught.value.remedy
