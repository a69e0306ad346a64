"""The dummy that every candidate must beat: the prior rate, or the mean."""

from __future__ import annotations

import numpy as np

from millrace import __version__
from millrace.artifact import canonical
from millrace.package import Library, ModelFile
from millrace.training.base import Fit, TrainingData
from millrace.training.params import BaselineParams
from millrace.training.run import FitRun


class BaselineTrainer:
    """Predicts the mean label of the training rows."""

    scaled = False
    library = Library(name="millrace", version=__version__)
    model = ModelFile(name="model.json", format="constant-json")

    def __init__(self, params: BaselineParams) -> None:
        self.params = params

    def fit(self, data: TrainingData, *, seed: int, run: FitRun) -> Fit:
        """Take the mean; of 0 and 1 it is the rate."""
        return Fit(content=canonical({"value": float(np.mean(data.target, dtype=np.float64))}))
