"""One side of a training benchmark in a process of its own: `python -m tests.benchmarks.train_side SIDE FOLDER`.

SIDE is step (the whole step of a candidate), fit (xgboost alone, on the matrix that the step trains on), load (rows of
the lake to the matrix of trainers), read (the same columns by pyarrow), and load_xgboost and read_xgboost: the two
before, then xgboost's own matrix of what they give. The folder is what `prepare` made.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from millrace.artifact import DatasetRef
from millrace.lake import Table
from millrace.settings import Settings
from millrace.training.data.encoding import encode_rows
from millrace.training.data.lake_rows import LakeRows
from millrace.training.data.training_set import open_training_set
from millrace.training.registry import build_trainer
from tests.benchmarks.process import peak_mb
from tests.benchmarks.training_rows import (
    CATEGORIES,
    HOLDOUT,
    MONTHS,
    NUMBERS,
    XGBOOST,
    make_domain,
    make_job,
    make_use_case,
    write_training_set,
)

LARGE, SMALL = "large", "small"
_WARM_ROWS = 2_400


def prepare(folder: Path, rows: int) -> None:
    """Two installations with a training set each, the small one to warm up on, and the matrix of the large one."""
    for name, count in ((LARGE, rows), (SMALL, _WARM_ROWS)):
        settings = settings_of(folder / name)
        (settings.var / "mlflow").mkdir(parents=True)
        ref = write_training_set(settings.lake, count)
        (folder / name / "ref.json").write_bytes(orjson.dumps(ref.to_dict()))
        data = encode(folder / name)
        np.savez(folder / name / "matrix.npz", matrix=data.matrix, target=data.target)
        holdout = encode(folder / name, [HOLDOUT], like=data.encoder)
        np.savez(folder / name / "holdout.npz", matrix=holdout[0], target=holdout[1])


def settings_of(folder: Path) -> Settings:
    """An installation of its own."""
    root = Path(__file__).resolve().parents[2]
    return Settings.load(
        {
            "MILLRACE_ROOT": str(root),
            "MILLRACE_VAR": str(folder / "var"),
            "MILLRACE_PACKAGES": str(folder / "var" / "packages"),
            "MILLRACE_DAGS": str(root / "dags"),
        }
    )


def open_rows(folder: Path, partitions: list[str]) -> LakeRows:
    """Rows of the training set in a folder."""
    ref = DatasetRef.from_dict(orjson.loads((folder / "ref.json").read_bytes()))
    return open_training_set(make_use_case(), ref, lake=settings_of(folder).lake, partitions=partitions)


def encode(folder: Path, partitions: list[str] | None = None, like: Any = None) -> Any:
    """Training data of the months, or rows of other partitions encoded alike."""
    from millrace.training.data.encoding import encode_more

    job = make_job(make_use_case(), "xgboost")
    if like is not None:
        return encode_more(job, open_rows(folder, partitions or []), like)
    trainer = build_trainer("xgboost", job.values, where="benchmark")
    return encode_rows(job, open_rows(folder, MONTHS), trainer, folder=folder)


def through_step(folder: Path) -> Callable[[], float]:
    """Load, digest, encode, fit, seal, recipe, MLflow, then AUC of the holdout."""
    from sklearn.metrics import roc_auc_score

    from millrace.package import Package
    from millrace.step.candidate import train_candidate

    settings, use_case = settings_of(folder), make_use_case()
    ref = DatasetRef.from_dict(orjson.loads((folder / "ref.json").read_bytes()))

    def run() -> float:
        model = train_candidate(use_case, make_domain(), "xgboost", ref, settings=settings)
        rows = open_rows(folder, [HOLDOUT])
        table = pa.Table.from_batches(rows.batches(), rows.schema)
        columns = {name: table.column(name) for name in use_case.features.columns}
        scored = Package.open(settings.packages / model.digest, model.digest).predictor(threads=2).predict(columns)
        return float(roc_auc_score(table.column("label").to_numpy(), scored))

    return run


def through_fit(folder: Path) -> Callable[[], float]:
    """xgboost's own matrix and fit of arrays in memory; the AUC is not on the clock."""
    import xgboost

    loaded = np.load(folder / "matrix.npz")
    matrix, target = loaded["matrix"], loaded["target"]
    given = {key: value for key, value in XGBOOST.items() if key not in {"rounds", "threads"}}
    settings = {**given, "nthread": 2, "tree_method": "hist", "objective": "binary:logistic", "seed": 7}

    def run() -> float:
        booster = xgboost.train(settings, xgboost_matrix(matrix, target), XGBOOST["rounds"])
        booster.save_raw("ubj")
        run.booster = booster  # type: ignore[attr-defined]
        return 0.0

    return run


def xgboost_matrix(matrix: Any, target: Any) -> Any:
    """The matrix of histograms."""
    import xgboost

    types = [*["q"] * len(NUMBERS), *["c"] * len(CATEGORIES)]
    return xgboost.QuantileDMatrix(matrix, target, feature_types=types, enable_categorical=True, nthread=2)


def through_load(folder: Path, *, library: bool) -> Callable[[], float]:
    """Rows of the lake to the matrix of trainers."""

    def run() -> float:
        data = encode(folder)
        if library:
            xgboost_matrix(data.matrix, data.target)
        return float(len(data.matrix))

    return run


def through_read(folder: Path, *, library: bool) -> Callable[[], float]:
    """The same columns of the same files by pyarrow."""
    table = Table(settings_of(folder).lake, make_use_case().service_table("training_set"))
    files = sorted(table.files(partitions=MONTHS))
    loaded = np.load(folder / "matrix.npz") if library else {}
    matrix, target = (loaded["matrix"], loaded["target"]) if library else (None, None)

    def run() -> float:
        read = pq.read_table(files, columns=[*NUMBERS, *CATEGORIES, "label"])
        if library:
            xgboost_matrix(matrix, target)
        return float(read.num_rows)

    return run


_SIDES: dict[str, Callable[[Path], Callable[[], float]]] = {
    "step": through_step,
    "fit": through_fit,
    "load": lambda folder: through_load(folder, library=False),
    "read": lambda folder: through_read(folder, library=False),
    "load_xgboost": lambda folder: through_load(folder, library=True),
    "read_xgboost": lambda folder: through_read(folder, library=True),
}


def measure(side: str, folder: Path) -> dict[str, Any]:
    """Seconds, CPU seconds and peak memory of one run on the large installation, after one on the small."""
    make = _SIDES[side]
    make(folder / SMALL)()
    base = peak_mb()
    run = make(folder / LARGE)
    started, used = time.perf_counter(), time.process_time()
    result = run()
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - used
    peak = peak_mb() - base
    if side == "fit":
        result = _auc_of(run.booster, folder / LARGE)  # type: ignore[attr-defined]
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak, "result": result}


def _auc_of(booster: Any, folder: Path) -> float:
    from sklearn.metrics import roc_auc_score

    loaded = np.load(folder / "holdout.npz")
    return float(roc_auc_score(loaded["target"], booster.inplace_predict(loaded["matrix"])))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), int(sys.argv[3]))
        print("{}", flush=True)
    else:
        print(orjson.dumps(measure(sys.argv[1], Path(sys.argv[2]))).decode(), flush=True)
