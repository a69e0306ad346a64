from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cleanup.source import make_source

from millrace.cleanup import clean_schema
from millrace.errors import ContractError, SpecError
from millrace.lake import duck
from millrace.lake.schema import arrow_schema
from millrace.spec.source import FileSourceSpec
from millrace.validation.base import ROW, StepReport
from millrace.validation.cleanup import CleanedUp, run_cleanup

TEAM = "tests.unit.validation.team"
COLUMNS = {"id": "int32", "text": "string", "value": "float64", "seen": "timestamp"}
SEEN = datetime(2020, 1, 1, tzinfo=UTC)


@contextmanager
def connected(rows: Sequence[dict[str, Any]], spec: FileSourceSpec, folder: Path) -> Iterator[Any]:
    table = pa.Table.from_pylist(list(rows), schema=arrow_schema(spec.raw_columns))
    numbered = table.append_column(ROW, pa.array(np.arange(len(rows), dtype=np.int64)))
    connection = duck.connect(external=False, folders=[folder], spill=folder, memory_limit="500MB")
    try:
        connection.register("raw", numbered)
        yield connection
    finally:
        connection.close()


def clean(rows: Sequence[dict[str, Any]], *steps: dict[str, Any], **values: Any) -> tuple[pa.Table, CleanedUp]:
    spec = make_source(*steps, columns=COLUMNS, **values)
    with TemporaryDirectory() as folder, connected(rows, spec, Path(folder)) as connection:
        report = run_cleanup(connection, spec, where="here", folder=Path(folder))
        found = connection.sql(f"SELECT * FROM {report.table}").to_arrow_table()
    assert found.drop_columns([ROW]).schema == clean_schema(spec)
    assert found.column_names == [*spec.clean_columns, ROW]
    aside = [row for item in report.aside for row in item.rows.tolist()]
    assert sorted([*aside, *found[ROW].to_pylist()]) == list(range(len(rows))), "a row is lost, or stands twice"
    assert [step.rows_in for step in report.steps[1:]] == [step.rows_out for step in report.steps[:-1]]
    assert (report.steps[0].rows_in if report.steps else len(rows)) == len(rows)
    assert (report.steps[-1].rows_out if report.steps else len(rows)) == found.num_rows
    return found, report


def rows(*texts: str | None, value: float | None = 1.5) -> list[dict[str, Any]]:
    return [{"id": number, "text": text, "value": value, "seen": SEEN} for number, text in enumerate(texts)]


def reasons(report: CleanedUp) -> dict[str, list[int]]:
    return {item.reason: item.rows.tolist() for item in report.aside}


def test_without_steps_rows_pass_and_what_is_not_a_number_becomes_null() -> None:
    found, report = clean([*rows("a"), *rows("b", value=math.nan), *rows("c", value=math.inf)])
    assert found["value"].to_pylist() == [1.5, None, math.inf]
    assert (report.steps, report.aside) == ([], [])


def test_no_rows_are_no_trouble() -> None:
    found, report = clean(
        [],
        {"derive": {"n": "CAST(text AS INTEGER)"}},
        {"deduplicate": ["id"]},
        {"python": f"{TEAM}:upper"},
        {"cast": {"n": "string"}},
    )
    assert found.num_rows == 0
    assert [step.rows_in for step in report.steps] == [0, 0, 0, 0]


def test_an_expression_may_rest_on_columns_derived_before_it() -> None:
    steps = {"derive": {"twice": "value * 2", "more": "twice + 1", "name": "text || '-' || more", "other": "id"}}
    found, _ = clean(rows("a", "b"), steps)
    assert found["name"].to_pylist() == ["a-4.0", "b-4.0"]


def test_times_come_out_as_instants_in_utc() -> None:
    found, _ = clean(
        rows("a"), {"derive": {"later": "seen + INTERVAL 90 MINUTE", "plain": "TIMESTAMP '2020-01-01 05:00'"}}
    )
    assert found["later"].to_pylist() == [datetime(2020, 1, 1, 1, 30, tzinfo=UTC)]
    assert found["plain"].to_pylist() == [datetime(2020, 1, 1, 5, tzinfo=UTC)]


def test_what_an_expression_makes_that_is_not_a_number_or_endless_in_time_becomes_null() -> None:
    made = {"root": "sqrt(-value)", "far": "CAST(text AS TIMESTAMP)", "twice": "root * 2"}
    found, report = clean(rows("infinity"), {"derive": made})
    assert [found[name].to_pylist() for name in made] == [[None], [None], [None]]
    assert report.aside == []


def test_rows_that_an_expression_fails_on_are_set_aside_and_no_others() -> None:
    texts = ["1"] * 3000 + ["one"] + ["1"] * 3000 + [None, "two"]
    found, report = clean(
        rows(*texts), {"derive": {"fine": "value", "number": "CAST(text AS INTEGER)", "more": "number"}}
    )
    assert reasons(report) == {"cleanup.derive.number": [3000, 6002]}
    (item,) = report.aside
    assert (item.columns, item.stage, item.rows.dtype) == (("text",), "raw", np.int64)
    assert report.steps == [StepReport(step="cleanup[0].derive", rows_in=6003, rows_out=6001)]
    assert found["number"].null_count == 1
    assert found[ROW].to_pylist() == sorted(found[ROW].to_pylist())


def test_a_column_that_is_dropped_later_still_sets_its_rows_aside() -> None:
    _, report = clean(rows("1", "x"), {"derive": {"n": "CAST(text AS INTEGER)"}}, {"drop": ["n"]})
    assert reasons(report) == {"cleanup.derive.n": [1]}
    assert [(step.rows_in, step.rows_out) for step in report.steps] == [(2, 1), (1, 1)]


def test_a_row_is_set_aside_for_its_first_fault_only() -> None:
    _, report = clean(
        rows("1", "x", "2.5"), {"cast": {"text": "int32", "value": "int32"}}, {"derive": {"n": "1000::UTINYINT"}}
    )
    assert reasons(report) == {"cleanup.cast.text": [1, 2], "cleanup.cast.value": [0]}


def test_numbers_too_large_for_a_column_are_a_fault_of_their_row() -> None:
    found, report = clean(rows("1", "9223372036854775808"), {"derive": {"n": "CAST(text AS HUGEINT)"}})
    assert (found["n"].to_pylist(), reasons(report)) == ([1], {"cleanup.derive.n": [1]})


def test_clip_and_fill_and_map_keep_rows_and_null() -> None:
    given = [
        {"id": number, "text": text, "value": value}
        for number, (text, value) in enumerate([("a", -5.0), ("b", None), (None, 7.0), ("c", math.nan)])
    ]
    found, _ = clean(
        given,
        {"clip": {"value": {"min": 0, "max": 5}, "id": {"max": 2}}},
        {"map": {"text": {"a": "A", "b": "it's"}, "id": {"0": 0.5}}},
        {"fill": {"text": "none", "seen": "2020-01-01T01:00:00+01:00"}},
    )
    assert found["value"].to_pylist() == [0.0, None, 5.0, None]
    assert found["text"].to_pylist() == ["A", "it's", "none", "c"]
    assert found["id"].to_pylist() == [0.5, 1.0, 2.0, 2.0]
    assert found["seen"].to_pylist() == [SEEN] * 4


def test_columns_can_change_names_and_be_left_out() -> None:
    found, _ = clean(
        rows("a"), {"rename": {"text": "id", "id": "text"}}, {"drop": ["seen"]}, {"rename": {"id": "Id"}}, key=["Id"]
    )
    assert found.to_pylist() == [{"text": 0, "Id": "a", "value": 1.5, ROW: 0}]


@pytest.mark.parametrize(
    ("step", "kept"), [({}, [3, 4, 5]), ({"keep": "first"}, [0, 1, 3]), ({"order_by": "value"}, [1, 3, 4])]
)
def test_of_equal_rows_one_stays(step: dict[str, Any], kept: list[int]) -> None:
    pairs = [("a", 1.0), (None, 9.0), ("a", None), ("b", 1.0), ("a", 3.0), (None, 2.0)]
    given = [{"id": number, "text": text, "value": value} for number, (text, value) in enumerate(pairs)]
    found, report = clean(
        given, {"rename": {"text": "word"}}, {"deduplicate": ["word"], **step}, {"fill": {"word": "-"}}
    )
    assert found[ROW].to_pylist() == kept
    (item,) = report.aside
    assert (item.reason, item.columns, item.stage) == ("duplicate_superseded", ("text",), "raw")
    assert report.steps[1] == StepReport(step="cleanup[1].deduplicate", rows_in=6, rows_out=3)


def test_a_row_set_aside_supersedes_none() -> None:
    given = [{"id": 1, "text": "1", "value": 1.0}, {"id": 1, "text": "x", "value": 2.0}]
    found, report = clean(given, {"cast": {"text": "int32"}}, {"deduplicate": ["id"]})
    assert (found["text"].to_pylist(), reasons(report)) == ([1], {"cleanup.cast.text": [1]})


