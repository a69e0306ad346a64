"""Trainers by the name a spec gives; a library is imported only when its trainer is built.

A name of ours (`xgboost`) or `package.module:Class` of a package that is installed beside. Such a class is made by
calling it with its parameters, is a `Trainer`, and has as `Params` the class of these, derived from `TrainerParams`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from millrace.errors import MillraceError, PackageError, SpecError, TrainingError
from millrace.package import Library, ModelFile
from millrace.package.reader import find_loader
from millrace.spec import CandidateSpec
from millrace.spec.load import check_values
from millrace.training.base import Trainer
from millrace.training.params import (
    BaselineParams,
    LightGBMParams,
    SklearnParams,
    TorchParams,
    TrainerParams,
    XGBoostParams,
    given_params,
)

_PARTS: dict[str, Any] = {
    "params": TrainerParams,
    "library": Library,
    "model": ModelFile,
    "scaled": bool,
    "fit": Callable,
}


@dataclass(frozen=True, slots=True)
class _Known:
    module: str
    name: str
    params: type[TrainerParams]


_TRAINERS = {
    "baseline": _Known("millrace.training.baseline_trainer", "BaselineTrainer", BaselineParams),
    "lightgbm": _Known("millrace.training.boosting.lightgbm_trainer", "LightGBMTrainer", LightGBMParams),
    "sklearn": _Known("millrace.training.estimator.sklearn_trainer", "SklearnTrainer", SklearnParams),
    "torch": _Known("millrace.training.network.torch_trainer", "TorchTrainer", TorchParams),
    "xgboost": _Known("millrace.training.boosting.xgboost_trainer", "XGBoostTrainer", XGBoostParams),
}


def list_trainers() -> list[str]:
    """Names of all trainers of Millrace."""
    return sorted(_TRAINERS)


def check_params(name: str, values: Mapping[str, Any], *, where: str) -> TrainerParams:
    """The parameters of a trainer with defaults resolved; imports nothing but the package of a trainer outside.

    Args:
        name: trainer as the spec names it.
        values: parameters of the spec.
        where: place in the spec, for the message.

    Raises:
        SpecError: no such trainer, an unknown parameter (with the nearest known one) or a wrong value.
    """
    params = _find(name, where).params
    with _outside(name, "parameters cannot be checked", f"{where}.params"):
        return check_values(params, values, where=f"{where}.params")


def check_candidate(
    spec: CandidateSpec,
    problem: str,
    *,
    where: str,
    values: Mapping[str, Any] | None = None,
    weighted: bool = False,
) -> TrainerParams:
    """The parameters of a candidate's trainer, once it is certain that it can do what the spec asks of it.

    Args:
        spec: the candidate.
        problem: problem of its use case.
        where: its place in the spec, for the message.
        values: parameters to check in place of those of the spec.
        weighted: whether the rows have weights of their own.

    Raises:
        SpecError: as `check_params`, or the trainer has no such thing as is asked for.
    """
    params = check_params(spec.trainer, given_params(spec) if values is None else values, where=where)
    with _outside(spec.trainer, "Params cannot tell what they learn and can", f"{where}.trainer"):
        supported, abilities = frozenset(params.supported), frozenset(params.abilities)
    if problem not in supported:
        raise SpecError(
            f"trainer {spec.trainer!r} cannot learn a {problem} problem so",
            where=f"{where}.trainer",
            remedy=f"it learns: {', '.join(sorted(supported))}; choose another trainer or estimator",
        )
    for ability, key, what in _asked(spec, params, weighted=weighted):
        if ability not in abilities:
            raise SpecError(
                f"trainer {spec.trainer!r} has no {what}",
                where=f"{where}.{key}",
                remedy=f"take {key} out, or choose a trainer that has it",
            )
    if isinstance(params, SklearnParams) or ":" in spec.trainer:
        _check_reader(spec.trainer, _make(spec.trainer, params, where), where)
    return params


def build_trainer(name: str, values: Mapping[str, Any], *, where: str) -> Trainer:
    """A trainer by name with its parameters.

    Raises:
        SpecError: as `check_params`.
        TrainingError: its library is not installed.
    """
    return _make(name, check_params(name, values, where=where), where)


def _make(name: str, params: TrainerParams, where: str) -> Trainer:
    known = _find(name, where)
    try:
        module = importlib.import_module(known.module)
    except ImportError as error:
        raise TrainingError(
            f"the library of trainer {name!r} cannot be imported: {error}",
            where=where,
            remedy=f"pip install 'millrace[{name}]' -c constraints.txt",
        ) from error
    try:
        with _outside(name, "cannot be made with its parameters", f"{where}.trainer"):
            trainer = getattr(module, known.name)(params)
    except SpecError as error:
        place = error.where if error.where.startswith(where) else f"{where}.{error.where}"
        raise SpecError(error.what, where=place, remedy=error.remedy) from error
    with _outside(name, "cannot tell what it is", f"{where}.trainer"):
        absent = [part for part in _PARTS if not hasattr(trainer, part)]
        wrong = [part for part, kind in _PARTS.items() if not isinstance(getattr(trainer, part, None), kind)]
    if absent or wrong:
        fault = f"lacks {', '.join(absent)}" if absent else f"has something else as {', '.join(wrong)}"
        raise SpecError(
            f"{name!r} is no trainer: it {fault}",
            where=f"{where}.trainer",
            remedy="give it what millrace.training.Trainer names",
        )
    return cast("Trainer", trainer)


def _check_reader(name: str, trainer: Trainer, where: str) -> None:
    """A model that nobody can read afterwards is not worth a training."""
    try:
        find_loader(trainer.model.format, name)
    except PackageError as error:
        raise SpecError(
            f"the model of trainer {name!r} could not be read: {error.what}",
            where=f"{where}.trainer",
            remedy=error.remedy,
        ) from error


@contextmanager
def _outside(name: str, what: str, where: str) -> Iterator[None]:
    """Whatever the code of a trainer outside Millrace raises becomes a fault of the candidate that names it."""
    try:
        yield
    except MillraceError:
        raise
    except (Exception, SystemExit) as error:
        if ":" not in name:
            raise
        raise SpecError(
            f"trainer {name!r}: {what}: {type(error).__name__}: {error}",
            where=where,
            remedy="correct the class: it is made by calling it with its `Params` alone, and is a "
            "millrace.training.Trainer then",
        ) from error


def _asked(spec: CandidateSpec, params: TrainerParams, *, weighted: bool) -> Iterator[tuple[str, str, str]]:
    """Abilities that a candidate asks for: (ability, key of the spec, what it is)."""
    if spec.monotone:
        yield "monotone", "monotone", "monotone features"
    if spec.class_weight is not None:
        yield "weights", "class_weight", "weights of classes"
    if weighted:
        yield "weights", "trainer", "weights of rows, and label.weight gives them"
    if spec.resources.gpu:
        yield "gpu", "resources.gpu", "use for a graphics card"
    elif params.device != "cpu":
        yield "gpu", "params.device", "use for a graphics card"
    if spec.workers > 1:
        yield "workers", "workers", "way to train one model by several workers"


def _find(name: str, where: str) -> _Known:
    if ":" in name:
        return _find_outside(name, f"{where}.trainer")
    known = _TRAINERS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, _TRAINERS, n=1)
        others = f"known are: {', '.join(list_trainers())}, or `package.module:Class` of an installed package"
        raise SpecError(
            f"no trainer {name!r}",
            where=f"{where}.trainer",
            remedy=f"did you mean {near[0]!r}?" if near else others,
        )
    return known


def _find_outside(name: str, where: str) -> _Known:
    """A trainer of another package, by `package.module:Class`."""
    module, _, class_name = name.partition(":")
    package = module.partition(".")[0]
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"trainer {name!r} cannot be imported: {type(error).__name__}: {error}",
            where=where,
            remedy=f"install the package {package!r} in this environment, or correct `package.module:Class`",
        ) from error
    params = getattr(found, "Params", None)
    if not (isinstance(found, type) and isinstance(params, type) and issubclass(params, TrainerParams)):
        raise SpecError(
            f"{name!r} is no trainer: {'it has no Params' if found else f'{module} has no {class_name}'}",
            where=where,
            remedy="name a class with what millrace.training.Trainer asks for, and `Params` derived from TrainerParams",
        )
    return _Known(module, class_name, params)
