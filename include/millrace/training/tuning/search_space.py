"""The search space of a candidate: checked against its trainer, and its values turned into parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.artifact import canonical
from millrace.errors import SpecError
from millrace.spec import CandidateSpec
from millrace.spec.candidate import Choice, FloatRange, IntRange, SearchSpace
from millrace.training.params import SklearnParams, TrainerParams
from millrace.training.registry import build_trainer, check_params

_NEAR = 1e-9
Item = IntRange | FloatRange | Choice


def check_space(candidate: CandidateSpec, *, where: str) -> None:
    """Refuse a search space whose names or bounds the trainer does not take; imports no library of ours.

    Args:
        candidate: one with or without tuning.
        where: place of the candidate in its spec.

    Raises:
        SpecError: a name the trainer has not, or a bound or choice it does not take.
    """
    if candidate.tuning is None:
        return
    for name, item in candidate.tuning.space.items():
        for value in item.choices if isinstance(item, Choice) else (item.low, item.high):
            try:
                values = merged(candidate.params, {name: value})
                if isinstance(check_params(candidate.trainer, values, where=where), SklearnParams):
                    build_trainer(candidate.trainer, values, where=where)  # the estimator knows its own settings
            except SpecError as error:
                place = f"{where}.tuning.space.{name}"
                raise SpecError(f"{value!r} cannot be tried: {error.what}", where=place, remedy=error.remedy) from error


def merged(params: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with those found over them; a dotted name (`settings.C`) reaches into a mapping.

    Raises:
        SpecError: a dotted name reaches into something that is no mapping.
    """
    result = dict(params)
    for name, value in found.items():
        head, _, rest = name.partition(".")
        if not rest:
            result[name] = value
            continue
        inner = result.get(head, {})
        if not isinstance(inner, Mapping):
            raise SpecError(
                f"{head!r} holds {inner!r}, no mapping that {name!r} could be in",
                where=f"tuning.space.{name}",
                remedy="name a parameter of the trainer",
            )
        result[head] = merged(inner, {rest: value})
    return result


def changes(params: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What `found` makes of `params`, at the top level alone: what a job takes over the parameters of its spec."""
    whole = merged(params, found)
    return {name: whole[name] for name in dict.fromkeys(name.partition(".")[0] for name in found)}


def start_values(space: SearchSpace, params: TrainerParams) -> dict[str, Any]:
    """The trainer's own values of what is searched, as far as the space holds them."""
    plain, found = params.model_dump(mode="json"), {}
    for name, item in space.items():
        value: Any = plain
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and holds(item, value):
            found[name] = value
    return found


def holds(item: Item, value: Any) -> bool:
    """Whether a range or choice has a value."""
    if isinstance(item, Choice):
        return label_of(value) in labels(item)
    if isinstance(value, bool) or not isinstance(value, int | float) or not item.low <= value <= item.high:
        return False
    if isinstance(item, IntRange) and value != int(value):
        return False
    steps = (value - item.low) / item.step if item.step else 0.0
    return abs(steps - round(steps)) < _NEAR


def labels(item: Choice) -> list[Any]:
    """The choices as a study keeps them: plain values as they are, lists and mappings as JSON."""
    return [label_of(choice) for choice in item.choices]


def label_of(value: Any) -> Any:
    """A choice as a study keeps it."""
    return canonical(value).decode() if isinstance(value, list | tuple | dict) else value


def value_of(item: Item, kept: Any) -> Any:
    """A value of the spec from what a study keeps."""
    return item.choices[labels(item).index(kept)] if isinstance(item, Choice) else kept