def test_a_function_sees_what_is_left_and_its_columns_go_on() -> None:
    found, report = clean(
        rows("1", "x", "333", "44"),
        {"derive": {"n": "CAST(text AS BIGINT)"}},
        {"python": f"{TEAM}:add_length", "adds": {"length": "int16"}},
        {"python": f"{TEAM}:not_a_number"},
        {"derive": {"sum": "n + length + 1000 / id", "bad": "CAST(text AS INTEGER) / 0"}},
        {"python": f"{TEAM}:drop_odd"},
        {"drop": ["bad"]},
    )
    assert found["length"].to_pylist() == [1, 3]
    assert found["value"].to_pylist() == [None, None]
    assert reasons(report) == {"cleanup.derive.n": [1], "cleanup.python.drop_odd": [3]}
    assert [(step.step, step.rows_out) for step in report.steps][2:] == [
        ("cleanup[2].python", 3),
        ("cleanup[3].derive", 3),
        ("cleanup[4].python", 2),
        ("cleanup[5].drop", 2),
    ]


def test_a_function_that_raises_leaves_the_connection_in_order(tmp_path: Path) -> None:
    spec = make_source({"python": f"{TEAM}:fail"}, columns=COLUMNS)
    with connected(rows(*["a"] * 200_000), spec, tmp_path) as connection:
        with pytest.raises(ContractError) as caught:
            run_cleanup(connection, spec, where="here", folder=tmp_path)
        assert caught.value.where.startswith("here, cleanup[0].python, raw rows 0 to 65535")
        assert connection.sql("SELECT count(*) FROM raw").fetchall() == [(200_000,)]
        with pytest.raises(ContractError):
            run_cleanup(connection, spec, where="here", folder=tmp_path)


def test_a_wrong_step_stops_before_any_row_is_touched(tmp_path: Path) -> None:
    spec = make_source({"derive": {"a": "value", "b": "valeu * 2"}}, columns=COLUMNS)
    with connected(rows("a"), spec, tmp_path) as connection, pytest.raises(SpecError, match="valeu") as caught:
        run_cleanup(connection, spec, where="shop/raw/orders", folder=tmp_path)
    assert caught.value.where == "shop/raw/orders, cleanup[0].derive.b"


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT max(x) FROM read_csv('{0}/secret.csv') t(x))",
        "(SELECT content FROM read_text('{0}/secret.csv'))",
        "(SELECT x FROM '{0}/secret.csv' t(x))",
        "id) FROM read_csv('{0}/secret.csv') WHERE (1=1",
    ],
)
def test_expressions_cannot_read_what_lies_in_the_folder(expression: str, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("x\n1\n", encoding="utf-8")
    spec = make_source({"derive": {"a": expression.format(tmp_path)}}, columns=COLUMNS)
    with connected(rows("a"), spec, tmp_path) as connection, pytest.raises(SpecError):
        run_cleanup(connection, spec, where="here", folder=tmp_path)


def test_memory_beyond_the_limit_is_said(tmp_path: Path) -> None:
    spec = make_source({"deduplicate": ["text"]}, columns=COLUMNS)
    with connected(rows(*map(str, range(200_000))), spec, tmp_path) as connection:
        connection.execute("SET memory_limit = '1MB'")
        with pytest.raises(ContractError, match="more memory"):
            run_cleanup(connection, spec, where="here", folder=tmp_path)


def test_running_again_gives_the_same(tmp_path: Path) -> None:
    steps = [{"derive": {"n": "CAST(text AS INTEGER)"}}, {"deduplicate": ["n"]}, {"python": f"{TEAM}:upper"}]
    spec = make_source(*steps, columns=COLUMNS)
    with connected(rows("1", "x", "1", "2"), spec, tmp_path) as connection:
        found = []
        for _ in range(2):
            report = run_cleanup(connection, spec, where="here", folder=tmp_path)
            found.append((connection.sql(f"FROM {report.table}").fetchall(), report.steps, reasons(report)))
        assert found[0] == found[1]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 5),
            "text": st.sampled_from([None, "1", "2", "x", "2.5", "300"]),
            "value": st.sampled_from([None, 0.5, 2.0, -4.0, math.nan, 1e9]),
        }
    ),
    max_size=15,
)
STEPS = st.lists(
    st.sampled_from(["cast", "derive", "fill", "clip", "map", "first", "last", "rename", "python"]), max_size=6
)


