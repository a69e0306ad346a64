from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pytest
from optuna.trial import TrialState
from sqlalchemy import text
from tests.unit.training.synthetic import make_job, make_use_case, training_rows

from millrace.errors import SpecError, StateUnavailableError, TrainingError
from millrace.training import StopFitError, TrainingJob, train_package
from millrace.training.tuning.judge import Judge, TrialRun
from millrace.training.tuning.optuna_plot import draw_study
from millrace.training.tuning.optuna_study import is_orphan, open_storage, owner
from millrace.training.tuning.tune import LATE, Search, Tuned, tune

MONTHS = ["2020-01", "2020-02", "2020-03"]
SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
    "max_depth": {"type": "int", "low": 2, "high": 8},
}


def make(trainer: str = "xgboost", problem: str = "binary", params: Any = None, **tuning: Any) -> TrainingJob:
    given = {"rounds": 6, "threads": 1} if params is None else params
    spec = {"space": SPACE, "trials": 5, "folds": 1, "pruner": "none", **tuning}
    use_case = make_use_case(problem, mine={"trainer": trainer, "params": given, "tuning": spec})
    return make_job(use_case, "mine", holdout="2020-04")


def rows_of(job: TrainingJob, count: int = 150) -> pa.Table:
    return training_rows(job.use_case, MONTHS, count)


def search(job: TrainingJob, folder: Path, *, rows: pa.Table | None = None, **options: Any) -> Tuned:
    return tune(
        job,
        rows_of(job) if rows is None else rows,
        storage=f"sqlite:///{folder}/state.db",
        folder=folder,
        seed=job.use_case.seed,
        **options,
    )


def outline(tuned: Tuned) -> list[Any]:
    return [(item.params, item.value, item.state) for item in tuned.trials]


def test_the_best_trial_is_found_and_the_first_is_the_untuned_one(tmp_path: Path) -> None:
    job = make(trials=8)
    found = search(job, tmp_path)
    assert [item.number for item in found.trials] == list(range(8))
    assert found.trials[0].untuned
    assert found.trials[0].params == {"learning_rate": 0.1, "max_depth": 6}
    assert found.untuned == found.trials[0].value
    assert found.value == max(item.value or 0.0 for item in found.trials)
    assert set(found.params) <= {"learning_rate", "max_depth"}
    assert found.folds[0].validated == "2020-03"
    assert sum(found.importance.values()) == pytest.approx(1.0)


def test_equal_inputs_give_equal_trials_wherever_they_are_kept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    job = make()
    first, second = search(job, tmp_path / "a"), search(job, tmp_path / "b")
    assert outline(first) == outline(second)
    assert first.study == second.study
    assert len({str(item.params) for item in first.trials}) == 5


