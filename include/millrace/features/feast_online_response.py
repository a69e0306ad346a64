"""Feast's answer to an online request, kept as plain columns: its protobuf is made only when somebody asks for it.

Feast makes a protobuf of every value and turns it back for `to_dict`, which takes longer than all reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from feast import FeatureView, ValueType, metrics, utils
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.type_map import python_values_to_proto_values
from google.protobuf.timestamp_pb2 import Timestamp

from millrace.features.feast_protobuf import NULL, to_protos, to_pythons
from millrace.online import ViewLayout

StoredRow = tuple[datetime, list[Any]] | None
_NOWHERE = Timestamp()
_PLAIN: dict[Any, type] = {ValueType.STRING: str, ValueType.INT32: int, ValueType.INT64: int}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRequest:
    """An online request that asks for stored features by plain keys, and nothing else.

    Attributes:
        groups: feature views with the features asked of each.
        keys: join key → values, one a row.
        kinds: join key → Feast's type of it.
    """

    groups: Sequence[tuple[FeatureView, Sequence[str]]]
    keys: Mapping[str, Sequence[Any]]
    kinds: Mapping[str, Any]

    def entities(self, view: FeatureView) -> list[tuple[Any, ...]]:
        """The key of each row in a view, which may know its join keys by other names."""
        known_as = view.projection.join_key_map
        return list(
            zip(*(self.keys[known_as.get(field.name, field.name)] for field in view.entity_columns), strict=True)
        )


def plain_request(
    registry: Any, project: str, features: Any, entity_rows: Any, *, full_names: bool
) -> PlainRequest | None:
    """The request, where it is plain; None where Feast's own way has to answer it, or refuse it."""
    if metrics._config.online_features or getattr(features, "precompute_online", False):
        return None
    _, on_demand, _, kinds, join_keys, groups, _, needed, without_entity = utils._get_cached_request_context(
        registry, project, features, full_names
    )
    keys = _columns(entity_rows)
    if on_demand or needed or without_entity or not keys or not keys.keys() <= join_keys:
        return None
    for view, _ in groups:
        known_as = view.projection.join_key_map
        if getattr(view.projection, "version_tag", None) is not None:
            return None
        if any(known_as.get(field.name, field.name) not in keys for field in view.entity_columns):
            return None
    for name, values in keys.items():
        plain = _PLAIN.get(kinds.get(name))
        if plain is None or any(type(value) is not plain for value in values):
            return None
    return PlainRequest(groups=groups, keys=keys, kinds=kinds)


def _columns(entity_rows: Any) -> dict[str, list[Any]]:
    """Values by name; empty where rows differ in their names or length, which Feast then says in its own words."""
    if isinstance(entity_rows, list):
        if not entity_rows or any(row.keys() != entity_rows[0].keys() for row in entity_rows):
            return {}
        return {name: [row[name] for row in entity_rows] for name in entity_rows[0]}
    if not all(isinstance(values, (list, tuple)) for values in entity_rows.values()):
        return {}
    found = {name: list(values) for name, values in entity_rows.items()}
    return found if len({len(values) for values in found.values()}) == 1 else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredView:
    """What the store gave for one view of a request.

    Attributes:
        prefix: what stands before the names of its features.
        features: names asked.
        layout: of the view; None where the store has none such.
        rows: one a row of the request.
    """

    prefix: str
    features: Sequence[str]
    layout: ViewLayout | None
    rows: Sequence[StoredRow]

    def columns(self) -> list[tuple[str, str, list[Any]]]:
        """(name, kind, values) a feature; None for what the store does not hold."""
        places = {} if self.layout is None else {name: at for at, (name, _) in enumerate(self.layout.features)}
        found = []
        for name in self.features:
            if self.layout is not None and name in places:
                at = places[name]
                values = [None if row is None else row[1][at] for row in self.rows]
                found.append((self.prefix + name, self.layout.features[at][1], values))
            else:
                found.append((self.prefix + name, "", [None] * len(self.rows)))
        return found

    def vectors(self) -> list[GetOnlineFeaturesResponse.FeatureVector]:
        """Feast's vector a feature; what the store does not hold is `NOT_FOUND`."""
        stamps = [_NOWHERE if row is None else _timestamp(row[0]) for row in self.rows]
        found = [FieldStatus.NOT_FOUND if row is None else FieldStatus.PRESENT for row in self.rows]
        return [
            GetOnlineFeaturesResponse.FeatureVector(
                values=to_protos(values, kind) if kind else [NULL] * len(values),
                statuses=found if kind else [FieldStatus.NOT_FOUND] * len(values),
                event_timestamps=stamps if kind or self.layout is not None else [_NOWHERE] * len(values),
            )
            for _, kind, values in self.columns()
        ]


class PackedOnlineResponse(OnlineResponse):
    """The answer to a plain request.

    Args:
        request: what was asked.
        views: what the store gave.
        types: name → Feast's type, as every response of Feast has it.
    """

    def __init__(self, request: PlainRequest, views: Sequence[AnsweredView], types: dict[str, Any]) -> None:
        self._request = request
        self._views = views
        self._feature_types = types

    @cached_property
    def proto(self) -> GetOnlineFeaturesResponse:
        """The protobuf, as Feast's own way would have made it."""
        response = GetOnlineFeaturesResponse(results=[])
        keys = {
            name: python_values_to_proto_values(values, self._request.kinds[name])
            for name, values in self._request.keys.items()
        }
        utils._populate_result_rows_from_columnar(online_features_response=response, data=keys)
        for view in self._views:
            response.metadata.feature_names.val.extend(view.prefix + name for name in view.features)
            response.results.extend(view.vectors())
        return response

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """Values by name, and with timestamps the second of each row's fact, 0 where there is none."""
        found: dict[str, Any] = {}
        for name, values in self._request.keys.items():
            found[name] = list(values)
            if include_event_timestamps:
                found[f"{name}__ts"] = [0] * len(values)
        for view in self._views:
            stamps = [0 if row is None else int(row[0].timestamp() // 1) for row in view.rows]
            for name, kind, values in view.columns():
                found[name] = to_pythons(values, kind)
                if include_event_timestamps:
                    found[f"{name}__ts"] = stamps if kind else [0] * len(values)
        return found


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp
