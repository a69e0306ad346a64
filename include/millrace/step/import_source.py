"""What is imported: a model file or an MLflow model, and the signature that is declared with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace.errors import ModelImportError, SpecError
from millrace.package.declaration import Input
from millrace.package.description import Description, describe
from millrace.registry.mlflow_import import fetch_model, is_mlflow, scratch
from millrace.settings import Settings
from millrace.spec.load import check_values, read_yaml
from millrace.spec.signature import CategoryInput, NumberInput, SignatureSpec

_MOST_BYTES = 1 << 30
_SUFFIXES = {
    ".onnx": "onnx",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".skops": "skops",
    ".pkl": "skops",
    ".pickle": "skops",
    ".joblib": "skops",
}
"""A pickle is looked at as skops, which says why it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model file that was fetched.

    Attributes:
        description: what it says of itself.
        digest: sha256 of the file as it came.
        told: inputs by the word of MLflow's record.
        facts: what that record says of itself.
    """

    description: Description
    digest: str
    told: Sequence[Input] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def load_signature(path: Path) -> SignatureSpec:
    """A signature out of a YAML or JSON file.

    Raises:
        SpecError: no such file, or a key or value in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError("no such signature", where=str(path), remedy="correct the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"not YAML or JSON: {error}", where=str(path), remedy="give a text file in UTF-8") from error
    return check_signature(read_yaml(text, where=str(path)), where=str(path))


def load_import(source: str, path: Path) -> SignatureSpec:
    """The signature of a model that is there; what is wrong with either is told at once.

    Args:
        source: path of the model, or an address of MLflow's, which is not asked yet.
        path: file of the signature.

    Raises:
        SpecError: the signature is wrong.
        ModelImportError: there is no such model, or neither is right.
    """
    absent = not is_mlflow(source) and not Path(source).exists()
    try:
        signature = load_signature(path)
    except SpecError as error:
        if not absent:
            raise
        raise ModelImportError(
            f"no such model: {source}; and {error.what}",
            where=f"{source}; {error.where}",
            remedy=f"correct the path of the model; {error.remedy}",
        ) from None
    if absent:
        raise ModelImportError("no such model", where=source, remedy="correct the path, or give an address of MLflow's")
    return signature


def read_signature(given: object, *, where: str) -> SignatureSpec:
    """A signature as a form hands it on: its values, its text in YAML or JSON, or the path of its file.

    Raises:
        SpecError: there is none, no such file, or a key or value in it is wrong.
    """
    if not given or (isinstance(given, str) and not given.strip()):
        raise SpecError(
            "no signature is given", where=where, remedy="paste it as YAML or JSON, or give its file's path"
        )
    if not isinstance(given, str):
        return check_signature(given, where=where)
    if "\n" not in given.strip() and not given.lstrip().startswith("{"):
        return load_signature(Path(given.strip()))
    return check_signature(read_yaml(given, where=where), where=where)


def check_signature(values: object, *, where: str) -> SignatureSpec:
    """Values as a signature.

    Raises:
        SpecError: a key or value is wrong.
    """
    if not isinstance(values, Mapping):
        raise SpecError("not a mapping of keys to values", where=where, remedy="begin with `source: …`")
    return check_values(SignatureSpec, values, where=where)


def fetch(source: str, signature: SignatureSpec, *, settings: Settings) -> Found:
    """The model file of a source, described.

    Raises:
        ModelImportError: there is none, it is too large, or it is not of its format.
    """
    if not is_mlflow(source):
        path = Path(source)
        model_format = signature.format or _SUFFIXES.get(path.suffix.lower(), "")
        if not model_format:
            raise ModelImportError(
                f"{path.name!r} does not say of which format it is",
                where=source,
                remedy="add `format: onnx` (or xgboost, lightgbm, skops) to the signature, or give an MLflow model",
            )
        content = _read(path)
        return Found(description=describe(model_format, content), digest=hashlib.sha256(content).hexdigest())
    with scratch() as folder:
        fetched = fetch_model(source, into=Path(folder), settings=settings)
        content = _read(fetched.file)
        told: list[Input] = [
            CategoryInput(type="category", name=name, text=True)
            if kind == "text"
            else NumberInput(type="number", name=name)
            for name, kind in fetched.inputs.items()
        ]
        return Found(
            description=describe(fetched.format, content, wrapped=fetched.wrapped),
            digest=hashlib.sha256(content).hexdigest(),
            told=told,
            facts=fetched.facts,
        )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ModelImportError(
                f"the model has {size / 2**20:.0f} MiB, at most {_MOST_BYTES >> 20} are taken in",
                where=str(path),
                remedy="export a smaller one; the online service holds it in memory",
            )
        content = path.read_bytes()
    except OSError as error:
        raise ModelImportError(
            f"the model cannot be read: {error.strerror}",
            where=str(path),
            remedy="give the path of a file, the folder of an MLflow model, or an address such as models:/name/3",
        ) from error
    if not content:
        raise ModelImportError("the file is empty", where=str(path), remedy="copy the whole file")
    return content