def test_a_larger_budget_goes_on_where_the_study_was_left_and_a_spent_one_does_nothing(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = search(make(trials=6), whole)
    short = search(make(trials=3), tmp_path)
    again = search(make(trials=3), tmp_path)
    assert outline(again) == outline(short) == outline(expected)[:3]
    longer = search(make(trials=6), tmp_path)
    assert longer.study == short.study
    assert outline(longer) == outline(expected)


def test_other_rows_parameters_or_ranges_begin_a_study_of_their_own(tmp_path: Path) -> None:
    job = make(trials=1)
    ranges = {**SPACE, "max_depth": {"type": "int", "low": 2, "high": 7}}
    found = [
        search(job, tmp_path),
        search(job, tmp_path, rows=rows_of(job, 151)),
        search(make(trials=1, params={"rounds": 7, "threads": 1}), tmp_path),
        search(make(trials=1, space=ranges), tmp_path),
    ]
    assert len({item.study for item in found}) == 4


def test_a_search_that_was_asked_to_end_tries_the_broken_trial_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    job = make(trials=5)
    expected = search(job, whole)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 12

    with pytest.raises(StopFitError):
        search(job, tmp_path, stop=stop)
    found = search(job, tmp_path)
    assert outline(found) == outline(expected)


def test_a_trial_whose_process_is_gone_is_tried_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = search(make(trials=4), whole)
    short = search(make(trials=2), tmp_path)
    study = optuna.load_study(study_name=short.study, storage=open_storage(f"sqlite:///{tmp_path}/state.db"))
    lost = study.ask()
    host, pid, born = owner().split("/")
    lost.set_user_attr("owner", f"{host}/{pid}/{int(born) - 1}")
    found = search(make(trials=4), tmp_path)
    assert [item[:2] for item in outline(found)] == [item[:2] for item in outline(expected)]
    assert study.get_trials()[lost.number].state == TrialState.FAIL


def test_a_trial_of_another_machine_is_tried_again_once_its_heart_stood_still(tmp_path: Path) -> None:
    short = search(make(trials=2), tmp_path)
    storage = open_storage(f"sqlite:///{tmp_path}/state.db")
    study = optuna.load_study(study_name=short.study, storage=storage)
    alive, lost = study.ask(), study.ask()
    for trial in (alive, lost):
        trial.set_user_attr("owner", "elsewhere/1/2")
        storage.record_heartbeat(trial._trial_id)
    with storage.engine.begin() as connection:
        old = "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = :trial"
        connection.execute(text(old), {"trial": lost._trial_id})
    found = search(make(trials=4), tmp_path)
    states = {trial.number: trial.state for trial in study.get_trials()}
    assert states[alive.number] == TrialState.RUNNING
    assert states[lost.number] == TrialState.FAIL
    assert len(found.trials) == 4


def test_only_processes_of_this_machine_are_known_to_be_gone() -> None:
    assert not is_orphan(owner())
    assert not is_orphan("")
    assert not is_orphan("elsewhere/1/2")
    assert is_orphan(owner() + "0")


def test_minutes_end_a_search_but_not_before_one_trial_came_to_an_end(tmp_path: Path) -> None:
    found = search(make(trials=500, minutes=1e-6), tmp_path)
    assert [item.state for item in found.trials] == ["complete"]
    assert found.params == {}
    assert found.value == found.untuned


def test_trials_at_once_share_the_budget_and_the_cores(tmp_path: Path) -> None:
    job = make(trials=7, parallel=3, params={"rounds": 6, "threads": 3})
    seen = []

    class Watching:
        def __call__(self, search: Search, judge: Judge, *, stop: Callable[[], bool]) -> None:
            from millrace.training.tuning.optuna_search import search_here

            inner = judge.trainer

            def trainer(params: Any, *, threads: int | None = None) -> Any:
                seen.append(threads)
                return inner(params, threads=threads)

            judge.trainer = trainer  # type: ignore[method-assign]
            search_here(search, judge, stop=stop)

    found = search(job, tmp_path, spread=Watching())
    assert len(found.trials) == 7
    assert seen == [1] * 7
    assert len({str(item.params) for item in found.trials}) == 7


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_trials_that_fall_behind_are_given_up_and_say_how_far_they_came(tmp_path: Path, pruner: str) -> None:
    rates = {"learning_rate": {"type": "categorical", "choices": [0.3, 0.25, 0.35, 0.28, 0.001, 0.002, 0.003]}}
    job = make(pruner=pruner, trials=25, space=rates, params={"rounds": 20, "threads": 1}, sampler="random")
    found = search(job, tmp_path)
    states = [item.state for item in found.trials]
    assert states.count("pruned") >= 3
    assert all(item.value is None for item in found.trials if item.state == "pruned")
    assert found.params["learning_rate"] >= 0.25
    complete = next(item for item in found.trials if item.state == "complete")
    assert "2020-03/watch_loss" in complete.curves


def test_what_is_watched_changes_no_model(tmp_path: Path) -> None:
    pruned, plain = tmp_path / "a", tmp_path / "b"
    for folder in (pruned, plain):
        folder.mkdir()
    first = search(make(pruner="median", trials=3), pruned)
    second = search(make(pruner="none", trials=3), plain)
    assert [item.value for item in first.trials] == [item.value for item in second.trials]


@pytest.mark.parametrize(
    ("trainer", "problem", "params", "space"),
    [
        ("lightgbm", "multiclass", {"rounds": 4, "threads": 1}, {"num_leaves": {"type": "int", "low": 3, "high": 9}}),
        ("xgboost", "regression", {"rounds": 4, "threads": 1}, {"max_depth": SPACE["max_depth"]}),
        ("torch", "binary", {"epochs": 1}, {"hidden": {"type": "categorical", "choices": [[8], [16, 8]]}}),
        (
            "sklearn",
            "binary",
            {"estimator": "linear_model.LogisticRegression"},
            {"settings.C": {"type": "float", "low": 0.01, "high": 10, "log": True}},
        ),
    ],
)
def test_every_kind_of_trainer_and_problem_is_tuned(
    tmp_path: Path, trainer: str, problem: str, params: dict[str, Any], space: dict[str, Any]
) -> None:
    job = make(trainer, problem, params, space=space, trials=3, pruner="median")
    found = search(job, tmp_path)
    values = [item.value for item in found.trials if item.value is not None]
    assert found.value == (max(values) if found.metric == "auc" else min(values))
    trained = train_package(dataclasses.replace(job, params=found.params), rows_of(job), store=tmp_path / "packages")
    for name, value in found.params.items():
        assert trained.package.manifest.params[name] == value


def test_a_space_beside_the_trainers_own_values_still_begins_with_these(tmp_path: Path) -> None:
    space = {"learning_rate": {"type": "float", "low": 1e-6, "high": 1e-5}}
    found = search(make(space=space, trials=3), tmp_path)
    assert found.trials[0].untuned
    assert found.trials[0].params == {}
    assert found.params == {}
    assert found.value == found.untuned


def test_a_fault_in_every_trial_is_raised_as_it_is(tmp_path: Path) -> None:
    def broken(search: Search, judge: Judge, *, stop: Callable[[], bool]) -> None:
        from millrace.training.tuning.optuna_search import search_here

        class Broken(Judge):
            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                raise TrainingError("no")

        search_here(search, Broken(judge.job, judge.data, folder=judge.folder, seed=1, prunes=False), stop=stop)

    with pytest.raises(TrainingError, match="no"):
        search(make(trials=9), tmp_path, spread=broken)
    assert all(trial.state == "complete" for trial in search(make(trials=3), tmp_path).trials)


def test_a_judge_travels_without_what_libraries_made(tmp_path: Path) -> None:
    values = []

    def both(search: Search, judge: Judge, *, stop: Callable[[], bool]) -> None:
        from millrace.training.tuning.optuna_search import search_here

        search_here(search, judge, stop=stop)
        travelled = pickle.loads(pickle.dumps(judge))
        for one in (judge, travelled):
            values.append(one({"max_depth": 3}, report=lambda step, loss: None).value)

    search(make(trials=1), tmp_path, spread=both)
    assert values[0] == values[1]


def test_what_cannot_be_searched_is_refused_before_any_work(tmp_path: Path) -> None:
    use_case = make_use_case()
    job = make_job(use_case, "xgboost", holdout="2020-04")
    with pytest.raises(SpecError, match="no `tuning`"):
        search(job, tmp_path)
    with pytest.raises(SpecError, match="unknown key 'depth'"):
        search(make(space={"depth": SPACE["max_depth"]}), tmp_path)
    job = make(gap=2)
    with pytest.raises(TrainingError, match="give no fold"):
        search(job, tmp_path)


def test_a_storage_that_does_not_answer_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailableError, match="studies cannot be kept"):
        search(make(), tmp_path / "missing" / "folder", rows=rows_of(make()))


