"""Trainers by the name a spec gives; a library is imported only when its trainer is built."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from millrace.errors import SpecError, TrainingError
from millrace.spec.load import check_values
from millrace.training.base import Trainer
from millrace.training.params import BaselineParams, LightGBMParams, TorchParams, TrainerParams, XGBoostParams


@dataclass(frozen=True, slots=True)
class _Known:
    module: str
    name: str
    params: type[TrainerParams]


_TRAINERS = {
    "baseline": _Known("millrace.training.baseline_trainer", "BaselineTrainer", BaselineParams),
    "lightgbm": _Known("millrace.training.lightgbm_trainer", "LightGBMTrainer", LightGBMParams),
    "torch": _Known("millrace.training.torch_trainer", "TorchTrainer", TorchParams),
    "xgboost": _Known("millrace.training.xgboost_trainer", "XGBoostTrainer", XGBoostParams),
}


def list_trainers() -> list[str]:
    """Names of all trainers."""
    return sorted(_TRAINERS)


def check_params(name: str, values: Mapping[str, Any], *, where: str) -> TrainerParams:
    """The parameters of a trainer with defaults resolved; imports no library.

    Args:
        name: trainer as the spec names it.
        values: parameters of the spec.
        where: place in the spec, for the message.

    Raises:
        SpecError: no such trainer, an unknown parameter (with the nearest known one) or a wrong value.
    """
    return check_values(_find(name, where).params, values, where=f"{where}.params")


def build_trainer(name: str, values: Mapping[str, Any], *, where: str) -> Trainer:
    """A trainer by name with its parameters.

    Raises:
        SpecError: as `check_params`.
        TrainingError: its library is not installed.
    """
    params, known = check_params(name, values, where=where), _find(name, where)
    try:
        module = importlib.import_module(known.module)
    except ImportError as error:
        raise TrainingError(
            f"the library of trainer {name!r} cannot be imported: {error}",
            where=where,
            remedy=f"pip install 'millrace[{name}]' -c constraints.txt",
        ) from error
    return cast("Trainer", getattr(module, known.name)(params))


def _find(name: str, where: str) -> _Known:
    known = _TRAINERS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, _TRAINERS, n=1)
        raise SpecError(
            f"no trainer {name!r}",
            where=f"{where}.trainer",
            remedy=f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(list_trainers())}",
        )
    return known