@settings(max_examples=30, deadline=None)
@given(ROWS, STEPS)
def test_any_steps_on_any_rows_do_what_a_plain_loop_does(given_rows: list[dict[str, Any]], names: list[str]) -> None:
    model = _Model(given_rows)
    steps = [step for index, name in enumerate(names) for step in model.apply(name, index)]
    found, report = clean(given_rows, *steps)
    assert found.drop_columns(["seen"]).to_pylist() == model.rows
    told: dict[str, list[int]] = {}
    for item in report.aside:
        told[item.reason] = sorted([*told.get(item.reason, []), *item.rows.tolist()])
    assert told == {reason: sorted(positions) for reason, positions in model.aside.items()}


class _Model:
    """Clean-up as a loop over dictionaries; it makes the steps that fit the columns it has come to."""

    def __init__(self, given_rows: list[dict[str, Any]]) -> None:
        self.rows = [
            {**row, "value": None if row["value"] is None or math.isnan(row["value"]) else row["value"], ROW: number}
            for number, row in enumerate(given_rows)
        ]
        self.aside: dict[str, list[int]] = {}
        self.numeric = False
        self.word = "text"

    def apply(self, name: str, index: int) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = getattr(self, f"_{name}")(index)
        return made

    def _lose(self, reason: str, lost: list[dict[str, Any]]) -> None:
        if lost:
            self.aside.setdefault(reason, []).extend(row[ROW] for row in lost)
        gone = {row[ROW] for row in lost}
        self.rows = [row for row in self.rows if row[ROW] not in gone]

    def _cast(self, _: int) -> list[dict[str, Any]]:
        if self.numeric:
            return [{"cast": {self.word: "int16"}}]
        self.numeric = True
        self._lose(f"cleanup.cast.{self.word}", [row for row in self.rows if row[self.word] in ("x", "2.5")])
        for row in self.rows:
            row[self.word] = None if row[self.word] is None else int(row[self.word])
        return [{"cast": {self.word: "int16"}}]

    def _derive(self, index: int) -> list[dict[str, Any]]:
        self._lose(f"cleanup.derive.d{index}", [row for row in self.rows if (row["value"] or 0) * 100 >= 2**31])
        for row in self.rows:
            whole = None if row["value"] is None else round(row["value"] * 100)
            row[f"d{index}"] = whole
            row[f"e{index}"] = None if whole is None else whole + row["id"]
        self._order()
        return [{"derive": {f"d{index}": "CAST(value * 100 AS INTEGER)", f"e{index}": f"d{index} + ID"}}]

    def _order(self) -> None:
        self.rows = [{**{key: value for key, value in row.items() if key != ROW}, ROW: row[ROW]} for row in self.rows]

    def _fill(self, _: int) -> list[dict[str, Any]]:
        value: Any = 7 if self.numeric else "2"
        for row in self.rows:
            row[self.word] = value if row[self.word] is None else row[self.word]
        return [{"fill": {self.word: value}}]

    def _clip(self, _: int) -> list[dict[str, Any]]:
        for row in self.rows:
            row["value"] = None if row["value"] is None else min(max(row["value"], -1.0), 3.0)
        return [{"clip": {"value": {"min": -1, "max": 3}}}]

    def _map(self, _: int) -> list[dict[str, Any]]:
        for row in self.rows:
            row["id"] = {0: 4, 4: 0}.get(row["id"], row["id"])
        return [{"map": {"id": {"0": 4, "4": 0}}}]

    def _first(self, _: int) -> list[dict[str, Any]]:
        return self._deduplicate("first")

    def _last(self, _: int) -> list[dict[str, Any]]:
        return self._deduplicate("last")

    def _deduplicate(self, keep: str) -> list[dict[str, Any]]:
        groups: dict[Any, list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault((row["id"], row[self.word]), []).append(row)
        for members in groups.values():
            self._lose("duplicate_superseded", members[1:] if keep == "first" else members[:-1])
        return [{"deduplicate": ["id", self.word], "keep": keep}]

    def _rename(self, index: int) -> list[dict[str, Any]]:
        old, self.word = self.word, f"w{index}"
        self.rows = [{self.word if key == old else key: value for key, value in row.items()} for row in self.rows]
        return [{"rename": {old: self.word}}]

    def _python(self, _: int) -> list[dict[str, Any]]:
        self._lose("cleanup.python.drop_odd", [row for row in self.rows if row["id"] % 2])
        return [{"python": f"{TEAM}:drop_odd"}]