def test_a_study_is_drawn(tmp_path: Path) -> None:
    found = search(make(trials=4, pruner="median"), tmp_path)
    files = draw_study(found.study, storage=f"sqlite:///{tmp_path}/state.db", folder=tmp_path / "plots")
    assert [path.name for path in files] == ["history.png", "importance.png", "slice.png", "pruning.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


def test_the_pruner_hears_of_a_fit_ten_times_at_most(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []
    run = TrialRun(folder=tmp_path, stop=lambda: False, rounds=35, tell=lambda rung, loss: told.append((rung, loss)))
    for step in range(35):
        run.report(step, {"train_loss": 9.0, "watch_loss": 1.0 - step / 100})
    assert [rung for rung, _ in told] == list(range(10))
    assert told[-1][1] == 1.0 - 34 / 100
    assert len(run.curves["watch_loss"]) == 35


@pytest.mark.parametrize("trials", [1, 3, 8])
def test_a_search_whose_trials_all_failed_begins_anew(
    trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(trials=trials)

    def full(*_: Any) -> float:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises((OSError, TrainingError), match="No space"):
        patch.setattr(Judge, "_value", full)
        search(job, tmp_path)
    found = search(job, tmp_path)
    assert found.trials[0].untuned
    assert [item.state for item in found.trials] == ["complete"] * trials
    assert found.untuned is not None


def test_a_metric_that_is_no_number_fails_the_trial_instead_of_trying_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "_value", lambda *_: float("nan"))
    with pytest.raises(TrainingError, match="no number"):
        search(make(trials=4), tmp_path)


def test_a_fold_without_a_label_known_in_time_is_refused(tmp_path: Path) -> None:
    job = make(trials=2)
    rows = rows_of(job)
    place = rows.column_names.index("label_known_at")
    late = pa.array([datetime(2020, 4, 1, tzinfo=UTC)] * rows.num_rows, rows.schema.field(place).type)
    with pytest.raises(TrainingError, match="label was known in time"):
        search(job, tmp_path, rows=rows.set_column(place, "label_known_at", late))


@pytest.mark.parametrize(("trials", "error"), [(3, False), (4, True)])
def test_a_search_whose_proposals_all_failed_does_not_end_in_silence(
    trials: int, error: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    judged = Judge.__call__

    def fails(judge: Judge, params: Any, **options: Any) -> Any:
        if params:
            raise ValueError("max_depth is odd")
        return judged(judge, params, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "__call__", fails)
        if error:
            with pytest.raises(TrainingError, match=r"all 3 proposed trials failed.*max_depth is odd") as raised:
                search(make(trials=trials), tmp_path)
            assert "tuning.space" in raised.value.where
        else:
            assert search(make(trials=trials), tmp_path).params == {}
            assert "all 2 proposed trials failed" in caplog.text
            assert "max_depth is odd" in caplog.text
    found = search(make(trials=trials), tmp_path)
    assert [item.state for item in found.trials] == ["complete"] * trials


def test_proposals_that_ran_out_of_minutes_are_no_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judge.__call__

    def late(judge: Judge, params: Any, **options: Any) -> Any:
        if params:
            monkeypatch.setattr("millrace.training.tuning.optuna_search.monotonic", lambda: float("inf"))
        return judged(judge, params, **options)

    monkeypatch.setattr(Judge, "__call__", late)
    found = search(make(trials=5), tmp_path)
    assert [item.error for item in found.trials] == ["", LATE]
    assert found.params == {}
