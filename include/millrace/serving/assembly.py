"""From what a request holds to what the model sees: a full vector as it is, or row columns and keys looked up.

There is no middle way: a request with some looked-up features and not others is refused, because filling the rest
from the online store would hide a forgotten column behind a value of another time. Features computed on demand are
computed here where none of them is sent: of what was looked up, or of a request that holds all that goes into them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.artifact import iso
from millrace.errors import FeatureError, OnlineStoreUnavailableError, SettingsError
from millrace.online import OnlineReader
from millrace.package import FeatureSpec, OnDemandFunctions, ViewFeatures
from millrace.serving.base import Column, InferenceRequest, Kind, RequestError

_NAMED_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVector:
    """Every column of the model, and where it came from.

    Attributes:
        columns: model column → values, and whatever else was sent or looked up.
        source: `request` or `online`.
        parameters: what the response tells about it.
        unknown: view → places of the rows whose entity the online store does not know (or not freshly enough).
        marks: view → instant through which it was materialized when its values were read.
    """

    columns: Mapping[str, Column]
    source: str
    parameters: Mapping[str, Any]
    unknown: Mapping[str, list[int]] = field(default_factory=dict)
    marks: Mapping[str, datetime] = field(default_factory=dict)


def input_kinds(features: FeatureSpec) -> dict[str, Kind]:
    """Every input that a request may hold, with its kind: columns of the model and of functions, then join keys."""
    kinds: dict[str, Kind] = {column.name: column.kind for column in (*features.model, *features.hidden)}
    return kinds | {name: "key" for name in features.entities if name not in kinds}


def assemble(
    features: FeatureSpec,
    request: InferenceRequest,
    store: OnlineReader | None,
    functions: OnDemandFunctions | None = None,
) -> FeatureVector:
    """The model's columns for a request.

    Args:
        features: what the model sees.
        request: what was sent.
        store: where features are looked up.
        functions: those of the package, where it has features computed on demand.

    Raises:
        RequestError: 400 for a request that is neither a full vector nor row columns and keys; 503 where the
            online store cannot answer; 500 where a function of the package fails.
    """
    given = request.columns
    missing = [name for name in features.columns if name not in given]
    if not missing:
        return FeatureVector(columns=given, source="request", parameters={"feature_source": "request"})
    looked_up = [name for view in features.lookups for name in view.features]
    needed = dict.fromkeys([*(column.name for column in features.request), *features.entities])
    sent = [name for name in (*looked_up, *features.computed) if name in given]
    if features.on_demand and sent == looked_up and all(column.name in given for column in features.request):
        columns = _compute(functions, given, request.rows)
        return FeatureVector(columns=columns, source="request", parameters={"feature_source": "request"})
    absent = [name for name in needed if name not in given]
    if absent or sent:
        raise _neither(features, missing, absent)
    if store is None:
        raise RequestError(
            503,
            "this service has no online store to look features up in",
            remedy="send all features, or start it with --online-store",
        )
    columns = dict(given)
    unknown: dict[str, list[int]] = {}
    marks: dict[str, datetime] = {}
    for view in features.lookups:
        values, mark = _read(view, [_entity(name, given[name]) for name in view.entities], request.rows, store)
        for name, column in zip(view.features, zip(*values, strict=True), strict=True):
            columns[name] = list(column)
        if nothing := [place for place, row in enumerate(values) if all(value is None for value in row)]:
            unknown[view.view] = nothing
        if mark is not None:
            marks[view.view] = mark
    parameters: dict[str, Any] = {
        "feature_source": "online",
        "high_water_mark": iso(min(marks.values())) if marks else "",
        "unknown_entities": sum(map(len, unknown.values())),
    }
    if unknown:
        parameters["unknown"] = "; ".join(_places(view, places) for view, places in unknown.items())
    columns = _compute(functions, columns, request.rows)
    return FeatureVector(columns=columns, source="online", parameters=parameters, unknown=unknown, marks=marks)


def _compute(functions: OnDemandFunctions | None, columns: Mapping[str, Column], rows: int) -> Mapping[str, Column]:
    """The columns with the features computed on demand."""
    if functions is None:
        return columns
    try:
        return functions.add(columns, rows)
    except FeatureError as error:
        where = f" ({error.where})" if error.where else ""
        raise RequestError(
            500, f"{error.what}{where}", remedy="roll the release back, and mend the function"
        ) from error


def _read(
    view: ViewFeatures, keys: list[Sequence[Any]], rows: int, store: OnlineReader
) -> tuple[list[list[Any]], datetime | None]:
    """Values of a view's features, one list a row, and the mark up to which the view is materialized."""
    entities = list(zip(*keys, strict=True))
    try:
        if rows == 1:
            found = store.look_up(view.view, entities, view.features)
            return found.values, found.high_water_mark
        distinct = list(dict.fromkeys(entities))
        found = store.look_up(view.view, distinct, view.features)
        by_entity = dict(zip(distinct, found.values, strict=True))
        return [by_entity[entity] for entity in entities], found.high_water_mark
    except (OnlineStoreUnavailableError, SettingsError) as error:
        raise RequestError(503, error.what, remedy=error.remedy) from error
    except FeatureError as error:
        raise _refused(view, store, error) from error


def _refused(view: ViewFeatures, store: OnlineReader, error: FeatureError) -> RequestError:
    """400 where the key is at fault, 503 where the store has not what the release needs."""
    try:
        known = {name for name, _ in store.layout(view.view).features}
    except FeatureError:
        known = set()
    if known.issuperset(view.features):
        return RequestError(400, error.what, remedy=error.remedy)
    return RequestError(503, error.what, remedy=error.remedy or "materialize the domain's features")


def _entity(name: str, column: Column) -> Sequence[Any]:
    """Values of a join key; a number of the model that is also a key is one where it is whole."""
    if isinstance(column, list) and not any(isinstance(value, float) for value in column):
        return column
    whole: list[Any] = []
    for value in column:
        known = value is not None and not math.isnan(value)
        if known and not float(value).is_integer():
            raise RequestError(400, f"input {name!r} is a join key, {value} is none", remedy="send a whole number")
        whole.append(int(value) if known else None)
    return whole


def _neither(features: FeatureSpec, missing: list[str], absent: list[str]) -> RequestError:
    needed = dict.fromkeys([*(column.name for column in features.request), *features.entities])
    if not features.lookups and not features.on_demand:
        return RequestError(
            400, f"input missing: {', '.join(missing)}", remedy=f"send all of: {', '.join(features.columns)}"
        )
    by_key = f"{', '.join(needed)} and no other feature"
    lacking = f"by key, {', '.join(absent)} is missing" if absent else "by key, features of views are too many"
    full = f"send the full vector ({len(features.columns)} inputs)"
    if features.on_demand:
        full += (
            f", or without {', '.join(features.computed)} all of: {', '.join(item.name for item in features.inputs)}"
        )
    return RequestError(
        400,
        f"input missing: {', '.join(missing)}",
        remedy=f"{full}, or look up by key: send {by_key} ({lacking})",
    )


def _places(view: str, places: list[int]) -> str:
    shown = ",".join(map(str, places[:_NAMED_ROWS]))
    return f"{view}: rows {shown}" + (f" and {len(places) - _NAMED_ROWS} more" if len(places) > _NAMED_ROWS else "")
