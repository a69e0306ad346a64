from __future__ import annotations

import numpy as np

from millrace.spec import ExpectationSpec, SourceSpec
from millrace.validation.base import Finding
from millrace.validation.contract import Judgement, Reason, judge

NONE = np.array([], dtype=np.int64)


def finding(on_failure: str, *, holds: bool = False, rows: list[int] | None = None, error: str = "") -> Finding:
    made = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}, "on_failure": on_failure}
    return Finding(
        expectation=ExpectationSpec.model_validate({**made, "id": f"{on_failure}_x"}),
        holds=holds,
        rows=None if rows is None else np.array(rows),
        observed="3 rows fail",
        error=error,
    )


def decide(
    *findings: Finding, duplicates: list[int] | None = None, rows_in: int = 100, share: float = 0.5
) -> Judgement:
    spec = SourceSpec.model_validate(
        {"uri": "x", "columns": {"k": "int32", "x": "int32"}, "key": ["k"], "max_quarantined_share": share}
    )
    return judge(findings, NONE if duplicates is None else np.array(duplicates), rows_in, spec)


def test_what_holds_does_nothing_though_mostly_left_some_rows_over() -> None:
    found = decide(finding("quarantine", holds=True, rows=[1, 2]), finding("block", holds=True))
    assert (list(found.reasons), list(found.blocked), list(found.notes), len(found.rows)) == ([], [], [], 0)


def test_each_failure_does_what_its_expectation_says() -> None:
    found = decide(finding("quarantine", rows=[7, 3]), finding("warn", rows=[1]), finding("block", rows=[2]))
    assert found.rows.tolist() == [3, 7]
    assert found.blocked == ["block_x does not hold: 3 rows fail"]
    assert found.notes == ["quarantine_x: 2 rows quarantined", "warn_x does not hold: 3 rows fail"]


def test_a_row_has_all_its_reasons_in_the_order_of_the_contract() -> None:
    found = decide(finding("quarantine", rows=[3]), duplicates=[3, 4])
    assert found.reasons == [
        Reason(row=3, expectation="duplicate", columns=("k",)),
        Reason(row=3, expectation="quarantine_x", columns=("x",)),
        Reason(row=4, expectation="duplicate", columns=("k",)),
    ]


def test_what_could_not_be_judged_blocks_whatever_its_failure_does() -> None:
    found = decide(finding("warn", error="no such metric"))
    assert found.blocked == ["warn_x could not be judged: no such metric"]


def test_too_large_a_share_of_quarantined_rows_blocks() -> None:
    assert decide(finding("quarantine", rows=[1, 2]), rows_in=100, share=0.02).blocked == []
    (told,) = decide(finding("quarantine", rows=[1, 2]), duplicates=[9], rows_in=100, share=0.02).blocked
    assert told == "3 of 100 rows (3.00%) would be quarantined, over the limit of 2.00%"
