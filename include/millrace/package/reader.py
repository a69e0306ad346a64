"""Who reads a model file: a module of ours by the name of the format, or one that this installation vouches for.

A format of a trainer outside Millrace is named `package.module:name`. `package.module` then has a function
`load(content, *, encoder, problem, threads, classes)` that gives a `Model`. That name is whatever made the package
wrote down, so it is followed only where something outside the package vouches for it: an installed distribution that
declares the module in the entry-point group `millrace.readers`, or the setting `MILLRACE_READERS`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from millrace.errors import PackageError
from millrace.settings import readers

_MODULES = {
    "xgboost-ubj": "millrace.package.xgboost_predictor",
    "lightgbm-text": "millrace.package.lightgbm_predictor",
    "network-safetensors": "millrace.package.torch_predictor",
    "sklearn-skops": "millrace.package.sklearn_predictor",
    "constant-json": "millrace.package.baseline_predictor",
    "imported-zip": "millrace.package.imported_predictor",
}
_WHERE = "manifest: model.format"
GROUP = "millrace.readers"
"""Entry-point group in which a distribution declares the modules that read the models of its trainers."""
Loader = Callable[..., Any]


def find_loader(model_format: str, trainer: str) -> Loader:
    """The function that loads a format.

    Args:
        model_format: format as the manifest names it.
        trainer: trainer as the manifest names it, `package.module:Class` for one outside Millrace.

    Raises:
        PackageError: no reader for the format, nothing vouches for it, it cannot be imported, or its package is not
            the trainer's.
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
        _check_vouched(model_format, name)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise PackageError(
            f"what reads model format {model_format!r} cannot be imported: {type(error).__name__}: {error}",
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


def _check_vouched(model_format: str, module: str) -> None:
    """Refuses a module that nothing but the package itself names, before anything of it is imported."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or not all(part.isidentifier() for part in module.split(".")):
        raise PackageError(
            f"model format {model_format!r} names no reader: {module!r} is no module of an installed package",
            where=_WHERE,
            remedy="take a package from a trainer whose reader stands in a package of its own",
        )
    if package not in readers() and module not in _declared():
        raise PackageError(
            f"nothing here vouches for {module!r}, which model format {model_format!r} is read by",
            where=_WHERE,
            remedy=f"install the package {package} as a distribution that declares {module} in the entry-point group "
            f"{GROUP}, or name {package} in MILLRACE_READERS",
        )


def _declared() -> frozenset[str]:
    return frozenset(entry.value.partition(":")[0].strip() for entry in metadata.entry_points(group=GROUP))
