"""A scikit-learn model from elsewhere, out of a skops file: its types are looked at before anything is made of them."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import polars
import sklearn
import skops.io
from numpy.typing import NDArray
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import ThreadpoolController

from millrace.errors import MillraceError, PackageError
from millrace.package.description import Description, unreadable
from millrace.package.layout import Layout
from millrace.package.sklearn_predictor import TRUSTED

_SCHEMA = "schema.json"
_MOST_BYTES, _MOST_SCHEMA = 1 << 30, 64 << 20
"""Unpacked: of a whole file, and of its schema, which is held in memory many times over as objects."""
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_REFUSED = ("sklearn.feature_extraction.", "sklearn.datasets.")
"""What reads files or opens addresses that stand in the values it is given."""
_INNER = [
    "numpy.dtype",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.linear_model._sgd_fast.EpsilonInsensitive",
    "sklearn.linear_model._sgd_fast.Hinge",
    "sklearn.linear_model._sgd_fast.ModifiedHuber",
    "sklearn.preprocessing._target_encoder.TargetEncoder",
]
"""What estimators hold within themselves, beyond what those that are trained here hold."""
_REMEDY = "build it of estimators of scikit-learn, or export it as ONNX"


class FrameModel:
    """A fitted estimator or pipeline.

    Args:
        content: the skops file.
        layout: names of its inputs.
        problem: `regression` asks it for values, any other problem for probabilities.
        threads: cores to predict with.
    """

    def __init__(self, content: bytes, layout: Layout, problem: str, *, threads: int) -> None:
        self._model = open_model(content, threads=threads)
        self._names = [item.name for item in layout.inputs]
        self._framed = hasattr(self._model, "feature_names_in_")
        self._predict = self._model.predict if problem == "regression" else self._model.predict_proba
        self._threads, self._pool = threads, ThreadpoolController()

    def run(self, columns: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Values, or the probabilities of its classes."""
        with self._pool.limit(limits=self._threads):
            return np.asarray(self._predict(self._rows(columns)), np.float64)

    def _rows(self, columns: Sequence[NDArray[Any]]) -> Any:
        wide = [values if values.dtype == object else values.astype(np.float64) for values in columns]
        if self._framed:
            return polars.DataFrame(
                {
                    name: polars.Series(values.tolist(), dtype=polars.String) if values.dtype == object else values
                    for name, values in zip(self._names, wide, strict=True)
                }
            )
        mixed = any(values.dtype == object for values in wide)
        return np.column_stack([values.astype(object) for values in wide] if mixed else wide)


def open_model(content: bytes, *, threads: int) -> Any:
    """The estimator in a skops file.

    Raises:
        PackageError: it is no such file, or holds types that are not let in.
    """
    if refused := sorted(name for name in _types(content) if name.startswith(_REFUSED)):
        raise _faulty(f"the model holds {', '.join(refused)}, which may open files that its inputs name", _REMEDY)
    try:
        model = skops.io.loads(content, trusted=[*TRUSTED, *_INNER])
    except UntrustedTypesFoundException as error:
        raise _faulty(f"the model holds types that are not trusted: {error}", _REMEDY) from error
    except Exception as error:
        raise _faulty(
            f"scikit-learn {sklearn.__version__} does not read the model: {type(error).__name__}: {error}",
            "save it again with skops.io.dump, with the scikit-learn that is installed here",
        ) from error
    if not hasattr(model, "predict"):
        raise _faulty(f"the file holds a {type(model).__name__}, which predicts nothing", _REMEDY)
    asked = {name: threads for name in model.get_params() if name.rpartition("__")[2] == "n_jobs"}
    asked |= {name: None for name in model.get_params() if name.rpartition("__")[2] == "memory"}
    return model.set_params(**asked)


def load_foreign(content: bytes, layout: Layout, problem: str, *, threads: int) -> FrameModel:
    """Load a model.

    Raises:
        PackageError: it holds what is not let in.
    """
    return FrameModel(content, layout, problem, threads=threads)


def describe_model(content: bytes, *, wrapped: bool = False) -> Description:
    """Read a file.

    Raises:
        ModelImportError: a pickle, no skops file, types that are not let in, or a classifier without probabilities.
    """
    if content.startswith(_PICKLES):
        raise unreadable(
            "the file is a pickle, which can run anything when it is read",
            "save the model with skops.io.dump(model, 'model.skops') where it was trained",
        )
    try:
        model = open_model(content, threads=1)
    except MillraceError as error:
        raise unreadable(error.what, error.remedy) from error
    classifies = hasattr(model, "classes_") or getattr(model, "_estimator_type", "") == "classifier"
    if classifies and not hasattr(model, "predict_proba"):
        raise unreadable(
            f"{type(model).__name__} gives labels and no probabilities",
            "fit it within CalibratedClassifierCV, or with probabilities",
        )
    classes = [_class_name(name) for name in getattr(model, "classes_", [])]
    return Description(
        format="skops",
        content=content,
        library="sklearn",
        version=sklearn.__version__,
        names=[str(name) for name in getattr(model, "feature_names_in_", [])],
        width=int(getattr(model, "n_features_in_", 0)),
        classes=classes,
        columns=len(classes) or 1,
        facts={"estimator": _named(model)},
    )


def _class_name(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool) or (isinstance(plain, float) and plain.is_integer()):
        return str(int(plain))
    return str(plain)


def _named(model: Any) -> str:
    last = model[-1] if hasattr(model, "steps") else model
    return f"{type(model).__name__} of {type(last).__name__}" if last is not model else type(model).__name__


def _types(content: bytes) -> set[str]:
    """Dotted names of all types that a skops file speaks of."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_small(archive)
            schema = orjson.loads(archive.read(_SCHEMA))
        return {f"{node['__module__']}.{node['__class__']}" for node in _nodes(schema) if "__module__" in node}
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        NotImplementedError,
        RuntimeError,
        orjson.JSONDecodeError,
        EOFError,
    ) as error:
        raise _faulty(
            f"the file is no skops file, or is cut off: {error}", "save it again with skops.io.dump, and copy it whole"
        ) from error


def _require_small(archive: zipfile.ZipFile) -> None:
    """Nothing is unpacked before it is known how large it becomes."""
    whole = sum(item.file_size for item in archive.infolist())
    if whole > _MOST_BYTES:
        raise _faulty(
            f"the file unpacks to {whole >> 20} MiB, at most {_MOST_BYTES >> 20} are taken in",
            "export a smaller one; the online service holds it in memory",
        )
    if (schema := archive.getinfo(_SCHEMA).file_size) > _MOST_SCHEMA:
        raise _faulty(
            f"the schema in the file has {schema >> 20} MiB, at most {_MOST_SCHEMA >> 20} are taken in", _REMEDY
        )


def _nodes(root: Any) -> Iterator[dict[str, Any]]:
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _faulty(what: str, remedy: str) -> PackageError:
    return PackageError(what, where="model file", remedy=remedy)
