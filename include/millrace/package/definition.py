"""The feature spec of a use case: what its feature service names, found in the domain and checked against it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from millrace.errors import SpecError
from millrace.package.feature import Column, FeatureSpec, Kind, OnDemandView, ViewFeatures
from millrace.spec import DomainSpec, FeatureTableSpec, OnDemandSpec, UseCaseSpec

SpecT = TypeVar("SpecT")


def define_features(use_case: UseCaseSpec, domain: DomainSpec) -> FeatureSpec:
    """The feature spec of a use case on its domain.

    Raises:
        SpecError: the use case names a feature table, an on-demand view or a feature that the domain has not, or two
            columns of one name are not the same.
    """
    service, where = use_case.features, f"use_cases/{use_case.name}.yaml: features"
    categories = set(service.categories)
    features = FeatureSpec(
        service=service.name,
        problem=use_case.problem,
        key=use_case.entity.key,
        timestamp=use_case.entity.timestamp,
        row=[Column(name=name, kind=kind) for name, kind in service.row.items()],
        views=[
            _view(name, taken, _known(name, domain.feature_tables, "feature table", f"{where}.views"), f"{where}.views")
            for name, taken in service.views.items()
        ],
        model=[Column(name=name, kind="category" if name in categories else "number") for name in service.columns],
        on_demand=[
            _on_demand(name, taken, domain, f"{where}.on_demand.{name}") for name, taken in service.on_demand.items()
        ],
    )
    for view in features.on_demand:
        _check_columns(features, view, use_case, f"{where}.on_demand.{view.view}")
    return features


def describe_view(name: str, domain: DomainSpec) -> OnDemandView:
    """An on-demand view of a domain with all of its features.

    Raises:
        SpecError: the domain has none of that name.
    """
    where = f"domains/{domain.name}.yaml: on_demand"
    spec = _known(name, domain.on_demand, "on-demand view", where)
    return _on_demand(name, list(spec.features), domain, f"{where}.{name}")


def _view(name: str, taken: list[str], table: FeatureTableSpec, where: str) -> ViewFeatures:
    for feature in taken:
        _known(feature, table.features, "feature", f"{where}.{name}")
    return ViewFeatures(view=name, entities=list(table.entities), features=list(taken), ttl_hours=table.ttl_hours)


def _on_demand(name: str, taken: list[str], domain: DomainSpec, where: str) -> OnDemandView:
    spec: OnDemandSpec = _known(name, domain.on_demand, "on-demand view", where)
    for feature in taken:
        _known(feature, spec.features, "feature", where)
    inputs = [_view(table, read, domain.feature_tables[table], where) for table, read in spec.inputs.items()]
    looked_up = [
        Column(name=feature, kind=_kind(domain.feature_tables[view.view], feature))
        for view in inputs
        for feature in view.features
    ]
    return OnDemandView(
        view=name,
        function=spec.function,
        inputs=inputs,
        reads=[*looked_up, *(Column(name=column, kind=kind) for column, kind in spec.request.items())],
        gives=[Column(name=feature, kind=kind) for feature, kind in spec.features.items()],
        features=list(taken),
    )


def _kind(table: FeatureTableSpec, feature: str) -> Kind:
    return "category" if table.features[feature] == "string" else "number"


def _check_columns(features: FeatureSpec, view: OnDemandView, use_case: UseCaseSpec, where: str) -> None:
    model = {column.name: column.kind for column in features.model}
    for column in (*view.reads, *(item for item in view.gives if item.name in view.features)):
        if model.get(column.name, column.kind) != column.kind:
            raise SpecError(
                f"{column.name!r} is a {column.kind} of {view.view!r} and a {model[column.name]} of the model",
                where=where,
                remedy=f"make it the same in both: `categorical` and `row` say what is a category in {use_case.name!r}",
            )
    sent = {column.name for column in features.request}
    fetched = {name for item in features.lookups for name in item.features}
    if twice := sorted((sent & fetched) | (sent | fetched) & set(features.computed)):
        raise SpecError(
            f"{', '.join(map(repr, twice))} would be two columns: of the request, looked up or computed",
            where=where,
            remedy="rename one of them",
        )
    if late := sorted({column.name for column in view.request} & set(use_case.leaks)):
        raise SpecError(
            f"{view.view!r} reads {', '.join(map(repr, late))}, which the use case declares as leaks",
            where=where,
            remedy="take the view out, or let it read what is known when the prediction is made",
        )


def _known(name: str, known: Mapping[str, SpecT], kind: str, where: str) -> SpecT:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, list(known), n=1)
    raise SpecError(
        f"no {kind} {name!r} in the domain",
        where=where,
        remedy=f"did you mean {near[0]!r}?" if near else _listing(known),
    )


def _listing(known: Iterable[str]) -> str:
    return f"known are: {', '.join(known) or '(none)'}"
