"""The story in Airflow against the same work as bare library calls in one process."""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

from millrace.local import stack
from tests.benchmarks.own_stack import MemoryWatch, cleaned, make_layout
from tests.benchmarks.pairs import DifferentResultsError
from tests.benchmarks.process import ROOT, run_python
from tests.benchmarks.row import Row

RATIO_GOAL, TASK_GOAL_S = 2.5, 0.8
_RELEASE, _MONTHS = 3, 9
_TOLERANCE = 0.01
_OTHER = "the same work as bare library calls in one process"


def run(scale: float) -> list[Row]:
    """One pair, since it takes minutes: from the first trigger to the end of the last run, and bare after its imports.

    Args:
        scale: share of the months from April to December that are told (1: all of them).

    Raises:
        DifferentResultsError: rows, decisions, releases or live AUC are not the same.
    """
    last = f"2013-{_RELEASE + max(1, min(_MONTHS, round(_MONTHS * scale))):02d}"
    summary, peak_mb = _tell_story(last)
    bare = _run_bare(last)
    if faults := differences(summary, bare):
        raise DifferentResultsError("; ".join(faults))
    stages = summary["wall_s"]["per_stage"]
    ours = sum(stages[name] for name in ("backfill", "first_release", "months"))
    tasks = summary["airflow"]["task_instances"]
    told = f"story {ours:.1f} s ({tasks} task instances), bare {bare['wall_s']:.1f} s ({bare['cpu_s']:.1f} s CPU)"
    print(f"{told}; bare by stage: {bare['stages']}", file=sys.stderr)
    return [
        Row(
            name="story",
            scale=scale,
            ours=ours,
            other=bare["wall_s"],
            other_is=_OTHER,
            unit="s",
            goal=RATIO_GOAL,
            goal_kind="ratio",
            peak_mb=peak_mb,
        ),
        Row(
            name="story.overhead",
            scale=scale,
            ours=(ours - bare["wall_s"]) / tasks,
            other_is=f"(story - bare) / {tasks} task instances",
            unit="s/task",
            goal=TASK_GOAL_S,
            goal_kind="absolute",
            peak_mb=peak_mb,
        ),
    ]


def differences(story: dict[str, Any], bare: dict[str, Any]) -> list[str]:
    """What the two did not find alike: rows, months, decisions, months of releases, and live AUC within 0.01."""
    found = [
        f"{name}: story {story['rows'][name]}, bare {bare['rows'][name]}"
        for name in ("source", "clean", "quarantined")
        if story["rows"][name] != bare["rows"][name]
    ]
    theirs = {month["partition"]: month for month in bare["months"]}
    if [month["partition"] for month in story["months"]] != list(theirs):
        return [*found, f"months: story {[item['partition'] for item in story['months']]}, bare {list(theirs)}"]
    for month in story["months"]:
        other = theirs[month["partition"]]
        found += [
            f"{month['partition']} {name}: story {month[name]}, bare {other[name]}"
            for name in ("rows", "unlabelled", "decision")
            if month[name] != other[name]
        ]
        found += [
            f"{month['partition']} {name}: story {month[name]:.4f}, bare {other[name]:.4f}"
            for name in ("auc_live", "auc_first_release")
            if abs(month[name] - other[name]) > _TOLERANCE
        ]
    ours, others = ([item["released_for"] for item in side["releases"]] for side in (story, bare))
    return found if ours == others else [*found, f"releases for: story {ours}, bare {others}"]


def _tell_story(last: str) -> tuple[dict[str, Any], float]:
    """The summary of `millrace demo` in an installation of its own, and the peak memory above the idle services."""
    layout = make_layout("story", ROOT / "dags")
    with cleaned(layout):
        with MemoryWatch(layout) as memory:
            summary = run_python(
                "-m",
                "millrace.cli.main",
                "demo",
                "--last",
                last,
                "--json",
                env={"MILLRACE_ROOT": str(ROOT), "MILLRACE_VAR": str(layout.var), "MILLRACE_DAGS": str(layout.dags)},
            )
            time.sleep(5.0)
            idle_mb = memory.now_mb()
        stack.down(layout)
    return summary, memory.peak_mb - idle_mb


def _run_bare(last: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="millrace-bare-") as out:
        words = (str(ROOT / "dags"), out, "--release", f"2013-{_RELEASE:02d}", "--last", last)
        found: dict[str, Any] = run_python("-m", "tests.benchmarks.bare_story", *words)
    return found
