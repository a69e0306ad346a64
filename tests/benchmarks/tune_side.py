"""One side of a search in a process of its own: `python -m tests.benchmarks.tune_side SIDE ROWS TRIALS ROUNDS THREADS`.

SIDE is ours (rows of Arrow in memory, a study in a file of SQLite) or bare (Optuna and xgboost on arrays that were
encoded before the clock started, a study in memory, one quantised matrix for all trials). Both propose the same.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import orjson
import pyarrow as pa
import xgboost
from sklearn.metrics import roc_auc_score

from millrace.spec import DomainSpec, UseCaseSpec
from millrace.training import TrainingJob
from millrace.training.data.rows import TableRows
from millrace.training.tuning.optuna_study import make_sampler
from millrace.training.tuning.tune import plan_search, tune
from tests.benchmarks.process import peak_mb

NUMBERS, CATEGORIES, SEED = 16, 4, 7
MONTHS = ["2020-01", "2020-02", "2020-03", "2020-04", "2020-05"]
SPACE = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.4, "log": True},
    "max_depth": {"type": "int", "low": 3, "high": 9},
    "min_child_weight": {"type": "float", "low": 0.5, "high": 20.0, "log": True},
    "reg_lambda": {"type": "float", "low": 0.1, "high": 10.0, "log": True},
}


def make_rows(count: int) -> pa.Table:
    """Rows of five months, as a training set gives them."""
    rng = np.random.default_rng(1)
    numbers = {f"n{i}": rng.normal(size=count) for i in range(NUMBERS)}
    codes = {f"c{i}": rng.integers(0, 12, count) for i in range(CATEGORIES)}
    score = sum(numbers[f"n{i}"] * (0.8**i) for i in range(NUMBERS)) + (codes["c0"] % 3) + numbers["n0"] * codes["c1"]
    label = (score + rng.normal(size=count) > np.median(score)).astype(float)
    month = np.arange(count) * len(MONTHS) // count
    start = [datetime(2020, number + 1, 1, tzinfo=UTC) for number in range(len(MONTHS))]
    instant = pa.array([start[number] + timedelta(hours=1) for number in month], pa.timestamp("us", tz="UTC"))
    texts = {name: pa.array([f"v{code:02d}" for code in values]) for name, values in codes.items()}
    return pa.table(
        {"key": [f"{i:08d}" for i in range(count)], "event_timestamp": instant, "label": label}
        | {"label_known_at": instant, **numbers, **texts, "partition": [MONTHS[number] for number in month]}
    )


def make_job(trials: int, rounds: int, threads: int) -> TrainingJob:
    """The candidate."""
    domain = {
        "name": "made", "description": "Made up.", "owners": ["admin"], "first": MONTHS[0],
        "sources": {"events": {
            "uri": "events.csv", "columns": {"event_id": "string", "at": "timestamp", "year": "int32"},
            "partition_columns": {"year": "%Y"}, "key": ["event_id"],
        }},
        "feature_tables": {},
    }  # fmt: skip
    kinds = {f"n{i}": "number" for i in range(NUMBERS)} | {f"c{i}": "category" for i in range(CATEGORIES)}
    tuning = {"space": SPACE, "trials": trials, "minutes": 600, "folds": 1, "pruner": "none"}
    use_case = {
        "name": "made_up", "domain": "made", "description": "?", "owners": ["admin"], "tier": "low",
        "problem": "binary", "entity": {"source": "events", "key": "event_id", "timestamp": "at"},
        "label": {"expression": "y", "known_at": "at"}, "features": {"name": "made_v1", "row": kinds, "views": {}},
        "candidates": {"mine": {
            "trainer": "xgboost", "params": {"rounds": rounds, "threads": threads}, "tuning": tuning,
        }},
    }  # fmt: skip
    return TrainingJob(
        use_case=UseCaseSpec.model_validate(use_case),
        domain=DomainSpec.model_validate(domain),
        candidate="mine",
        table="t",
        holdout="2020-06",
        known_until="2020-06-01T00:00:00Z",
    )


def search_ours(job: TrainingJob, rows: pa.Table, folder: Path) -> list[float]:
    """The value of each trial."""
    found = tune(job, rows, storage=f"sqlite:///{folder}/state.db", folder=folder, seed=SEED)
    return [float(trial.value or 0.0) for trial in found.trials]


def encode(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and labels, by hand."""
    columns = [rows.column(f"n{i}").to_numpy() for i in range(NUMBERS)]
    columns += [np.unique(rows.column(f"c{i}").to_numpy(), return_inverse=True)[1] for i in range(CATEGORIES)]
    return np.column_stack(columns).astype(np.float32), rows.column("label").to_numpy().astype(np.float32)


def search_bare(matrix: np.ndarray, target: np.ndarray, cut: int, job: TrainingJob, rows: pa.Table) -> list[float]:
    """The same by hand."""
    plan, _ = plan_search(job, TableRows(table=rows), storage="", seed=SEED)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values, depth = job.values, SPACE["max_depth"]
    types = ["q"] * NUMBERS + ["c"] * CATEGORIES
    kept = xgboost.QuantileDMatrix(
        matrix[:cut], target[:cut], feature_types=types, enable_categorical=True, nthread=values["threads"]
    )
    fixed = {
        "tree_method": "hist", "objective": "binary:logistic", "nthread": values["threads"], "verbosity": 0,
        "max_cat_to_onehot": 4,
    }  # fmt: skip
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(dict(plan.start))

    def objective(trial: optuna.Trial) -> float:
        own: dict[str, Any] = {
            name: trial.suggest_int(name, depth["low"], depth["high"])
            if name == "max_depth"
            else trial.suggest_float(name, item["low"], item["high"], log=True)
            for name, item in SPACE.items()
        }
        booster = xgboost.train({**fixed, **own}, kept, values["rounds"], verbose_eval=False)
        return float(roc_auc_score(target[cut:], booster.inplace_predict(matrix[cut:])))

    for number in range(plan.trials):
        study.sampler = make_sampler(plan, number)
        study.optimize(objective, n_trials=1)
    return [float(trial.value or 0.0) for trial in study.trials]


def main(side: str, count: int, trials: int, rounds: int, threads: int) -> dict[str, Any]:
    """Seconds, peak memory and values of one side."""
    rows, job = make_rows(count), make_job(trials, rounds, threads)
    small, short = make_rows(500), make_job(1, 2, threads)
    cut = rows.column("partition").to_pylist().index(MONTHS[-1])
    with TemporaryDirectory(prefix="millrace-tune-") as made:
        folder = Path(made)
        (folder / "first").mkdir()
        if side == "ours":
            search_ours(short, small, folder / "first")
            base, used, started = peak_mb(), time.process_time(), time.perf_counter()
            values = search_ours(job, rows, folder)
            seconds = time.perf_counter() - started
        else:
            search_bare(*encode(small), 400, short, small)
            matrix, target = encode(rows)
            base, used, started = peak_mb(), time.process_time(), time.perf_counter()
            values = search_bare(matrix, target, cut, job, rows)
            seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu_s": time.process_time() - used, "peak_mb": peak_mb() - base, "values": values}


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    print(orjson.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))).decode(), flush=True)
