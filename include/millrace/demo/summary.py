"""What the story came to: `var/demo/summary.json`, and the table people see. Every figure is measured in that run."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from millrace.demo.story import Story
from millrace.demo.watch import Json
from millrace.document import load_document
from millrace.governance.ledger import Ledger
from millrace.governance.monitor_result import MonitorResults
from millrace.governance.release import Releases
from millrace.settings import Settings

UNFINISHED = "unfinished.json"


def summarize(
    story: Story, serving: Json, wall_s: dict[str, float], *, total_s: float, settings: Settings
) -> dict[str, Any]:
    """Gather the figures of a finished story from the tables, the ledger and Airflow."""
    from millrace.step.validation import count_rows

    plan = story.plan
    report = Ledger(settings).verify()
    return {
        "use_case": plan.use_case.name,
        "rows": count_rows(plan.domain, plan.use_case.entity.source, settings=settings),
        "releases": _releases(story, settings),
        **_months(story, settings),
        "serving": serving,
        "ledger": {"entries": report.entries, "verified": report.verified, "head": Ledger(settings).head()},
        "wall_s": {
            "total": round(total_s, 1),
            "install": _install_s(settings),
            "per_stage": {name: round(seconds, 1) for name, seconds in wall_s.items()},
        },
        "airflow": _airflow(story),
    }


def write(summary: dict[str, Any], settings: Settings) -> Path:
    """Write `var/demo/summary.json`, whole or not at all; what an interrupted story had kept goes."""
    (settings.var / "demo" / UNFINISHED).unlink(missing_ok=True)
    return _write(summary, settings.var / "demo" / "summary.json")


def write_unfinished(story: Story, settings: Settings) -> Path:
    """Keep what an interrupted story has told so far: decisions, verdicts and releases by month, and seconds."""
    told = {"use_case": story.plan.use_case.name, "unfinished": True, "months": story.months, "wall_s": story.wall_s}
    return _write(told, settings.var / "demo" / UNFINISHED)


def _write(summary: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    draft.replace(path)
    return path


def show(summary: dict[str, Any], console: Console) -> None:
    """The tables of the end."""
    console.print(_month_table(summary["months"], summary["use_case"]))
    console.print(_release_table(summary["releases"]))
    console.print(_closing(summary), highlight=False, markup=False)


def _month_table(found: list[dict[str, Any]], use_case: str) -> Table:
    months = Table(title=f"{use_case}: month by month")
    for column in ("month", "rows", "unlabelled", "live", "first", "drifted"):
        months.add_column(column, justify="left" if column == "month" else "right", no_wrap=True)
    months.add_column("decision", no_wrap=True)
    months.add_column("why", overflow="fold")
    for month in found:
        months.add_row(
            month["partition"],
            f"{month['rows']:,}",
            f"{month['unlabelled']:,}",
            _figure(month["auc_live"]),
            _figure(month["auc_first_release"]),
            str(month["drifted_features"]),
            month["decision"],
            month["reasons"][0] if month["reasons"] else "",
        )
    return months


def _release_table(found: list[dict[str, Any]]) -> Table:
    releases = Table(title="releases")
    for column in ("release", "algorithm", "trained through", "released for", "holdout"):
        releases.add_column(column, no_wrap=True)
    releases.add_column("why", overflow="fold")
    for release in found:
        releases.add_row(
            f"v{release['version']}",
            release["algorithm"],
            release["trained_through"],
            release["released_for"],
            _figure(release["auc"]),
            release["reason"],
        )
    return releases


def _closing(summary: dict[str, Any]) -> str:
    rows, gain, serving = summary["rows"], summary["live_gain"], summary["serving"]
    low, high = _figure(gain["low"]), _figure(gain["high"])
    return (
        f"rows: {rows['source']:,} = {rows['clean']:,} clean + {rows['quarantined']:,} quarantined\n"
        f"live against the first release kept: {_figure(gain['auc'])} [{low}, {high}] in mean over the months\n"
        f"online: {serving['requests']} requests, p50 {serving['p50_ms']:.2f} ms, p99 {serving['p99_ms']:.2f} ms, "
        f"largest difference {serving['max_abs_diff_vs_batch']:.1e} to the batch, "
        f"{serving['max_abs_diff_by_key']:.1e} by key\n"
        f"ledger: {summary['ledger']['entries']} entries, "
        f"{'chain verified' if summary['ledger']['verified'] else 'CHAIN BROKEN'}\n"
        f"Airflow: {summary['airflow']['dag_runs']} runs, {summary['airflow']['task_instances']} task instances, "
        f"{summary['airflow']['failed']} failed; {summary['wall_s']['total']:.0f} s in all"
    )


def _releases(story: Story, settings: Settings) -> list[dict[str, Any]]:
    plan = story.plan
    found = []
    for release in Releases(settings).list(plan.use_case.name):
        evidence = load_document(settings.var / "evidence", release.evidence)
        holdout = plan.domain.partition(release.holdout)
        verdict = (story.months.get(release.holdout) or {}).get("verdict") or {}
        found.append(
            {
                "version": release.version,
                "algorithm": release.candidate,
                "trained_through": release.trained_through,
                "released_for": holdout.shift(1).key,
                "auc": _metric(evidence, release.candidate, plan.use_case.evaluation.metric),
                "reason": _release_reason(verdict.get("reasons") or []),
            }
        )
    return found


def _metric(evidence: dict[str, Any], candidate: str, metric: str) -> float | None:
    found = next((item for item in evidence["candidates"] if item["name"] == candidate), None)
    return None if found is None else found["metrics"][metric]["value"]


def _release_reason(reasons: list[str]) -> str:
    """The gate that speaks of the champion: that is what a release rests on."""
    about = next((item for item in reasons if item.startswith("better_than_champion: ")), "")
    return about.removeprefix("better_than_champion: ") or (reasons[0] if reasons else "")


def _months(story: Story, settings: Settings) -> dict[str, Any]:
    from millrace.step.monitoring import measure_live_gain

    plan, results = story.plan, MonitorResults(settings)
    name, metric = plan.use_case.name, plan.use_case.evaluation.metric
    months = []
    for partition in plan.months:
        labels = results.get(name, partition, "labels") or {}
        drift = results.get(name, partition, "drift") or {}
        performance = results.get(name, partition, "performance") or {}
        decision = (story.months.get(partition) or {}).get("decision") or {}
        verdict = (story.months.get(partition) or {}).get("verdict")
        months.append(
            {
                "partition": partition,
                "rows": labels.get("rows", 0),
                "unlabelled": labels.get("unlabelled", 0),
                f"{metric}_live": (performance.get("live") or {}).get("value"),
                f"{metric}_first_release": (performance.get("shadow") or {}).get("value"),
                "drifted_features": drift.get("drifted_features", 0),
                "decision": "keep" if not decision.get("retrain") else _outcome(verdict),
                "reasons": [*decision.get("reasons", []), *(verdict or {}).get("reasons", [])],
            }
        )
    gain = measure_live_gain(plan.use_case, plan.domain, plan.months, settings=settings)
    return {"months": months, "live_gain": {metric: gain.gain, "low": gain.low, "high": gain.high}}


def _outcome(verdict: Json | None) -> str:
    return "retrained, released" if verdict and verdict["outcome"] == "pass" else "retrained, refused"


def _airflow(story: Story) -> dict[str, int]:
    """Everything Airflow ran since the story began, also for use cases that the story is not about."""
    client = story.watcher.client
    runs = client.runs(after=story.began)
    states: dict[str, int] = defaultdict(int)
    for run in runs:
        for task in client.tasks(run["dag_id"], run["dag_run_id"]):
            states[str(task["state"])] += 1
    return {"dag_runs": len(runs), "task_instances": sum(states.values()), "failed": states["failed"]}


def _install_s(settings: Settings) -> float | None:
    path = Path(os.environ.get("VIRTUAL_ENV") or settings.root / ".venv") / ".install_seconds"
    try:
        return float(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
