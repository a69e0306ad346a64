"""What a package says of its features: all that an online service needs to find and order them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from millrace.errors import SpecError

if TYPE_CHECKING:
    from millrace.spec import DomainSpec, UseCaseSpec

Kind = Literal["number", "category"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column and how it is read.

    Attributes:
        name: its name.
        kind: `number` or `category`.
    """

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFeatures:
    """The features that a model takes from one feature view.

    Attributes:
        view: name of the feature view.
        entities: its join keys.
        features: features taken from it, in model order.
        ttl_hours: how long a value stays usable after its event_timestamp; 0 for ever.
    """

    view: str
    entities: list[str]
    features: list[str]
    ttl_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """The features of a package, in the order the model sees them.

    Attributes:
        service: name of the feature service.
        problem: `binary` or `regression`.
        key: column of the entity row that identifies it.
        timestamp: column of the entity row with the instant of prediction.
        row: columns that come with the request.
        views: features looked up, view by view.
        model: every column the model sees, in order.
    """

    service: str
    problem: str
    key: str
    timestamp: str
    row: list[Column]
    views: list[ViewFeatures]
    model: list[Column]

    @classmethod
    def of(cls, use_case: UseCaseSpec, domain: DomainSpec) -> FeatureSpec:
        """The feature spec of a use case on its domain.

        Raises:
            SpecError: the use case names a feature table or a feature that the domain has not.
        """
        service, categories = use_case.features, set(use_case.features.categories)
        views = []
        for view, features in service.views.items():
            known = domain.feature_tables.get(view)
            if known is None:
                raise _unknown(use_case.name, f"features.views.{view}", view, list(domain.feature_tables))
            for feature in features:
                if feature not in known.features:
                    raise _unknown(use_case.name, f"features.views.{view}", feature, list(known.features))
            views.append(
                ViewFeatures(
                    view=view, entities=list(known.entities), features=list(features), ttl_hours=known.ttl_hours
                )
            )
        return cls(
            service=service.name,
            problem=use_case.problem,
            key=use_case.entity.key,
            timestamp=use_case.entity.timestamp,
            row=[Column(name=name, kind=kind) for name, kind in service.row.items()],
            views=views,
            model=[Column(name=name, kind="category" if name in categories else "number") for name in service.columns],
        )

    @property
    def columns(self) -> list[str]:
        """Names of the model's columns, in order."""
        return [column.name for column in self.model]

    @property
    def categories(self) -> list[str]:
        """Those of them that are categories."""
        return [column.name for column in self.model if column.kind == "category"]

    @property
    def entities(self) -> list[str]:
        """Join keys of all views, each once, in order of first use."""
        return list(dict.fromkeys(name for view in self.views for name in view.entities))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSpec:
        """The value that `to_dict` was called on."""
        return cls(
            **{
                **plain,
                "row": [Column(**item) for item in plain["row"]],
                "views": [ViewFeatures(**item) for item in plain["views"]],
                "model": [Column(**item) for item in plain["model"]],
            }
        )


def _unknown(use_case: str, place: str, name: str, known: list[str]) -> SpecError:
    near = difflib.get_close_matches(name, known, n=1)
    return SpecError(
        f"{name!r} is not in the domain's feature tables",
        where=f"use_cases/{use_case}.yaml: {place}",
        remedy=f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}",
    )
