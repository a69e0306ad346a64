"""From a package's model file to predictions: one encoder, one model, the same for a batch and for one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from millrace.errors import PackageError
from millrace.package.encoder import Encoder
from millrace.package.reader import find_loader
from millrace.package.value import Values


class Model(Protocol):
    """A native model that was loaded from its bytes."""

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Prediction of each encoded row, (rows,): the probability of 1, or the value; (rows, classes) for classes."""
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
        """One prediction a row: the probability of 1, or the value; for multiclass the probability of each class.

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


def load_model(
    model_format: str,
    content: bytes,
    *,
    encoder: Encoder,
    problem: str,
    threads: int,
    classes: int = 0,
    trainer: str = "",
) -> Model:
    """Load a model file from its (already verified) bytes.

    Args:
        model_format: format as the manifest names it.
        content: the file.
        encoder: encoder of the package.
        problem: `binary`, `multiclass` or `regression`.
        threads: cores to predict with.
        classes: number of classes of a multiclass model.
        trainer: trainer as the manifest names it; a format of its own package is read by that alone.

    Raises:
        PackageError: no reader for the format, or the library does not read the bytes.
    """
    loader = find_loader(model_format, trainer)
    try:
        return cast("Model", loader(content, encoder=encoder, problem=problem, threads=threads, classes=classes))
    except PackageError:
        raise
    except (Exception, SystemExit) as error:
        raise PackageError(
            f"the library does not read this {model_format} model: {error}",
            where="model file",
            remedy="use the library version named in the manifest",
        ) from error
