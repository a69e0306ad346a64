"""Models that were trained elsewhere, and the use cases they are imported into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tests.unit.training.synthetic import make_domain, make_use_case, write_training_set

from millrace.artifact import DatasetRef
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import UseCaseSpec
from millrace.step.import_source import check_signature
from millrace.step.importing import Imported, import_model
from millrace.training import load_training_set

FEATURES = ["size", "age", "kind", "warmth", "sky", "nothing"]
KINDS = ["lamp", "chair", "table", "ünique", ""]
SKIES = ["rain", "clear"]
MONTHS = ["2020-01", "2020-02", "2020-03"]


def number(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "number", "name": name, **more}


def category(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "category", "name": name, **more}


def signature(problem: str = "binary", **changes: Any) -> dict[str, Any]:
    """All features in order, categories by codes of the maker's own."""
    inputs = [
        number("size", missing=0.0),
        number("age", missing=0.0),
        category("kind", categories=KINDS, unseen=7.0, missing=8.0),
        number("warmth", missing=15.0),
        category("sky", categories=SKIES, unseen=7.0, missing=8.0),
        number("nothing", missing=0.0),
    ]
    return {"source": "risk team, build 7", "problem": problem, "inputs": inputs, **changes}


class Elsewhere:
    """A use case with rows, and models that were trained on those before its holdout."""

    def __init__(self, settings: Settings, problem: str = "binary") -> None:
        self.settings, self.domain = settings, make_domain()
        self.use_case: UseCaseSpec = make_use_case(problem)
        self.ref: DatasetRef = write_training_set(self.use_case, settings.lake, MONTHS, 200)
        self.rows: pa.Table = load_training_set(self.use_case, self.ref, lake=settings.lake, through="2020-02")

    @property
    def label(self) -> NDArray[np.float64]:
        return np.asarray(self.rows.column("label").to_numpy())

    @property
    def columns(self) -> dict[str, list[Any]]:
        return {name: self.rows.column(name).to_pylist() for name in FEATURES}

    def frame(self) -> pd.DataFrame:
        return self.rows.select(FEATURES).to_pandas()

    def coded(self, *, filled: bool = False) -> pd.DataFrame:
        """Features as numbers by the maker's codes; missing ones as NaN, or as the signature fills them."""
        found = self.frame()
        found["kind"] = found.kind.map({text: float(code) for code, text in enumerate(KINDS)})
        found["sky"] = found.sky.map({text: float(code) for code, text in enumerate(SKIES)})
        found["nothing"] = np.nan
        if filled:
            found = found.fillna({"size": 0, "age": 0, "kind": 8, "warmth": 15, "sky": 8, "nothing": 0})
        return found.astype("float32")

    def take(self, source: Path | str, declared: dict[str, Any]) -> Imported:
        return import_model(
            self.use_case,
            self.domain,
            str(source),
            check_signature(declared, where="signature.yaml"),
            self.ref,
            settings=self.settings,
            logged=False,
        )

    def package(self, done: Imported) -> Package:
        return Package.open(self.settings.packages / done.model.digest, done.model.digest)

    def predict(self, done: Imported) -> NDArray[np.float64]:
        return self.package(done).predictor().predict(self.columns)
