from __future__ import annotations

import pytest

from millrace.validation.cleanup import isolated
from millrace.validation.function import unrepeatable_functions


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("a + 1", []),
        ("strftime(a, '%Y') || upper('x')", []),
        ("random() + 1", ["random"]),
        ("CASE WHEN a > now() THEN uuid() ELSE 'x' END", ["now", "uuid"]),
        ("date_diff('day', a, current_date)", ["current_date"]),
        ("CURRENT_TIMESTAMP -- when", ["current_timestamp"]),
    ],
)
def test_functions_that_change_from_run_to_run_are_found(expression: str, found: list[str]) -> None:
    with isolated() as connection:
        assert unrepeatable_functions(connection, expression) == found
