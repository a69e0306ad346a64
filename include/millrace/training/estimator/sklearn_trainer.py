"""Any listed estimator of scikit-learn, behind a step that encodes the categories, the same bytes twice."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from millrace.errors import SpecError, TrainingError
from millrace.package import Encoder, Library, ModelFile
from millrace.package.estimator import RESERVED, Estimator, find_estimator
from millrace.package.sklearn_predictor import model_input
from millrace.training.base import Fit, TrainingData
from millrace.training.estimator.sklearn_file import write_model
from millrace.training.params import SklearnParams
from millrace.training.run import FitRun


class SklearnTrainer:
    """Fits one estimator on all rows at once."""

    library = Library(name="sklearn", version=sklearn.__version__)
    model = ModelFile(name="model.skops", format="sklearn-skops")

    def __init__(self, params: SklearnParams) -> None:
        self.params = params
        self._known = find_estimator(params.estimator)
        _check_settings(self._known, params.settings)

    @property
    def scaled(self) -> bool:
        """True for an estimator that wants standardised numbers."""
        return self._known.inputs == "dense"

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Fit the estimator; with early stopping the last partition is what it watches.

        Raises:
            TrainingError: the rows do not fit into memory, or the estimator refuses settings or rows.
        """
        if data.block_rows:
            raise TrainingError(
                f"{len(data.target)} rows are more than resources.memory holds, and scikit-learn takes all",
                where="trainer sklearn",
                remedy="raise resources.memory of the candidate, or train xgboost, lightgbm or torch",
            )
        kept = ~data.recent if self.params.early_stopping else np.ones(len(data.target), bool)
        numbers = _filled(data, kept)
        columns, estimator = self._columns(data.encoder, numbers), self._estimator(data, numbers, seed)
        try:
            with threadpool_limits(limits=self.params.threads):
                rows = columns.fit_transform(self._rows(data, kept))
                estimator.fit(rows, self._target(data, kept), **self._watched(data, kept, columns))
        except ValueError as error:
            raise TrainingError(
                f"{self._known.path} refuses: {error}",
                where="trainer sklearn",
                remedy="correct params.settings, or choose another estimator for these rows",
            ) from error
        pipeline = Pipeline([("columns", columns), ("estimator", estimator)])
        facts = {"rounds": int(estimator.n_iter_)} if self.params.early_stopping else {}
        return Fit(content=write_model(pipeline), facts=facts)

    def _columns(self, encoder: Encoder, numbers: list[int]) -> ColumnTransformer:
        """Numbers as they are; the codes one-hot, or as places of their own with unseen ones missing."""
        if encoder.scaled:
            numbers = list(range(encoder.dense_width))
            codes = [encoder.dense_width + i for i in range(len(encoder.categories))]
            step: Any = OneHotEncoder(
                handle_unknown="ignore", max_categories=self.params.max_categories, sparse_output=self._known.sparse
            )
        else:
            codes = encoder.categories
            step = OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=self.params.max_categories
            )
        return ColumnTransformer([("numbers", "passthrough", numbers), ("categories", step, codes)])

    def _estimator(self, data: TrainingData, numbers: list[int], seed: int) -> Any:
        estimator = _class_of(self._known)(**self.params.settings)
        encoder, patience = data.encoder, self.params.early_stopping
        ours: dict[str, Any] = {"random_state": seed, "early_stopping": bool(patience)}
        if self._known.parallel:
            ours["n_jobs"] = self.params.threads
        if patience:
            ours["n_iter_no_change"] = patience
        if self._known.inputs == "native":
            ours["categorical_features"] = list(range(len(numbers), len(numbers) + len(encoder.categories)))
        if any(data.monotone):
            ours["monotonic_cst"] = [data.monotone[i] for i in (*numbers, *encoder.categories)]
        known = estimator.get_params(deep=False)
        estimator.set_params(**{name: value for name, value in ours.items() if name in known})
        return (
            TransformedTargetRegressor(estimator, transformer=StandardScaler())
            if self._known.standardises
            else estimator
        )

    def _rows(self, data: TrainingData, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        return model_input(data.matrix if chosen.all() else data.matrix[chosen], data.encoder)

    def _target(self, data: TrainingData, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        target = data.target[chosen]
        return target.astype(np.int64) if self._known.classifies else target.astype(np.float64)

    def _watched(self, data: TrainingData, kept: NDArray[np.bool_], columns: ColumnTransformer) -> dict[str, Any]:
        """Weights, and the rows that early stopping watches."""
        found: dict[str, Any] = {} if data.weight is None else {"sample_weight": data.weight[kept]}
        if not self.params.early_stopping:
            return found
        found |= {
            "X_val": columns.transform(self._rows(data, data.recent)),
            "y_val": self._target(data, data.recent),
        }
        return found if data.weight is None else {**found, "sample_weight_val": data.weight[data.recent]}


def _filled(data: TrainingData, kept: NDArray[np.bool_]) -> list[int]:
    """Numbers with a value in the rows trained on; trees make nothing of the others, or fail over them."""
    return [i for i in data.encoder.numbers if np.isfinite(data.matrix[kept, i]).any()]


def _class_of(known: Estimator) -> Any:
    module, _, name = known.path.rpartition(".")
    return getattr(importlib.import_module(f"sklearn.{module}"), name)


def _check_settings(known: Estimator, settings: dict[str, Any]) -> None:
    takes = sorted(set(_class_of(known)().get_params(deep=False)) - RESERVED)
    for name in settings:
        if name not in takes:
            near = difflib.get_close_matches(name, takes, n=1)
            raise SpecError(
                f"{known.path} has no parameter {name!r}",
                where="params.settings",
                remedy=f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(takes)}",
            )
