"""From a package's model file to predictions: one encoder, one model, the same for a batch and for one row."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from millrace.errors import PackageError
from millrace.package.encoder import Encoder
from millrace.package.value import Values

_MODULES = {
    "xgboost-ubj": "millrace.package.xgboost_predictor",
    "lightgbm-text": "millrace.package.lightgbm_predictor",
    "network-safetensors": "millrace.package.torch_predictor",
    "constant-json": "millrace.package.baseline_predictor",
}


class Model(Protocol):
    """A native model that was loaded from its bytes."""

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Prediction of each encoded row: the probability of 1, or the value."""
        ...

    def contribute(self, matrix: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """What each feature adds to the model's raw score, (rows, features); None where the model cannot tell."""
        ...


@dataclass(frozen=True, slots=True)
class Predictor:
    """Features in, predictions out.

    Attributes:
        encoder: how features become model input.
        model: what scores them.
    """

    encoder: Encoder
    model: Model

    @property
    def columns(self) -> list[str]:
        """The features it needs, in model order."""
        return self.encoder.names

    def predict(self, columns: Mapping[str, Values]) -> NDArray[np.float64]:
        """One prediction a row: the probability of 1, or the value.

        Args:
            columns: feature → values (list, numpy or Arrow); others are ignored.

        Raises:
            FeatureError: a feature is missing or holds what its kind cannot be.
        """
        return self.model.score(self.encoder.encode(columns))

    def explain(self, columns: Mapping[str, Values]) -> NDArray[np.float64] | None:
        """What each feature adds to the raw score (log-odds, or value), (rows, features), the bias left out.

        None where the model has no contributions of its own (a network).
        """
        return self.model.contribute(self.encoder.encode(columns))


def load_model(model_format: str, content: bytes, *, encoder: Encoder, problem: str, threads: int) -> Model:
    """Load a model file from its (already verified) bytes.

    Raises:
        PackageError: no reader for the format, or the library does not read the bytes.
    """
    module = _MODULES.get(model_format)
    if module is None:
        raise PackageError(
            f"no reader for model format {model_format!r}",
            where="manifest: model.format",
            remedy=f"known are: {', '.join(sorted(_MODULES))}",
        )
    loader = importlib.import_module(module)
    try:
        return cast("Model", loader.load(content, encoder=encoder, problem=problem, threads=threads))
    except PackageError:
        raise
    except Exception as error:
        raise PackageError(
            f"the library does not read this {model_format} model: {error}",
            where="model file",
            remedy="use the library version named in the manifest",
        ) from error
