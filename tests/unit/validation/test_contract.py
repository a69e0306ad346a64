from __future__ import annotations

import numpy as np

from millrace.spec import ExpectationSpec, FileSourceSpec
from millrace.validation.base import Finding, SetAside
from millrace.validation.contract import judge, over_limit, tell_aside


def finding(on_failure: str, *, holds: bool = False, rows: list[int] | None = None, error: str = "") -> Finding:
    made = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}, "on_failure": on_failure}
    return Finding(
        expectation=ExpectationSpec.model_validate({**made, "id": f"{on_failure}_x"}),
        holds=holds,
        rows=None if rows is None else np.array(rows),
        observed="3 rows fail",
        error=error,
    )


def spec(**more: object) -> FileSourceSpec:
    return FileSourceSpec.model_validate(
        {"uri": "x", "columns": {"k": "int32", "x": "int32"}, "key": ["k"], "max_quarantined_share": 0.02, **more}
    )


def aside(reason: str, *rows: int) -> SetAside:
    return SetAside(reason=reason, columns=("k",), rows=np.array(rows, np.int64))


def test_what_holds_does_nothing_though_mostly_left_some_rows_over() -> None:
    found = judge([finding("quarantine", holds=True, rows=[1, 2]), finding("block", holds=True)], [], spec())
    assert (list(found.aside), list(found.blocked), list(found.notes), len(found.rows)) == ([], [], [], 0)


def test_each_failure_does_what_its_expectation_says() -> None:
    findings = [finding("quarantine", rows=[3, 7]), finding("warn", rows=[1]), finding("block", rows=[2])]
    found = judge(findings, [], spec())
    assert found.rows.tolist() == [3, 7]
    assert found.blocked == ["block_x does not hold: 3 rows fail"]
    assert found.notes == ["warn_x does not hold: 3 rows fail"]


def test_what_was_set_aside_before_comes_first_and_each_row_counts_once() -> None:
    found = judge([finding("quarantine", rows=[3])], [aside("duplicate", 3, 4), aside("cleanup.cast.x")], spec())
    assert [(item.reason, item.columns, item.rows.tolist()) for item in found.aside] == [
        ("duplicate", ("k",), [3, 4]),
        ("quarantine_x", ("x",), [3]),
    ]
    assert found.rows.tolist() == [3, 4]
    told = tell_aside({item.reason: len(item.rows) for item in found.aside})
    assert told == ["duplicate: 2 rows quarantined", "quarantine_x: 1 row quarantined"]


def test_what_could_not_be_judged_blocks_whatever_its_failure_does() -> None:
    found = judge([finding("warn", error="no such metric")], [], spec())
    assert found.blocked == ["warn_x could not be judged: no such metric"]


def test_duplicates_block_where_the_policy_says_so() -> None:
    doubled = [aside("duplicate", 3, 4)]
    assert judge([], doubled, spec()).blocked == []
    assert judge([], doubled, spec(duplicates={"policy": "block"})).blocked == [
        "2 rows share their key (k) with others"
    ]


def test_too_large_a_share_of_quarantined_rows_blocks() -> None:
    assert over_limit(2, 100, spec()) == []
    assert over_limit(0, 0, spec()) == []
    (told,) = over_limit(3, 100, spec())
    assert told == "3 of 100 rows (3.00%) would be quarantined, over the limit of 2.00%"
