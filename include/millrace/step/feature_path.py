"""Both paths to a row's features, side by side: what the online store answered, and the lake as of the same instant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from millrace.features.base import EVENT_TIMESTAMP, INSTANT
from millrace.features.skew import Difference, differing_rows, plain
from millrace.package import Package, ViewFeatures
from millrace.serving.sampled_row import SampledRow
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.feature_registry import apply_features

if TYPE_CHECKING:
    from feast import FeatureStore

Asked = tuple[tuple[Any, ...], int]
"""A join key and the instant (microseconds since 1970) as of which its features are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Rows over both paths.

    Attributes:
        rows: how many.
        differences: what is not the same, by row and feature.
        offline: feature → values of the offline path, row for row.
        views: feature → the view or function that it is of, for every feature compared.
    """

    rows: int
    differences: list[Difference]
    offline: dict[str, list[Any]]
    views: dict[str, str]


def compare_paths(
    domain: DomainSpec, package: Package, rows: Sequence[SampledRow], *, settings: Settings
) -> Comparison:
    """Look features up again in the lake, each view as of the mark that it was read at, and compare.

    A fact that became usable at the very instant of a mark belongs to the partition that begins there, and may or may
    not stand in a store that was materialized up to it: a row of a view is right if it is what was known at the mark,
    or just before it.

    Args:
        domain: the domain of the use case.
        package: says which features of which views there are.
        rows: what was answered online.
        settings: this installation.
    """
    store, features = _store(domain, settings), package.features
    differences: list[Difference] = []
    offline: dict[str, list[Any]] = {}
    for view in features.lookups:
        differences.extend(_compare_view(store, view, rows, offline))
    if features.on_demand:
        differences.extend(_compare_functions(package, rows, offline))
    views = {feature: view.view for view in features.lookups for feature in view.features}
    views |= {feature: item.view for item in features.on_demand for feature in item.features}
    return Comparison(rows=len(rows), differences=differences, offline=offline, views=views)


def model_columns(package: Package, rows: Sequence[SampledRow], offline: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The model's columns of rows that hold their request, with everything else as the lake has it."""
    asked = {column.name: [row.columns[column.name] for row in rows] for column in package.features.request}
    columns = package.functions.add({**asked, **offline}, len(rows))
    return {name: columns[name] for name in package.features.columns}


def _compare_view(
    store: FeatureStore, view: ViewFeatures, rows: Sequence[SampledRow], offline: dict[str, list[Any]]
) -> list[Difference]:
    """Differences of one view; its offline values are added to `offline`."""
    asked = [asked_of(view, row) for row in rows]
    online = {name: [plain(row.columns.get(name)) for row in rows] for name in view.features}
    there = _look_up(store, view, asked)
    differing = differing_rows(online, there)
    if differing:
        before = _look_up(store, view, [(key, mark - 1) for key, mark in (asked[row] for row in differing)])
        differing = _settle(differing, online, there, before)
    offline.update(there)
    return [
        Difference(feature=name, view=view.view, row=row, online=online[name][row], offline=there[name][row])
        for row, names in differing.items()
        for name in names
    ]


def _settle(
    differing: Mapping[int, list[str]],
    online: Mapping[str, list[Any]],
    there: dict[str, list[Any]],
    before: Mapping[str, list[Any]],
) -> dict[int, list[str]]:
    """What still differs of rows that differ at the mark, held against what was known just before it.

    Rows that are right then are right. The others are held against the one of the two instants at which less of them
    differs: one cause changes few features, a wrong instant many. What they are held against goes into `there`.
    """
    rows = list(differing)
    answers = {name: [values[row] for row in rows] for name, values in online.items()}
    then = {rows[place]: names for place, names in differing_rows(answers, before).items()}
    fewer = sum(map(len, then.values())) < sum(len(differing[row]) for row in then)
    for place, row in enumerate(rows):
        if row not in then or fewer:
            for name, values in before.items():
                there[name][row] = values[place]
    return then if fewer else {row: differing[row] for row in then}


def _compare_functions(package: Package, rows: Sequence[SampledRow], offline: dict[str, list[Any]]) -> list[Difference]:
    """Differences of what functions compute; their values on the offline path are added to `offline`."""
    needed = (column for item in package.features.on_demand for column in item.request)
    asked = {column.name: [row.columns.get(column.name) for row in rows] for column in needed}
    computed = package.functions.add({**asked, **offline}, len(rows))
    view_of = {name: item.view for item in package.features.on_demand for name in item.features}
    online = {name: [plain(row.columns.get(name)) for row in rows] for name in view_of}
    there = {name: [plain(value) for value in computed[name]] for name in view_of}
    offline.update(there)
    return [
        Difference(feature=name, view=view_of[name], row=row, online=online[name][row], offline=there[name][row])
        for row, names in differing_rows(online, there).items()
        for name in names
    ]


def asked_of(view: ViewFeatures, row: SampledRow) -> Asked:
    """The join key of a row in a view, and the mark that the view was read at (0 where it was never materialized)."""
    return tuple(_key(row.columns.get(name)) for name in view.entities), row.marks.get(view.view, 0)


def example_key(package: Package, view: str, row: SampledRow) -> dict[str, Any]:
    """What a row was looked up by in a view, or what a function read."""
    for item in package.features.on_demand:
        if item.view == view:
            return {column.name: row.columns.get(column.name) for column in item.reads}
    entities = next((item.entities for item in package.features.lookups if item.view == view), [])
    return {name: _key(row.columns.get(name)) for name in entities}


def _look_up(store: FeatureStore, view: ViewFeatures, asked: Sequence[Asked]) -> dict[str, list[Any]]:
    """Feature → values in the lake, each as of its own instant; each question is asked once.

    Nothing is known of a key that is null in a part.
    """
    distinct = [question for question in dict.fromkeys(asked) if None not in question[0]]
    if not distinct:
        return {name: [None] * len(asked) for name in view.features}
    columns: dict[str, Any] = {
        name: pa.array([key[place] for key, _ in distinct]) for place, name in enumerate(view.entities)
    }
    instants = pa.array([instant for _, instant in distinct], pa.int64()).cast(INSTANT)
    frame = pa.table({**columns, EVENT_TIMESTAMP: instants})
    refs = [f"{view.view}:{name}" for name in view.features]
    found = store.get_historical_features(entity_df=frame, features=refs).to_arrow()
    place_of = {question: place for place, question in enumerate(distinct)}
    places = [place_of.get(question) for question in asked]
    values = {name: [plain(value) for value in found.column(name).to_pylist()] for name in view.features}
    return {name: [None if place is None else column[place] for place in places] for name, column in values.items()}


def _key(value: Any) -> Any:
    """A number of the model that is also a join key is a whole one."""
    return int(value) if isinstance(value, float) else value


def _store(domain: DomainSpec, settings: Settings) -> FeatureStore:
    revision = apply_features(domain, [], settings=settings)
    from millrace.features.feast_registry import open_store

    return open_store(settings, revision=revision)
