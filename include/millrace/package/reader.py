"""Who reads a model file: a module of ours by the name of the format, or one of the package its trainer came from.

A format of a trainer outside Millrace is named `package.module:name`. `package.module` then has a function
`load(content, *, encoder, problem, threads, classes)` that gives a `Model`. The name stands in the manifest of a
verified package, and is followed only into the package that the manifest's own trainer came from.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from millrace.errors import PackageError

_MODULES = {
    "xgboost-ubj": "millrace.package.xgboost_predictor",
    "lightgbm-text": "millrace.package.lightgbm_predictor",
    "network-safetensors": "millrace.package.torch_predictor",
    "sklearn-skops": "millrace.package.sklearn_predictor",
    "constant-json": "millrace.package.baseline_predictor",
}
_WHERE = "manifest: model.format"
Loader = Callable[..., Any]


def find_loader(model_format: str, trainer: str) -> Loader:
    """The function that loads a format.

    Args:
        model_format: format as the manifest names it.
        trainer: trainer as the manifest names it, `package.module:Class` for one outside Millrace.

    Raises:
        PackageError: no reader for the format, or its package is not installed, or not the trainer's.
    """
    foreign = ":" in model_format
    if not foreign and model_format not in _MODULES:
        raise PackageError(
            f"no reader for model format {model_format!r}",
            where=_WHERE,
            remedy=f"known are: {', '.join(sorted(_MODULES))}, or `package.module:name` of the trainer's own package",
        )
    name = model_format.partition(":")[0] if foreign else _MODULES[model_format]
    if foreign:
        _check_origin(model_format, name, trainer)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise PackageError(
            f"what reads model format {model_format!r} cannot be imported: {error}",
            where=_WHERE,
            remedy=f"install {'the package ' + name.partition('.')[0] if foreign else 'the library'} here, "
            "in the version that trained the model",
        ) from error
    loader = getattr(module, "load", None)
    if not callable(loader):
        raise PackageError(
            f"{name} has no function `load`",
            where=_WHERE,
            remedy="give it load(content, *, encoder, problem, threads, classes)",
        )
    return loader


def _check_origin(model_format: str, module: str, trainer: str) -> None:
    package = module.partition(".")[0]
    if ":" not in trainer or trainer.partition(":")[0].partition(".")[0] != package:
        raise PackageError(
            f"model format {model_format!r} is read by package {package!r}, the trainer is {trainer!r}",
            where=_WHERE,
            remedy="let a trainer and the reader of its model stand in one package",
        )
