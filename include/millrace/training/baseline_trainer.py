"""The dummy that every candidate must beat: the prior rate, the share of each class, or the mean."""

from __future__ import annotations

import numpy as np

from millrace import __version__
from millrace.artifact import canonical
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.params import BaselineParams
from millrace.training.run import FitRun


class BaselineTrainer:
    """Predicts the weighted mean label of the training rows, or the weighted share of each class."""

    scaled = False
    library = Library(name="millrace", version=__version__)
    model = ModelFile(name="model.json", format="constant-json")

    def __init__(self, params: BaselineParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Take the mean; of 0 and 1 it is the rate."""
        weight = None if data.weight is None else data.weight.astype(np.float64)
        target = data.target.astype(np.float64)
        if data.problem != "multiclass":
            return Fit(content=canonical({"value": float(np.average(target, weights=weight))}))
        counts = np.bincount(target.astype(np.int64), weights=weight, minlength=data.classes)
        return Fit(content=canonical({"value": (counts / counts.sum()).tolist()}))
