from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.shop import make_domain

from millrace.errors import SourceError, SpecError
from millrace.spec import SourceSpec
from millrace.validation.correction import Decision, bind_corrections
from millrace.validation.correction_file import read_corrections

SPEC: SourceSpec = make_domain("x.csv").sources["orders"]
ORIGINAL = {"order": 4, "day": "2020-01", "customer": "c", "amount": 40.0, "placed_at": "2020-01-03T10:00:00Z"}


def entry(**more: Any) -> dict[str, Any]:
    raw = orjson.dumps(ORIGINAL).decode()
    return {"kind": "row", "raw": raw, "reasons": "[]", "status": "open", "partition": "2020-01", **more}


@pytest.fixture
def bind(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def work(text: str, name: str = "fixed.csv", *, spec: SourceSpec = SPEC, **entries: Any) -> dict[str, Any]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        known = entries or {"a": entry()}
        key = b"k" * 32 if spec.pii else None
        bound = bind_corrections(read_corrections(path, spec), known, spec, path=path, key=key, fixed={})
        return {row_id: orjson.loads(row) for row_id, row in bound.items()}

    return work


def test_columns_that_are_not_given_keep_the_value_of_the_original(bind: Any) -> None:
    assert bind("row_id,amount\na,4\n") == {"a": {**ORIGINAL, "amount": 4.0}}


def test_csv_and_json_lines_mean_the_same(bind: Any) -> None:
    table = '\ufeffrow_id,order,customer,amount,placed_at\r\na,+5,"x\u2028, ""y""\nz",NA,2020-01-03T12:00:00+02:00\r\n'
    line = {
        "row_id": "a",
        "order": 5,
        "customer": 'x\u2028, "y"\nz',
        "amount": None,
        "placed_at": "2020-01-03T10:00:00Z",
    }
    lines = orjson.dumps(line).decode() + "\n\n"
    found = bind(table)
    assert found == bind(lines, "fixed.jsonl")
    assert found["a"] == {**ORIGINAL, **{name: value for name, value in line.items() if name != "row_id"}}


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("amount\n4\n", "f.csv", "line 1"),
        ("row_id,amount\na,4\na,5\n", "f.csv", r"stands twice(.|\n)*line 3 and 2"),
        ("row_id,amount\na\n", "f.csv", r"not 2 fields(.|\n)*line 2"),
        ("row_id,amount\na,4,5\n", "f.csv", r"not 2 fields(.|\n)*line 2"),
        ('row_id,amount\na,"4"5\n', "f.csv", r"no CSV(.|\n)*line 2"),
        ('{"row_id": "a"}\n{', "f.jsonl", r"no JSON(.|\n)*line 2"),
        ("[1]", "f.jsonl", r"no JSON object(.|\n)*line 1"),
        ('{"amount": 3}', "f.jsonl", r"no `row_id`(.|\n)*line 1"),
        ('{"row_id": "a", "order": true}', "f.jsonl", "True is no int64"),
        ('{"row_id": "a", "order": 9223372036854775808}', "f.jsonl", "more than 64 bits"),
        ('{"row_id": "a", "amount": "nan"}', "f.jsonl", "not a finite number"),
        ('{"row_id": "a", "customer": 5}', "f.jsonl", "5 is no string"),
        ('{"row_id": "a", "placed_at": "soon"}', "f.jsonl", "'soon' is no timestamp"),
    ],
)
def test_a_line_at_fault_is_named(bind: Any, text: str, name: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        bind(text, name)


def test_a_row_closed_by_another_decision_is_refused_and_a_corrected_one_is_not(bind: Any) -> None:
    with pytest.raises(SpecError, match="closed already: waived"):
        bind("row_id,amount\na,4\n", a=entry(status="closed", resolution="waived"))
    assert bind("row_id,amount\na,4\n", a=entry(status="closed", resolution="corrected"))


def test_personal_values_become_tokens_and_stay_out_of_messages(bind: Any) -> None:
    spec = SPEC.model_copy(update={"pii": {"customer": "tokenise", "amount": "tokenise", "placed_at": "drop"}})
    (row,) = bind("row_id,customer,amount\na,ann,4\n", spec=spec).values()
    assert row["customer"].startswith("tok_")
    assert row["amount"].startswith("tok_")
    assert "placed_at" not in row
    with pytest.raises(SpecError, match="column 'placed_at' is never stored"):
        bind("row_id,placed_at\na,2020-01-01T00:00:00Z\n", spec=spec)
    with pytest.raises(SourceError, match="a value is no float64") as caught:
        bind("row_id,amount\na,secret\n", spec=spec)
    assert "secret" not in str(caught.value)


def test_a_decision_means_open_rows_by_id_and_reason() -> None:
    why = '[{"expectation":"e"},{"expectation":"f"}]'
    for ids, reasons, meant in (
        (None, None, True),
        ({"a"}, {"f"}, True),
        ({"b"}, None, False),
        ({"a"}, {"g"}, False),
        (set(), None, False),
    ):
        decision = Decision(
            action="revalidate",
            by="ann",
            ids=None if ids is None else frozenset(ids),
            reasons=None if reasons is None else frozenset(reasons),
        )
        assert decision.matches("a", why) == meant
