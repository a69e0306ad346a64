"""Models of MLflow's format, from a folder or out of a tracking server: the native file, never the pickle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from millrace.errors import ModelImportError, SpecError
from millrace.registry.mlflow_address import locate
from millrace.registry.mlflow_client import answering, connect
from millrace.settings import Settings
from millrace.spec.load import read_yaml

_RECORD = "MLmodel"
_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/")
_NUMBERS = {"double", "float", "integer", "long", "boolean"}
_LONGEST = 200
_PICKLES = (".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowModel:
    """The native file of an MLflow model and what its record says.

    Attributes:
        file: where the file lies.
        format: `onnx`, `xgboost`, `lightgbm` or `skops`.
        inputs: input → `number` or `text`, in order; empty where there is no signature by columns.
        wrapped: whether it was saved by a booster's wrapper for scikit-learn.
        facts: what the record says of itself.
    """

    file: Path
    format: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    wrapped: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


def is_mlflow(source: str) -> bool:
    """Whether a source is an address of MLflow's, or a folder with a model of its format."""
    return source.startswith(_SCHEMES) or (Path(source) / _RECORD).is_file()


def fetch_model(source: str, *, into: Path, settings: Settings) -> MlflowModel:
    """The model at an address such as `models:/name/3`, `models:/name@champion` or `runs:/<id>/model`, or in a folder.

    Args:
        source: address or folder.
        into: empty folder that is downloaded to.
        settings: the installation, whose tracking server is asked.

    Raises:
        ModelImportError: no such model, no flavor that is read without a pickle, or a damaged record.
        RegistryUnavailableError: MLflow does not answer.
    """
    return read_folder(_download(source, into, settings) if source.startswith(_SCHEMES) else Path(source))


def read_folder(folder: Path) -> MlflowModel:
    """The model in a folder that MLflow saved.

    Raises:
        ModelImportError: see `fetch_model`.
    """
    path = folder / _RECORD
    try:
        record = read_yaml(path.read_text(encoding="utf-8"), where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise _unread(f"{type(error).__name__}: {error}", path) from error
    except SpecError as error:
        raise _unread(error.what, path) from error
    flavors = {str(key): _mapping(item, f"flavor {key}", path) for key, item in _part(record, "flavors", path).items()}
    name, model_format = _choose(flavors, path)
    flavor = flavors[name]
    file = (folder / str(flavor.get("data") or flavor.get("pickled_model") or "").replace("\0", "")).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
        raise ModelImportError(
            f"flavor {name!r} names no file of the folder", where=str(path), remedy="copy the whole folder of the model"
        )
    if file.suffix in _PICKLES:
        raise _pickled(name, path)
    facts = {"flavor": name, "mlflow": str(record.get("mlflow_version", "")), "model_id": record.get("model_id") or ""}
    return MlflowModel(
        file=file,
        format=model_format,
        inputs=_inputs(_part(record, "signature", path), path),
        wrapped=str(flavor.get("model_class", "")).startswith("xgboost.sklearn."),
        facts={key: str(value) for key, value in facts.items() if value},
    )


def _part(record: Any, key: str, path: Path) -> Mapping[str, Any]:
    return _mapping(_mapping(record, "the whole", path).get(key) or {}, key, path)


def _mapping(value: Any, name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _unread(f"{name} is no mapping of keys to values", path)
    return value


def _unread(told: str, path: Path) -> ModelImportError:
    return ModelImportError(
        f"the record of the model cannot be read: {told}",
        where=str(path),
        remedy="save the model again with MLflow, and copy the whole folder",
    )


def _download(source: str, into: Path, settings: Settings) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    client, url = connect(settings), settings.mlflow_url
    with answering(f"model {source}", settings):
        try:
            place = locate(source, client)
            return Path(download_artifacts(place, dst_path=str(into), tracking_uri=url, registry_uri=url))
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
                raise ModelImportError(
                    f"MLflow has no model {source!r}: {error.message}",
                    where=settings.mlflow_url,
                    remedy="look the address up in MLflow, such as models:/name/3",
                ) from error
            raise


def _choose(flavors: Mapping[str, Any], path: Path) -> tuple[str, str]:
    """The flavor to read, and the format of its file."""
    for name in ("onnx", "xgboost", "lightgbm"):
        if name in flavors:
            file = str(flavors[name].get("data", ""))
            return name, "skops" if file.endswith(".skops") else name
    if "sklearn" in flavors:
        if flavors["sklearn"].get("serialization_format") != "skops":
            raise _pickled("sklearn", path)
        return "sklearn", "skops"
    raise ModelImportError(
        f"none of the flavors {', '.join(flavors)} can be read without running the model's own code",
        where=str(path),
        remedy="log it with the flavor onnx, xgboost or lightgbm, or sklearn with serialization_format='skops'",
    )


def _pickled(flavor: str, path: Path) -> ModelImportError:
    return ModelImportError(
        f"the model of flavor {flavor!r} is a pickle, which can run anything when it is read",
        where=str(path),
        remedy="log it again with serialization_format='skops', or a booster itself and not its wrapper, or as ONNX",
    )


def _inputs(signature: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Columns of MLflow's signature; one by tensors, or of columns without names, names none."""
    try:
        columns = orjson.loads(signature.get("inputs") or "[]")
        found = {}
        for column in columns:
            if column["type"] == "tensor":
                return {}
            if column["type"] not in _NUMBERS | {"string"}:
                raise ModelImportError(
                    f"input {column.get('name')!r} is a {column['type']}, features are numbers and texts",
                    where=f"{path}: signature.inputs",
                    remedy="declare the inputs in a signature file",
                )
            if not 0 < len(name := str(column.get("name") or "")) <= _LONGEST:
                return _unnamed(columns, path)
            found[name] = "text" if column["type"] == "string" else "number"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelImportError(
            f"the signature in the record cannot be read: {error}",
            where=f"{path}: signature.inputs",
            remedy="declare the inputs in a signature file",
        ) from error
    return found


def _unnamed(columns: Sequence[Mapping[str, Any]], path: Path) -> dict[str, str]:
    if any(column.get("name") for column in columns):
        raise ModelImportError(
            f"an input in the record has no name, or one of more than {_LONGEST} characters",
            where=f"{path}: signature.inputs",
            remedy="declare the inputs in a signature file",
        )
    return {}


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder to download to, which goes away with its use."""
    return tempfile.TemporaryDirectory(prefix="millrace-import-")
