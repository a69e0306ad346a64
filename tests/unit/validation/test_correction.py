from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.shop import make_domain

from millrace.errors import MillraceError, SourceError, SpecError
from millrace.spec import SourceSpec
from millrace.step.correction import fit_value
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
        bound = bind_corrections(read_corrections(path, spec), known, spec, path=path, key=key, fixed={}, fit=fit_value)
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
        ('{"row_id": "a", "order": true}', "f.jsonl", "True is no int64: true or false"),
        ('{"row_id": "a", "order": 9223372036854775808}', "f.jsonl", "too large for int64"),
        ('{"row_id": "a", "amount": "nan"}', "f.jsonl", "not a finite number"),
        ('{"row_id": "a", "customer": 5}', "f.jsonl", "5 is no string: a number"),
        ('{"row_id": "a", "placed_at": "soon"}', "f.jsonl", "'soon' is no timestamp"),
        ("row_id,amount\na,1_0\n", "f.csv", r"'1_0' is no float64: no number(.|\n)*line 2, column amount"),
        ("row_id,order\na,١٢\n", "f.csv", r"is no int64(.|\n)*line 2, column order"),
        ("row_id,amount\na,0.1e-400\n", "f.csv", r"too small to be told from zero(.|\n)*line 2, column amount"),
        ("row_id,amount\na,1e400\n", "f.csv", "too large for float64"),
        (f'{{"row_id": "a", "order": "{"9" * 5000}"}}', "f.jsonl", r"too large for int64(.|\n)*line 1, column order"),
        (f'{{"row_id": "a", "order": {"9" * 5000}}}', "f.jsonl", "too large for int64"),
        ("row_id,placed_at\na,2020-01-01T00:00:00.123456789Z\n", "f.csv", "a time finer than microseconds"),
        ("row_id,placed_at\na,0001-01-01T00:00:00+14:00\n", "f.csv", r"no calendar has(.|\n)*line 2"),
        ("row_id,placed_at\na,9999-12-31T23:59:59-14:00\n", "f.csv", r"no calendar has(.|\n)*line 2"),
        ('{"row_id": "a", "amount": [1]}', "f.jsonl", "nested values"),
        ('{"row_id": "a", "customer": "\\ud800"}', "f.jsonl", "half of a character"),
        ('{"row_id": "a", "amount": 1, "amount": 2}', "f.jsonl", "a field stands twice"),
        ("[" * 5000, "f.jsonl", r"no JSON(.|\n)*line 1"),
        ("", "f.csv", "the file is empty"),
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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("row_id,amount\na,secret\n", "f.csv"),
        ("row_id,order\na,secret\n", "f.csv"),
        ("row_id,secret\na,4\n", "f.csv"),
        ("row_id,amount\nsecret,4\n", "f.csv"),
        ("row_id,amount\nsecret,4\nsecret,5\n", "f.csv"),
        ('row_id,amount\na,"secret"4\n', "f.csv"),
        ('{"row_id": "a", "secret": 4}', "f.jsonl"),
        ('{"row_id": "a", "customer": "secret}', "f.jsonl"),
        ('{"row_id": "a", "placed_at": "secret"}', "f.jsonl"),
    ],
)
def test_of_a_source_with_personal_columns_no_value_of_the_file_stands_in_an_error(
    bind: Any, text: str, name: str
) -> None:
    spec = SPEC.model_copy(update={"pii": {"customer": "tokenise"}})
    with pytest.raises(MillraceError) as caught:
        bind(text, name, spec=spec)
    error: BaseException | None = caught.value
    assert "line" in str(error)
    while error is not None:
        assert "secret" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_an_undeclared_column_of_such_a_source_is_told_by_its_place(bind: Any) -> None:
    spec = SPEC.model_copy(update={"pii": {"customer": "tokenise"}})
    with pytest.raises(SpecError, match="the header names a column that is not declared, its field 3"):
        bind("row_id,amount,secret\na,4,5\n", spec=spec)


def test_values_are_read_as_a_text_source_reads_them_up_to_its_longest_record(bind: Any) -> None:
    found = bind("row_id,order,amount\na, 1e3 ,.5\n")
    assert (found["a"]["order"], found["a"]["amount"]) == (1000, 0.5)
    before = csv.field_size_limit()
    assert len(bind(f"row_id,customer\na,{'y' * 200_000}\n")["a"]["customer"]) == 200_000
    assert csv.field_size_limit() == before
    short = SPEC.model_copy(update={"max_record_bytes": 1024})
    with pytest.raises(SourceError, match="longer than 1024 bytes"):
        bind(f'{{"row_id": "a", "customer": "{"y" * 2000}"}}', "f.jsonl", spec=short)


def test_a_column_that_the_original_has_not_is_not_made_up(bind: Any) -> None:
    older = {name: value for name, value in ORIGINAL.items() if name != "customer"}
    assert bind("row_id,amount\na,4\n", a=entry(raw=orjson.dumps(older).decode())) == {"a": {**older, "amount": 4.0}}


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
