"""Studies in PostgreSQL, beside the tables of the state database."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.governance.migration import migrate
from millrace.settings import Settings
from millrace.training.tuning.optuna_plot import draw_study
from millrace.training.tuning.optuna_study import _storage, open_storage
from millrace.training.tuning.tune import Tuned, tune

pytestmark = pytest.mark.integration
SPACE = {"max_depth": {"type": "int", "low": 2, "high": 8}, "subsample": {"type": "float", "low": 0.5, "high": 1.0}}


def search(storage: str, folder: Path, **tuning: Any) -> Tuned:
    spec = {"space": SPACE, "trials": 6, "folds": 1, **tuning}
    params = {"rounds": 8, "threads": 2}
    use_case = make_use_case(mine={"trainer": "xgboost", "params": params, "tuning": spec})
    rows = training_rows(use_case, ["2020-01", "2020-02", "2020-03"], 150)
    return tune(make_job(use_case, "mine", holdout="2020-04"), rows, storage=storage, folder=folder, seed=3)


def test_a_study_lives_beside_the_state_and_is_the_same_as_in_a_file(
    postgres_schema_url: str, settings: Settings, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, state_url=postgres_schema_url)
    migrate(settings)
    kept = search(postgres_schema_url, tmp_path)
    in_file = search(f"sqlite:///{tmp_path}/state.db", tmp_path)
    assert [(item.params, item.value) for item in kept.trials] == [(item.params, item.value) for item in in_file.trials]
    engine = create_engine(postgres_schema_url)
    assert {"ledger", "studies", "trials"} <= set(inspect(engine).get_table_names())
    engine.dispose()
    migrate(settings)
    again = search(postgres_schema_url, tmp_path, trials=8, parallel=2)
    assert [item.value for item in again.trials][:6] == [item.value for item in kept.trials]
    assert len(again.trials) == 8
    assert len(draw_study(again.study, storage=postgres_schema_url, folder=tmp_path / "plots")) == 4


def test_tasks_that_begin_at_the_same_moment_make_the_tables_once(postgres_schema_url: str, tmp_path: Path) -> None:
    def begin(number: int) -> int:
        return len(open_storage(postgres_schema_url).get_all_studies())

    _storage.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(begin, range(4))) == [0, 0, 0, 0]
