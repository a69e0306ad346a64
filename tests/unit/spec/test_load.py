from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, StringConstraints

from millrace.errors import SpecError
from millrace.spec import load_domain, load_use_case
from millrace.spec.base import Spec
from millrace.spec.load import check_values, read_yaml

DOMAIN, USE_CASE = "domains/flights.yaml", "use_cases/flight_delay.yaml"
_TYPES = "add `type: int | float | categorical`"


def fault(dags: Path, file: str, before: str, after: str) -> SpecError:
    """What is said to a spec with one text replaced by another."""
    path = dags / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_domain(dags, "flights") if file == DOMAIN else load_use_case(dags, "flight_delay")
    assert str(path) in caught.value.where
    return caught.value


@pytest.mark.parametrize(
    ("file", "before", "after", "what", "remedy"),
    [
        (USE_CASE, "drift_psi", "drift_pis", "unknown key 'monitoring.drift_pis'", "did you mean 'drift_psi'?"),
        (USE_CASE, "threshold: 0.5", "threshold: often", "threshold: .* 'often'", "correct 'threshold'"),
        (USE_CASE, "threshold: 0.5", "threshold: 0.5\nthreshold: 0.9", "'threshold' stands twice", "at that line"),
        (USE_CASE, "  metric: auc", "  split: random\n  metric: auc", "'random'", "correct 'evaluation.split'"),
        (DOMAIN, "America/New_York", "America/New_Yrok", "timezone: no time zone", "correct 'timezone'"),
        (DOMAIN, "America/New_York", "../etc", "timezone: no time zone", "correct 'timezone'"),
        (
            DOMAIN,
            'first: "2013-01"',
            'first: "2013-13"',
            "first: '2013-13' is not the key of a month",
            'write first: "2024-05"',
        ),
        (DOMAIN, 'first: "2013-01"', "first: 2013-01-05", "first: '2013-01-05' is not the key of a month", "month"),
        (USE_CASE, "  metric: auc", "  metric: rmse", "'rmse' does not fit", "set evaluation.metric: auc"),
        (
            USE_CASE,
            "problem: binary",
            "problem: multiclass",
            "classes",
            "list each class once",
        ),
        (DOMAIN, 'last: "2013-12"', 'last: "2012-12"', "lies before first", "set `last` to 2013-01 or later"),
        (
            DOMAIN,
            "      tailnum: string",
            "      Tail No: string",
            "Tail No",
            "call it 'tail_no'; of a CSV file say `header",
        ),
        (DOMAIN, "key: [tailnum]", "key: [tailnr]", "'tailnr' is neither", "correct 'sources.planes'"),
    ],
)
def test_a_fault_names_file_key_and_remedy(
    dags: Path, file: str, before: str, after: str, what: str, remedy: str
) -> None:
    error = fault(dags, file, before, after)
    assert re.search(what, error.what)
    assert remedy in error.remedy


def test_a_rule_between_keys_is_told_without_the_whole_file(dags: Path) -> None:
    error = fault(dags, USE_CASE, "    distance: number", "    distance: number\n    dep_delay: number")
    assert error.what.startswith("features ['dep_delay'] are declared as leaks")
    assert "(the whole)" not in str(error)
    assert "{'name'" not in str(error)


@pytest.mark.parametrize(
    ("key", "value", "what", "remedy"),
    [
        (
            "class_weight",
            "even",
            "candidates.own.class_weight: Input should be 'balanced' or a mapping",
            "class_weight'",
        ),
        (
            "class_weight",
            "{a: -1}",
            "candidates.own.class_weight.a: Input should be greater than 0 (is -1)",
            "weight.a'",
        ),
        ("tuning", "{space: {x: {low: 1, high: 2}}}", "key 'candidates.own.tuning.space.x.type' is missing", _TYPES),
        ("tuning", "{space: {x: {type: flt, low: 1}}}", "space.x.type: 'flt' is none of int, float, cat", "'float'?"),
        ("tuning", "{space: {x: {type: int, low: 1, hihg: 2}}}", "'candidates.own.tuning.space.x.hihg'", "'high'?"),
        ("tuning", "{space: {}}", "candidates.own.tuning.space: Input should have at least 1", "tuning.space'"),
    ],
)
def test_a_fault_in_a_value_of_several_forms_is_told_in_the_words_of_the_file(
    dags: Path, key: str, value: str, what: str, remedy: str
) -> None:
    own = f"candidates:\n  own:\n    trainer: xgboost\n    {key}: {value}\n"
    error = fault(dags, USE_CASE, "candidates:\n", own)
    assert what in error.what
    assert remedy in error.remedy
    assert not re.search(r"literal\[|dict\[|discriminator|space\.x\.int|; candidates", error.what.partition("; key")[0])


def test_aliases_and_merged_keys_are_no_doubles(dags: Path) -> None:
    path = dags / USE_CASE
    text = path.read_text(encoding="utf-8")
    text = text.replace("    trainer: baseline", "    &base\n    trainer: baseline\n  other:\n    <<: *base")
    path.write_text(text, encoding="utf-8")
    assert load_use_case(dags, "flight_delay").candidates["other"].trainer == "baseline"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2013-13-45", "'2013-13-45' is not what it looks like"),
        ("9" * 5000, "is not what it looks like"),
        ("!!bool x", "'x' is not what it looks like"),
        ("{[a]: 1}", "a list or mapping stands as a key"),
        ("{{a: 1}: 1}", "a list or mapping stands as a key"),
    ],
    ids=["day", "digits", "truth", "list", "mapping"],
)
def test_a_value_that_yaml_cannot_make_is_a_fault_of_the_file(dags: Path, value: str, said: str) -> None:
    error = fault(dags, USE_CASE, "candidates:\n", f"extra: {value}\ncandidates:\n")
    assert said in error.what
    assert "flight_delay.yaml" in error.where


class Formed(Spec):
    limit: Annotated[str, StringConstraints(min_length=2)] | Annotated[int, Field(ge=3)] | None = None


@pytest.mark.parametrize(
    ("value", "said"), [("b", "limit: String should have"), ([], "valid string or a valid integer")]
)
def test_a_bounded_form_is_told_without_pydantics_name_for_it(value: object, said: str) -> None:
    with pytest.raises(SpecError, match=said) as raised:
        check_values(Formed, {"limit": value}, where="spec")
    assert "constrained" not in str(raised.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "? " * 100_000])
def test_yaml_nested_without_end_is_refused_and_does_not_end_the_process(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_yaml(text, where="a file")
    assert caught.value.where == "a file"
    assert caught.value.remedy


def test_a_long_flat_list_is_read() -> None:
    assert read_yaml("- a: 1\n" * 1_000, where="a file") == [{"a": 1}] * 1_000


def test_a_day_without_quotes_is_the_key_that_it_looks_like(dags: Path) -> None:
    path = dags / DOMAIN
    text = path.read_text(encoding="utf-8").replace('first: "2013-01"', "grain: day\nfirst: 2013-01-05")
    path.write_text(text.replace("grain: month\n", "").replace('last: "2013-12"', "last: 2013-12-31"), encoding="utf-8")
    domain = load_domain(dags, "flights")
    assert (domain.first, domain.last) == ("2013-01-05", "2013-12-31")
