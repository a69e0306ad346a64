"""A sealed package as a model that MLflow's own tools load: `mlflow.pyfunc.load_model("models:/flight_delay/3")`.

MLflow finds a record, `MLmodel`, beside the package's files, which names this module. The package is read by Millrace,
with every check of its own, so that Millrace and the package's libraries have to be installed where it is loaded.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.package import FeatureSpec, Package
from millrace.package.package import FEATURES

RECORD = "MLmodel"
_TYPES = {"number": "double", "category": "string"}


class PackageModel:
    """What MLflow calls to predict.

    Attributes:
        package: the package, verified.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self._functions, self._predictor = package.functions, package.predictor()
        self._inputs = [column.name for column in package.features.inputs]

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Predictions of a pandas frame: a value a row, or the probability of each class.

        Args:
            model_input: a column for each input of the package; further ones are left aside.
            params: nothing; MLflow passes it.

        Raises:
            FeatureError: a column is missing, or holds something else than it should.
        """
        named = (name for name in self._inputs if name in model_input.columns)
        columns = {name: _listed(model_input[name]) for name in named}
        return np.asarray(self._predictor.predict(self._functions.add(columns, len(model_input))), np.float64)


def _load_pyfunc(path: str) -> PackageModel:
    """What MLflow asks the module of a model for.

    Raises:
        PackageError: a file is not the one that was sealed, or the model does not load here.
    """
    return PackageModel(Package.open(path))


def model_record(package_dir: Path, *, run_id: str, made: str, folder: str) -> str:
    """The text of MLflow's record of a package: who loads it, and its columns as the package names them.

    Args:
        package_dir: folder of the package.
        run_id: the run it is logged to.
        made: UTC time of that run, for people.
        folder: its folder among the run's artifacts.
    """
    from mlflow.models import Model

    model = Model(
        artifact_path=folder, run_id=run_id, utc_time_created=made, model_uuid=run_id, signature=_signature(package_dir)
    )
    # As `mlflow.pyfunc.add_to_model` does, whose module takes a sixth of a second to import.
    model.add_flavor("python_function", loader_module=__name__, python_version=platform.python_version())
    return str(model.to_yaml())


def _signature(package_dir: Path) -> Any:
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    path = package_dir / FEATURES
    if not path.is_file():
        return None
    inputs = FeatureSpec.from_dict(orjson.loads(path.read_bytes())).inputs
    return ModelSignature(inputs=Schema([ColSpec(_TYPES[item.kind], item.name, required=False) for item in inputs]))


def _listed(column: Any) -> list[Any]:
    """Values of a pandas column, None where one is missing."""
    found: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return found
