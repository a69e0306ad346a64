"""What a package says of its features: all that an online service needs to find and order them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from millrace.spec import DomainSpec, UseCaseSpec
    from millrace.spec.use_case import FeatureServiceSpec

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
class OnDemandView:
    """A function that computes features when they are asked for, and what it reads.

    Attributes:
        view: name of the on-demand view.
        function: file beside the domain's YAML and function in it.
        inputs: features looked up for it.
        reads: every column it is called with: the features looked up, then those of the request.
        gives: every feature it returns.
        features: those of them that the model takes, in model order.
    """

    view: str
    function: str
    inputs: list[ViewFeatures]
    reads: list[Column]
    gives: list[Column]
    features: list[str]

    @property
    def file(self) -> str:
        """Name of its source file in a package."""
        return f"on_demand_{self.view}.py"

    @property
    def request(self) -> list[Column]:
        """What it reads of the request."""
        looked_up = {name for view in self.inputs for name in view.features}
        return [column for column in self.reads if column.name not in looked_up]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> OnDemandView:
        """The value that `dataclasses.asdict` was called on."""
        return cls(
            **{
                **plain,
                "inputs": [ViewFeatures(**item) for item in plain["inputs"]],
                "reads": [Column(**item) for item in plain["reads"]],
                "gives": [Column(**item) for item in plain["gives"]],
            }
        )


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """The features of a package, in the order the model sees them.

    It has no slots, so that what follows from the fields is made once: the online service asks with every request.

    Attributes:
        service: name of the feature service.
        problem: `binary`, `multiclass` or `regression`.
        key: column of the entity row that identifies it.
        timestamp: column of the entity row with the instant of prediction.
        row: columns of the model that come with the request.
        views: columns of the model that are looked up, view by view.
        model: every column the model sees, in order.
        on_demand: columns of the model that are computed of others, function by function.
    """

    service: str
    problem: str
    key: str
    timestamp: str
    row: list[Column]
    views: list[ViewFeatures]
    model: list[Column]
    on_demand: list[OnDemandView] = field(default_factory=list)

    @classmethod
    def of(cls, use_case: UseCaseSpec, domain: DomainSpec) -> FeatureSpec:
        """The feature spec of a use case on its domain.

        Raises:
            SpecError: the use case names a feature table, an on-demand view or a feature that the domain has not.
        """
        from millrace.package.definition import define_features

        return define_features(use_case, domain)

    def service_spec(self) -> FeatureServiceSpec:
        """The features section of a use case that this was made of: the way back from `of`."""
        from millrace.spec.use_case import FeatureServiceSpec

        own = {column.name: column.kind for column in self.row}
        return FeatureServiceSpec(
            name=self.service,
            views={view.view: list(view.features) for view in self.views},
            row=own,
            on_demand={item.view: list(item.features) for item in self.on_demand},
            categorical=[name for name in self.categories if name not in own],
        )

    @cached_property
    def columns(self) -> list[str]:
        """Names of the model's columns, in order."""
        return [column.name for column in self.model]

    @cached_property
    def categories(self) -> list[str]:
        """Those of them that are categories."""
        return [column.name for column in self.model if column.kind == "category"]

    @cached_property
    def computed(self) -> list[str]:
        """Those of them that functions compute."""
        return [name for item in self.on_demand for name in item.features]

    @cached_property
    def lookups(self) -> list[ViewFeatures]:
        """All that is looked up, view by view: what the model takes, then what only functions read."""
        found = {view.view: view for view in self.views}
        for view in (view for item in self.on_demand for view in item.inputs):
            known = found.get(view.view)
            merged = list(dict.fromkeys([*(known.features if known else ()), *view.features]))
            found[view.view] = dataclasses.replace(view, features=merged)
        return list(found.values())

    @cached_property
    def request(self) -> list[Column]:
        """All that comes with the request: columns of the model, then what only functions read."""
        columns = [*self.row, *(column for item in self.on_demand for column in item.request)]
        return list({column.name: column for column in columns}.values())

    @cached_property
    def inputs(self) -> list[Column]:
        """All that comes with the request or is looked up; everything else is computed of it."""
        kinds = {column.name: column for item in self.on_demand for column in item.reads}
        kinds |= {column.name: column for column in self.model}
        looked_up = (name for view in self.lookups for name in view.features)
        return [*self.request, *(kinds[name] for name in looked_up)]

    @cached_property
    def hidden(self) -> list[Column]:
        """Those of the inputs that functions read and the model does not see."""
        seen = set(self.columns)
        return [column for column in self.inputs if column.name not in seen]

    @cached_property
    def entities(self) -> list[str]:
        """Join keys of all views looked up, each once, in order of first use."""
        return list(dict.fromkeys(name for view in self.lookups for name in view.entities))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSpec:
        """The value that `to_dict` was called on; what was written before there were functions has none."""
        return cls(
            **{
                **plain,
                "row": [Column(**item) for item in plain["row"]],
                "views": [ViewFeatures(**item) for item in plain["views"]],
                "model": [Column(**item) for item in plain["model"]],
                "on_demand": [OnDemandView.from_dict(item) for item in plain.get("on_demand", [])],
            }
        )
