"""xgboost by histogram, categories split natively, the same bytes twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import xgboost

from millrace.errors import TrainingError
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.boosting.segment import After, boost_in_segments
from millrace.training.boosting.xgboost_data import Matrices, make_matrices
from millrace.training.params import XGBoostParams
from millrace.training.run import FitRun

_OBJECTIVE = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
}
_OURS = {"rounds", "early_stopping", "threads", "checkpoint_every", "scale_pos_weight"}


class XGBoostTrainer:
    """Trains a booster with `tree_method=hist`."""

    scaled = False
    library = Library(name="xgboost", version=xgboost.__version__)
    model = ModelFile(name="model.ubj", format="xgboost-ubj")

    def __init__(self, params: XGBoostParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Train the rounds asked for, or until the last partition gains no more.

        Raises:
            TrainingError: a graphics card is asked for and there is none, or the loss is no number any more.
        """
        settings = self._settings(data)
        matrices = make_matrices(data, self.params, folder=run.folder)

        def boost(model: bytes, *, rounds: int, seed: int, after: After) -> bytes:
            return _boost({**settings, "seed": seed}, matrices, model, rounds, after)

        return boost_in_segments(boost, _cut, self.params, seed=seed, run=run)

    def _settings(self, data: TrainingData) -> dict[str, Any]:
        objective, metric = _OBJECTIVE[data.problem]
        found = {
            **self.params.model_dump(exclude=_OURS),
            "tree_method": "hist",
            "objective": objective,
            "eval_metric": metric,
            "nthread": self.params.threads,
            "verbosity": 0,
        }
        if data.problem == "multiclass":
            found["num_class"] = data.classes
        elif data.problem == "binary" and self.params.scale_pos_weight != 1:
            found["scale_pos_weight"] = self.params.scale_pos_weight
        if any(data.monotone):
            found["monotone_constraints"] = f"({','.join(map(str, data.monotone))})"
        return found


class _Told(xgboost.callback.TrainingCallback):
    """Tells of each round as xgboost's own loop goes on."""

    def __init__(self, matrices: Matrices, after: After, device: str) -> None:
        super().__init__()
        self._kept, self._after, self._device = matrices.kept, after, device

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, Any]]) -> bool:
        """True ends the training."""
        if self._device == "cuda" and epoch == 0:
            _check_card(model)
        losses = {name: float(next(iter(found.values()))[-1]) for name, found in evals_log.items()}
        return self._after(model.num_boosted_rounds(), losses, lambda: self._train_loss(model))

    def _train_loss(self, model: xgboost.Booster) -> float:
        """Out of xgboost's own line, such as `[0]\ttrain-logloss:0.69`: its scores of these rows are at hand."""
        return float(model.eval_set([(self._kept, "train")]).rpartition(":")[2])


def _boost(settings: dict[str, Any], matrices: Matrices, model: bytes, rounds: int, after: After) -> bytes:
    booster = xgboost.train(
        settings,
        matrices.kept,
        rounds,
        evals=matrices.watched,
        verbose_eval=False,
        xgb_model=bytearray(model) if model else None,
        callbacks=[_Told(matrices, after, settings["device"])],
    )
    return bytes(booster.save_raw("ubj"))


def _cut(model: bytes, rounds: int) -> bytes:
    return bytes(xgboost.Booster(model_file=bytearray(model))[:rounds].save_raw("ubj"))


def _check_card(model: xgboost.Booster) -> None:
    """Refuse to train on the CPU what asked for a card: xgboost itself would go on without a word."""
    used = orjson.loads(model.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith("cuda"):
        raise TrainingError(
            f"a graphics card is asked for, xgboost trains on {used!r}",
            where="resources.gpu",
            remedy="install xgboost in place of xgboost-cpu on a machine with a card, or set gpu: 0",
        )
