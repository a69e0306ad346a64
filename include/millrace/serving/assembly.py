"""From what a request holds to what the model sees: a full vector as it is, or row columns and keys looked up.

There is no middle way: a request with some looked-up features and not others is refused, because filling the rest
from the online store would hide a forgotten column behind a value of another time.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.artifact import iso
from millrace.errors import FeatureError
from millrace.online import OnlineReader
from millrace.package import FeatureSpec, ViewFeatures
from millrace.serving.base import Column, InferenceRequest, Kind, RequestError

_NAMED_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureVector:
    """Every column of the model, and where it came from.

    Attributes:
        columns: model column → values.
        source: `request` or `online`.
        parameters: what the response tells about it.
        unknown: view → places of the rows whose entity the online store does not know (or not freshly enough).
    """

    columns: Mapping[str, Column]
    source: str
    parameters: Mapping[str, Any]
    unknown: Mapping[str, list[int]] = field(default_factory=dict)


def input_kinds(features: FeatureSpec) -> dict[str, Kind]:
    """Every input that a request may hold, with its kind: the model's columns, then join keys that are none of them."""
    kinds: dict[str, Kind] = {column.name: column.kind for column in features.model}
    return kinds | {name: "key" for name in features.entities if name not in kinds}


def assemble(features: FeatureSpec, request: InferenceRequest, store: OnlineReader | None) -> FeatureVector:
    """The model's columns for a request.

    Raises:
        RequestError: 400 for a request that is neither a full vector nor row columns and keys; 503 where the
            online store cannot answer.
    """
    given = request.columns
    missing = [name for name in features.columns if name not in given]
    if not missing:
        return FeatureVector(columns=given, source="request", parameters={"feature_source": "request"})
    looked_up = [name for view in features.views for name in view.features]
    needed = [*(column.name for column in features.row), *features.entities]
    absent = [name for name in dict.fromkeys(needed) if name not in given]
    if absent or any(name in given for name in looked_up):
        raise _neither(features, missing, absent)
    if store is None:
        raise RequestError(
            503,
            "this service has no online store to look features up in",
            remedy="send all features, or start it with --online-store",
        )
    columns = dict(given)
    unknown: dict[str, list[int]] = {}
    marks = []
    for view in features.views:
        values, mark = _read(view, [_entity(name, given[name]) for name in view.entities], request.rows, store)
        for name, column in zip(view.features, zip(*values, strict=True), strict=True):
            columns[name] = list(column)
        if nothing := [place for place, row in enumerate(values) if all(value is None for value in row)]:
            unknown[view.view] = nothing
        if mark is not None:
            marks.append(mark)
    parameters: dict[str, Any] = {
        "feature_source": "online",
        "high_water_mark": iso(min(marks)) if marks else "",
        "unknown_entities": sum(map(len, unknown.values())),
    }
    if unknown:
        parameters["unknown"] = "; ".join(_places(view, places) for view, places in unknown.items())
    return FeatureVector(columns=columns, source="online", parameters=parameters, unknown=unknown)


def _read(
    view: ViewFeatures, keys: list[Sequence[Any]], rows: int, store: OnlineReader
) -> tuple[list[list[Any]], datetime | None]:
    """Values of a view's features, one list a row, and the mark up to which the view is materialized."""
    entities = list(zip(*keys, strict=True))
    try:
        mark = store.high_water_mark(view.view)
        if rows == 1:
            return store.read(view.view, entities, view.features), mark
        distinct = list(dict.fromkeys(entities))
        found = dict(zip(distinct, store.read(view.view, distinct, view.features), strict=True))
        return [found[entity] for entity in entities], mark
    except OverflowError as error:
        raise RequestError(400, f"a key of {view.view!r} is larger than 64 bits") from error
    except FeatureError as error:
        raise _refused(view, store, error) from error
    except sqlite3.Error as error:
        raise RequestError(503, f"the online store cannot be read: {error}", remedy="try again") from error


def _refused(view: ViewFeatures, store: OnlineReader, error: FeatureError) -> RequestError:
    """400 where the key is at fault, 503 where the store has not what the release needs."""
    try:
        known = {name for name, _ in store.layout(view.view).features}
    except (FeatureError, sqlite3.Error):
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
    needed = dict.fromkeys([*(column.name for column in features.row), *features.entities])
    if not features.views:
        return RequestError(
            400, f"input missing: {', '.join(missing)}", remedy=f"send all of: {', '.join(features.columns)}"
        )
    by_key = f"{', '.join(needed)} and no other feature"
    lacking = f"by key, {', '.join(absent)} is missing" if absent else "by key, features of views are too many"
    return RequestError(
        400,
        f"input missing: {', '.join(missing)}",
        remedy=f"send the full vector ({len(features.columns)} inputs), or look up by key: send {by_key} ({lacking})",
    )


def _places(view: str, places: list[int]) -> str:
    shown = ",".join(map(str, places[:_NAMED_ROWS]))
    return f"{view}: rows {shown}" + (f" and {len(places) - _NAMED_ROWS} more" if len(places) > _NAMED_ROWS else "")
