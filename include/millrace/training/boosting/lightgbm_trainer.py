"""lightgbm in its deterministic mode, categories split natively, the same bytes twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import lightgbm
import numpy as np

from millrace.errors import TrainingError
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.boosting.lightgbm_data import Datasets, make_datasets
from millrace.training.boosting.lightgbm_model import join_models
from millrace.training.boosting.segment import After, boost_in_segments
from millrace.training.params import LightGBMParams
from millrace.training.run import FitRun

_OBJECTIVE = {
    "binary": ("binary", "binary_logloss"),
    "multiclass": ("multiclass", "multi_logloss"),
    "regression": ("regression", "rmse"),
}
_PLACES = {"machines", "local_listen_port"}
_OURS = {"rounds", "early_stopping", "threads", "checkpoint_every", "device", "scale_pos_weight"}


class LightGBMTrainer:
    """Trains a booster row-wise, so that the order of sums does not hang on timing.

    Args:
        params: its parameters.
        network: lightgbm's own parameters of a network of workers that train one model together.
    """

    scaled = False
    library = Library(name="lightgbm", version=lightgbm.__version__)
    model = ModelFile(name="model.txt", format="lightgbm-text")

    def __init__(self, params: LightGBMParams, *, network: Mapping[str, Any] | None = None) -> None:
        self.params = params
        self.network = dict(network or {})

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the rounds asked for, or until the last partition gains no more.

        Raises:
            TrainingError: a graphics card is asked for, or the loss is no number any more.
        """
        if self.params.device != "cpu":
            raise TrainingError(
                "lightgbm trains on the CPU alone",
                where="resources.gpu",
                remedy="set gpu: 0, or choose xgboost",
            )
        settings = self._settings(data, seed)
        with _connected(self.network):
            return self._fit(data, settings, seed=seed, run=run)

    def _fit(self, data: TrainingData, settings: dict[str, Any], *, seed: int, run: FitRun) -> Fit:
        datasets = make_datasets(data, self.params, seed=seed, folder=run.folder)

        def boost(model: bytes, *, rounds: int, seed: int, after: After) -> bytes:
            return _boost({**settings, "seed": seed}, datasets, model, rounds, after)

        return boost_in_segments(boost, _cut, self.params, seed=seed, run=run)

    def _settings(self, data: TrainingData, seed: int) -> dict[str, Any]:
        objective, metric = _OBJECTIVE[data.problem]
        found: dict[str, Any] = {
            **self.params.model_dump(exclude=_OURS),
            "objective": objective,
            "metric": metric,
            "data_random_seed": seed,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.params.threads,
            "verbosity": -1,
        }
        if data.problem == "multiclass":
            found["num_class"] = data.classes
        elif data.problem == "binary":
            found["scale_pos_weight"] = self.params.scale_pos_weight
        if any(data.monotone):
            found["monotone_constraints"] = list(data.monotone)
        return {**found, **{name: value for name, value in self.network.items() if name not in _PLACES}}


@contextlib.contextmanager
def _connected(network: Mapping[str, Any]) -> Iterator[None]:
    """One connection of the workers for all segments of a fit.

    Given its addresses with each segment's parameters, lightgbm connects anew each time, and cannot listen again on a
    port whose last connection it closed less than a minute ago.
    """
    if "machines" not in network:
        yield
        return
    quiet = {"verbosity": -1}
    keeper = lightgbm.Booster(quiet, lightgbm.Dataset(np.zeros((1, 1)), np.zeros(1), params=quiet))
    keeper.set_network(network["machines"], network["local_listen_port"], num_machines=network["num_machines"])
    try:
        yield
    finally:
        keeper.free_network()


def _boost(settings: dict[str, Any], datasets: Datasets, model: bytes, rounds: int, after: After) -> bytes:
    before = lightgbm.Booster(model_str=model.decode()) if model else None
    behind = before.current_iteration() if before else 0
    datasets.start_from(before)

    def told(env: lightgbm.callback.CallbackEnv) -> None:
        booster = env.model
        losses = {found[0]: float(found[2]) for found in env.evaluation_result_list or []}
        if after(behind + booster.current_iteration(), losses, lambda: float(booster.eval_train()[0][2])):
            raise lightgbm.callback.EarlyStopException(env.iteration, env.evaluation_result_list or [])

    booster = lightgbm.train(
        settings,
        datasets.kept.dataset,
        rounds,
        valid_sets=[rows.dataset for rows in datasets.watched],
        valid_names=[rows.name for rows in datasets.watched],
        keep_training_booster=True,
        callbacks=[told],
    )
    if before:
        join_models(before, booster)
    return booster.model_to_string(num_iteration=-1).encode()


def _cut(model: bytes, rounds: int) -> bytes:
    return lightgbm.Booster(model_str=model.decode()).model_to_string(num_iteration=rounds).encode()
