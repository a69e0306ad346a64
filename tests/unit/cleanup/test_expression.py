from __future__ import annotations

import pytest

from millrace.cleanup.expression import isolated, parse_expression, unrepeatable_functions


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("a + 1", []),
        ("strftime(a, '%Y') || upper('x')", []),
        ("random() + 1", ["random"]),
        ("CASE WHEN a > now() THEN uuid() ELSE 'x' END", ["now", "uuid"]),
        ("date_diff('day', a, current_date)", ["current_date"]),
        ("CURRENT_TIMESTAMP -- when", ["current_timestamp"]),
        ("current_localtimestamp()", ["current_localtimestamp"]),
        ("current_setting('memory_limit')", ["current_setting"]),
        ("age(a, b)", []),
        ("AGE(a)", ["age"]),
    ],
)
def test_functions_that_change_from_run_to_run_are_found(expression: str, found: list[str]) -> None:
    with isolated() as connection:
        assert unrepeatable_functions(parse_expression(connection, expression)) == found


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("avg(a)", "calls avg(), an aggregate"),
        ("count(*)", "calls count_star(), an aggregate"),
        ("1 + (SELECT max(column0) FROM read_csv('/etc/passwd'))", "calls max(), an aggregate"),
        ("(SELECT content FROM read_text('/etc/passwd'))", "a query of its own"),
        ("a IN (SELECT 1)", "a query of its own"),
        ("row_number() OVER ()", "looks at other rows"),
        ("CASE WHEN lag(a) OVER (ORDER BY b) > 1 THEN 2 END", "looks at other rows"),
        ("unnest([1, 2])", "several rows of one"),
        ("generate_subscripts([1, 2], 1)", "several rows of one"),
        ("*", "several columns"),
        ("coalesce(*COLUMNS(*))", "several columns"),
        ("$1", "a parameter"),
        ("#1", "by its position"),
        ('"row#" + 1', "'row#'"),
        ("a) FROM raw WHERE (b", "not one expression"),
        ("a), (b", "not one expression"),
        ("a) UNION SELECT (b", "not one expression"),
        ("a) ORDER BY (b", "not one expression"),
        ("a)) FROM raw; DROP TABLE raw; --", "syntax error"),
        ("a +", "syntax error"),
        (" ", "empty"),
    ],
)
def test_what_is_not_one_value_of_one_row_is_refused(expression: str, fault: str) -> None:
    with isolated() as connection:
        assert fault in parse_expression(connection, expression).fault


@pytest.mark.parametrize(
    "expression", ["a", "a -- the first\n", "list_sum(list_transform([a], lambda x: x + b))", "{'a': b}.a"]
)
def test_values_of_one_row_are_let_through(expression: str) -> None:
    with isolated() as connection:
        assert parse_expression(connection, expression).fault == ""


def test_names_are_told_in_small_letters() -> None:
    with isolated() as connection:
        assert parse_expression(connection, 'A + "B" * upper(c)').names == {"a", "b", "c"}
