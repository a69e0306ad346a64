"""What `millrace check` asks of features computed on demand: that they load, answer, and answer row by row."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from millrace.errors import FeatureError, SpecError
from millrace.features.clock import clocks_in_python
from millrace.package import FeatureSpec, OnDemandView, read_sources
from millrace.package.definition import describe_view
from millrace.package.golden import same_values
from millrace.package.on_demand_function import OnDemandFunction
from millrace.spec import DomainSpec, UseCaseSpec

_ROWS, _ALONE = 257, 40
_NUMBERS = [None, 0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 100.0, 2013.0, 1e-9, -1e9, 1e300]
_TEXTS = [None, "", "A", "a", "0", "12", "EWR", "N102UW", "ünïcode", "two words"]


def on_demand_faults(domain: DomainSpec, folder: Path) -> Iterator[FeatureError]:
    """Faults of a domain's functions: they are loaded and called on made-up columns, whole and row by row.

    Args:
        domain: the domain.
        folder: folder of the domains' YAML.
    """
    for name in domain.on_demand:
        view = describe_view(name, domain)
        try:
            _probe(OnDemandFunction(view, read_sources([view], folder)[name]))
        except FeatureError as error:
            yield error


def service_faults(
    domain: DomainSpec, use_case: UseCaseSpec, clean: Collection[str], where: str
) -> Iterator[FeatureError]:
    """Faults of what a use case takes of the domain's functions.

    Args:
        domain: the domain.
        use_case: a use case on it.
        clean: columns of its entity's clean rows.
        where: its file, for messages.
    """
    if not use_case.features.on_demand:
        return
    try:
        features = FeatureSpec.of(use_case, domain)
    except SpecError as error:
        if "features.on_demand" in error.where:  # what is wrong with `features.views` is told elsewhere
            yield FeatureError(error.what, where=error.where, remedy=error.remedy)
        return
    for view in features.on_demand:
        place = f"{where}: features.on_demand.{view.view}"
        read = {column.name: "the view reads it of the request" for column in view.request}
        read |= {key: "a join key" for item in view.inputs for key in item.entities}
        for name, why in read.items():
            if name not in clean:
                near = difflib.get_close_matches(name, list(clean), n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"derive it, or use one of: {', '.join(clean)}"
                yield FeatureError(f"no clean column {name!r} ({why})", where=place, remedy=remedy)


def _probe(function: OnDemandFunction) -> None:
    file, _, name = function.view.function.partition(":")
    if clocks := clocks_in_python(function.source, name):
        raise FeatureError(
            f"{name} calls {', '.join(clocks)}, which gives another value another day",
            where=f"{file}, on-demand view {function.view.view!r}",
            remedy="take the time from a column of the request",
        )
    columns = _made_up(function.view)
    whole = function.compute(columns, _ROWS)
    again = function.compute(columns, _ROWS)
    turned = function.compute({name: values[::-1] for name, values in columns.items()}, _ROWS)
    alone = [
        function.compute({name: values[row : row + 1] for name, values in columns.items()}, 1) for row in range(_ALONE)
    ]
    for feature in (item.name for item in function.view.gives):
        ways: Mapping[str, tuple[Any, Any]] = {
            "called a second time": (again[feature], whole[feature]),
            "called with the rows in another order": (turned[feature][::-1], whole[feature]),
            "called with one row": ([found[feature][0] for found in alone], whole[feature][:_ALONE]),
        }
        for way, (found, expected) in ways.items():
            if not same_values(found, expected):
                raise FeatureError(
                    f"{function.view.function.partition(':')[2]} gives other values of {feature!r} when {way}",
                    where=f"{function.view.function}, on-demand view {function.view.view!r}",
                    remedy="compute each row of that row alone: no mean of the column, no rank, no clock, no chance",
                )


def _made_up(view: OnDemandView) -> dict[str, list[Any]]:
    """Columns of ordinary and of odd values, the same every time."""
    random = np.random.default_rng(7)
    columns: dict[str, list[Any]] = {}
    for column in view.reads:
        pool = _NUMBERS if column.kind == "number" else _TEXTS
        values: list[Any] = [pool[place] for place in random.integers(0, len(pool), _ROWS)]
        if column.kind == "number":
            drawn = random.normal(scale=1000, size=_ROWS).round(3).tolist()
            values = [value if place % 2 else new for place, (value, new) in enumerate(zip(values, drawn, strict=True))]
        columns[column.name] = values
    return columns
