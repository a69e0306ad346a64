"""The story as bare library calls in one process: `python -m tests.benchmarks.bare_story DAGS OUT [--last 2013-12]`.

Prints one JSON document: rows, live AUC by month, releases, decisions, seconds by stage. The clock starts after the
imports and after MLflow has made its tables, as the story's does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait cost more than they save

import numpy as np
import pyarrow as pa

from tests.benchmarks.bare.data import Sources, Validator, derive, write_delta
from tests.benchmarks.bare.evaluation import evaluate
from tests.benchmarks.bare.features import Features, connect
from tests.benchmarks.bare.models import Encoder, Model, train
from tests.benchmarks.bare.monitoring import Reference, measure_live
from tests.benchmarks.bare.spec import Json, Plan, load_plan
from tests.benchmarks.bare.tracking import Tracking
from tests.benchmarks.process import peak_mb


class Release:
    """A model that is in use, with what it is compared with."""

    def __init__(self, version: int, model: Model, holdout: str, auc: float, reference: Reference) -> None:
        self.version, self.model, self.holdout, self.auc, self.reference = version, model, holdout, auc, reference


class BareStory:
    """All stages over one plan."""

    def __init__(self, plan: Plan, tracking: Tracking) -> None:
        self.plan, self.tracking, self.clock = plan, tracking, plan.clock
        self.connection = connect()
        self.features = Features(plan, self.connection)
        with self.clock.stage("ingest"):
            self.sources = Sources(plan)
        with self.clock.stage("validate"):
            self.validator = Validator(plan)
        self.clean: dict[str, dict[str, pa.Table]] = {name: {} for name in plan.domain["sources"]}
        self.quarantined = 0
        self.written: set[str] = set()
        self.releases: list[Release] = []
        self.summary: Json = {"months": [], "releases": [], "trainings": []}

    def run(self, release: str) -> Json:
        """Backfill through the first holdout, release, then month by month."""
        for month in self.plan.months:
            self._data(month)
            if month < release:
                continue
            if month == release:
                self._train(month)
                continue
            self._month(month)
        rows = sum(table.num_rows for table in self.clean["flights"].values())
        source = sum(table.num_rows for table in self.sources.raw["flights"].values())
        self.summary["rows"] = {"source": source, "clean": rows, "quarantined": self.quarantined}
        return self.summary

    def _data(self, month: str) -> None:
        for name, raw in self.sources.raw.items():
            key = "" if "" in raw else month
            if key in self.clean[name]:
                continue
            with self.clock.stage("ingest"):
                self.sources.ingest(name, key)
            with self.clock.stage("validate"):
                rows = derive(self.connection, raw[key], self.plan.domain["sources"][name])
                self.clean[name][key], aside = self.validator.validate(name, key, rows)
                self.quarantined += aside if name == "flights" else 0
        with self.clock.stage("features"):
            self.features.build(month, self.clean)
        with self.clock.stage("materialize"):
            self.features.materialize(month)
        with self.clock.stage("join"):
            self.features.join(month, self.clean[self.plan.use_case["entity"]["source"]][month])

    def _month(self, month: str) -> None:
        current, first = self.releases[-1], self.releases[0]
        rows, end = self.features.joined[month], self.plan.months[month].end
        scored = {"live": current} if first is current else {"live": current, "shadow": first}
        with self.clock.stage("score"):
            write_delta(self.plan, "scored_features", rows.drop_columns(["label", "label_known_at"]), month)
            scores = {
                role: release.model.predict(release.model.encoder.encode(rows)) for role, release in scored.items()
            }
            for role, release in scored.items():
                self._log_predictions(month, rows, role, release, scores[role])
        with self.clock.stage("performance"):
            live = {role: measure_live(self.plan, rows, score, end) for role, score in scores.items()}
            self._write_labelled(month, rows.filter(live["live"]["known"]), scores, live["live"]["known"])
        with self.clock.stage("drift"):
            psi = current.reference.psi(rows, scores["live"])
        with self.clock.stage("drift_report"):
            current.reference.report(rows, scores["live"], month)
        limit = self.plan.use_case["monitoring"]["drift_psi"]
        reasons = self._reasons(month, live["live"]["auc"])
        self._note("retrain_decided", month, {"retrain": bool(reasons), "reasons": reasons, "psi": psi})
        self.summary["months"].append(
            {
                "partition": month,
                "rows": rows.num_rows,
                "unlabelled": rows.num_rows - live["live"]["labelled"],
                "auc_live": live["live"]["auc"],
                "auc_first_release": live.get("shadow", live["live"])["auc"],
                "drifted_features": sum(psi[name] > limit for name in self.plan.features),
                "decision": "keep",
                "reasons": reasons,
            }
        )
        if reasons:
            passed = self._train(month)
            self.summary["months"][-1]["decision"] = "retrained, released" if passed else "retrained, refused"

    def _reasons(self, month: str, auc: float) -> list[str]:
        rules, current = self.plan.use_case["monitoring"], self.releases[-1]
        keys = list(self.plan.months)
        age = keys.index(month) - keys.index(current.holdout)
        reasons = []
        if current.auc - auc > rules["performance_drop"]:
            reasons.append("performance")
        if rules["max_age_partitions"] and age >= rules["max_age_partitions"]:
            reasons.append("age")
        return reasons

    def _train(self, holdout: str) -> bool:
        plan, clock = self.plan, self.clock
        months = [key for key in plan.months if key < holdout]
        with clock.stage("training_set"):
            for key in [*months, holdout]:
                if key not in self.written:
                    rows = self.features.joined[key]
                    write_delta(plan, "training_set", rows.filter(rows["label"].is_valid()), key)
                    self.written.add(key)
            training = self.features.labelled(months, plan.months[holdout].start)
            test = self.features.labelled([holdout], plan.months[holdout].end)
            encoder = Encoder.learn(training, plan.features, plan.categories)
            matrix = encoder.encode(training)
            target = training["label"].to_numpy().astype(np.float32)
        models = []
        for name, spec in plan.use_case["candidates"].items():
            with clock.stage(f"train_{name}"):
                models.append(train(name, spec, encoder, matrix, target, plan.use_case["seed"]))
        with clock.stage("evaluate"):
            champion = self.releases[-1].model if self.releases else None
            outcome = evaluate(plan, models, champion, training, test)
        with clock.stage("mlflow"):
            for score in outcome.scores:
                params = plan.use_case["candidates"][score.model.candidate].get("params", {})
                self.tracking.log(score.model, params, score.metrics, holdout)
        passed = not outcome.faults
        self._note("gates_evaluated", holdout, {"passed": passed, "faults": outcome.faults})
        best = outcome.challenger
        self.summary["trainings"].append(
            {
                "holdout": holdout,
                "challenger": best.model.candidate,
                "auc": best.auc,
                "champion_auc": outcome.champion.auc if outcome.champion else None,
                "passed": passed,
                "faults": outcome.faults,
                "scores": {score.model.candidate: score.auc for score in outcome.scores},
            }
        )
        if passed:
            with clock.stage("mlflow"):
                version = self.tracking.register(outcome)
            with clock.stage("drift"):
                reference = Reference(plan, training, best.prediction)
            self._release(Release(int(version), best.model, holdout, best.auc, reference))
        return passed

    def _release(self, release: Release) -> None:
        self.releases.append(release)
        self._note("released", release.holdout, {"version": release.version, "candidate": release.model.candidate})
        self.summary["releases"].append(
            {
                "version": release.version,
                "algorithm": release.model.candidate,
                "trained_for": release.holdout,
                "released_for": self.plan.months[release.holdout].next_key,
                "auc": release.auc,
            }
        )

    def _log_predictions(self, month: str, rows: pa.Table, role: str, release: Release, scores: Any) -> None:
        table = rows.select(["key", "event_timestamp"])
        for name, value in (("release", release.version), ("role", role), ("recorded_at", time.time())):
            table = table.append_column(name, pa.repeat(pa.scalar(value), rows.num_rows))
        write_delta(self.plan, "predictions", table.append_column("prediction", pa.array(scores)), month, mode="append")

    def _write_labelled(self, month: str, rows: pa.Table, scores: dict[str, Any], known: Any) -> None:
        base = rows.select(["key", "event_timestamp", "label", "label_known_at"])
        tables = [
            base.append_column("role", pa.repeat(pa.scalar(role), rows.num_rows)).append_column(
                "prediction", pa.array(score[known])
            )
            for role, score in scores.items()
        ]
        write_delta(self.plan, "labelled", pa.concat_tables(tables), month)

    def _note(self, kind: str, month: str, payload: Json) -> None:
        line = json.dumps({"kind": kind, "partition": month, "recorded_at": time.time(), **payload})
        with (self.plan.out / "ledger.jsonl").open("a") as file:
            file.write(line + "\n")


def main() -> None:
    """Run it and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dags", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--use-case", default="flight_delay")
    parser.add_argument("--release", default="2013-03")
    parser.add_argument("--last", default="2013-12")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plan = load_plan(options.dags, options.out.resolve(), options.use_case, options.last)
    tracking = Tracking(plan)
    imports_mb, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
    summary = BareStory(plan, tracking).run(options.release)
    summary["wall_s"] = time.perf_counter() - wall
    summary["cpu_s"] = time.process_time() - cpu
    summary["stages"] = {
        name: {"wall": round(seconds, 2), "cpu": round(plan.clock.cpu[name], 2)}
        for name, seconds in sorted(plan.clock.wall.items(), key=lambda pair: -pair[1])
    }
    summary["peak_mb"] = round(peak_mb() - imports_mb, 1)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
