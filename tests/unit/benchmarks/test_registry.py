"""The harness of the benchmarks: what it finds, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.pairs import DifferentResultsError, Sample, compare
from tests.benchmarks.registry import UnknownBenchmarkError, list_benchmarks, load_benchmark
from tests.benchmarks.row import Row
from tests.benchmarks.story import differences

FIELDS = ["name", "scale", "ours", "other", "other_is", "unit", "ratio", "goal", "goal_kind", "met", "peak_mb"]


def test_the_benchmarks_of_the_loop_are_there_and_say_what_they_measure() -> None:
    known = list_benchmarks()
    assert {"parse", "story", "task_start"} <= set(known)
    assert all(known.values())
    assert "bare_story" not in known


def test_a_new_benchmark_is_one_module_and_is_found_without_being_imported(tmp_path: Path) -> None:
    text = '"""Measures the new."""\nimport a_library_that_is_not_there\ndef run(scale): ...\n'
    (tmp_path / "new.py").write_text(text)
    (tmp_path / "aside.py").write_text("def go(): ...\n")
    assert list_benchmarks(tmp_path) == {"new": "Measures the new."}


def test_every_benchmark_loads() -> None:
    assert all(callable(load_benchmark(name)) for name in list_benchmarks())


def test_an_unknown_name_is_answered_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownBenchmarkError, match="task_start"):
        load_benchmark("storry")
    assert main(["storry"]) == 2
    told = capsys.readouterr()
    assert "storry" in told.err
    assert "story" in told.err
    assert told.out == ""


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "much"])
def test_a_scale_that_is_no_positive_number_is_refused(scale: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["parse", f"--scale={scale}"])
    assert ended.value.code == 2


def test_a_row_prints_exactly_the_fields_that_the_design_names() -> None:
    row = Row(name="a", scale=1, ours=5.0, other=2.0, other_is="b", unit="s", goal=2.5, goal_kind="ratio", peak_mb=1.0)
    plain = json.loads(row.to_json())
    assert list(plain) == FIELDS
    assert (plain["ratio"], plain["met"]) == (2.5, True)


@pytest.mark.parametrize(
    ("ours", "other", "goal", "kind", "met"),
    [
        (2.6, 1.0, 2.5, "ratio", False),
        (2.5, 1.0, 2.5, "ratio", True),
        (0.9, 0.001, 1.0, "absolute", True),
        (1.1, None, 1.0, "absolute", False),
    ],
)
def test_a_goal_is_met_by_the_ratio_or_by_the_figure_itself(
    ours: float, other: float | None, goal: float, kind: Any, met: bool
) -> None:
    assert Row(name="a", scale=1, ours=ours, other=other, unit="s", goal=goal, goal_kind=kind).met is met


def test_a_goal_on_a_ratio_without_another_side_is_refused() -> None:
    with pytest.raises(ValueError, match="needs something to compare with"):
        Row(name="a", scale=1, ours=1.0, unit="s", goal=1, goal_kind="ratio")


def test_sides_take_turns_after_a_warm_up_that_does_not_count() -> None:
    order: list[str] = []
    figures = {"ours": iter([100.0, 1.0, 3.0, 2.0]), "other": iter([100.0, 10.0, 30.0, 20.0])}

    def side(name: str) -> Sample:
        order.append(name)
        return Sample(figure=next(figures[name]), result=7, peak_mb=float(len(order)))

    found = compare(lambda: side("ours"), lambda: side("other"), pairs=3)
    assert order == ["ours", "other"] * 4
    assert (found.ours, found.other, found.peak_mb) == (2.0, 20.0, 7.0)


def test_sides_that_compute_different_things_are_not_compared() -> None:
    with pytest.raises(DifferentResultsError, match="ours 1, other 2"):
        compare(lambda: Sample(figure=1.0, result=1), lambda: Sample(figure=1.0, result=2))


def _outcome(auc: float = 0.7, decision: str = "keep", clean: int = 9, released: str = "2013-04") -> dict[str, Any]:
    month = {"partition": "2013-04", "rows": 5, "unlabelled": 1, "decision": decision}
    return {
        "rows": {"source": 10, "clean": clean, "quarantined": 10 - clean},
        "months": [{**month, "auc_live": auc, "auc_first_release": 0.7}],
        "releases": [{"released_for": released}],
    }


def test_story_and_bare_are_the_same_up_to_a_hundredth_of_auc() -> None:
    assert differences(_outcome(), _outcome(auc=0.709)) == []


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (_outcome(auc=0.72), "auc_live"),
        (_outcome(decision="retrained, refused"), "decision"),
        (_outcome(clean=8), "clean"),
        (_outcome(released="2013-05"), "releases"),
    ],
)
def test_story_and_bare_that_differ_are_told_apart_by_name(other: dict[str, Any], named: str) -> None:
    assert any(named in fault for fault in differences(_outcome(), other))
