"""A domain: sources, their contracts and clean-up, and the feature tables made of them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from millrace.errors import SpecError
from millrace.partition import Grain, Partition
from millrace.spec.base import Name, RuleError, Spec
from millrace.spec.clock import known_zone
from millrace.spec.feature import ComputeSpec, FeatureTableSpec, OnDemandSpec, check_on_demand
from millrace.spec.source import AnySourceSpec

_KEYS: dict[Grain, str] = {"month": "2024-05", "day": "2024-05-01"}


class DomainSpec(Spec):
    """Data and features that several use cases share.

    Attributes:
        name: file stem and DAG id prefix.
        owners: Airflow user names.
        timezone: calendar of the partitions.
        grain: size of a partition.
        first: key of the first partition there is.
        last: key of the last, where the data has an end.
        feature_tables: computed per partition of clean rows.
        on_demand: computed when they are asked for.
        compute: where the heavy work runs.
    """

    name: Name
    description: str
    owners: Annotated[list[str], Field(min_length=1)]
    timezone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    grain: Grain = "month"
    first: str
    last: str | None = None
    sources: dict[Name, AnySourceSpec]
    feature_tables: dict[Name, FeatureTableSpec]
    on_demand: dict[Name, OnDemandSpec] = {}
    compute: ComputeSpec = ComputeSpec()

    def partition(self, key: str) -> Partition:
        """The partition of that key, in this domain's calendar."""
        return Partition(key, self.grain, self.timezone)

    def raw_table(self, source: str) -> str:
        """Name in the lake of a source's raw table."""
        return f"{self.name}/raw/{source}"

    def clean_table(self, source: str) -> str:
        """Name in the lake of a source's clean table."""
        return f"{self.name}/clean/{source}"

    def rejected_table(self, source: str) -> str:
        """Name in the lake of the records of a source that were set aside before they became rows."""
        return f"{self.name}/rejected/{source}"

    def profile_table(self, source: str) -> str:
        """Name in the lake of the statistics of a source's clean partitions."""
        return f"{self.name}/profile/{source}"

    def quarantine_table(self, source: str) -> str:
        """Name in the lake of a source's quarantine."""
        return f"{self.name}/quarantine/{source}"

    def feature_table(self, name: str) -> str:
        """Name in the lake of a feature table."""
        return f"{self.name}/features/{name}"

    @property
    def asset(self) -> str:
        """Name of the asset that tells that a partition's features are there."""
        return f"{self.name}/features"

    @field_validator("first", "last", mode="before")
    @classmethod
    def _day_without_quotes(cls, given: Any) -> Any:
        """What YAML makes a day of where it stands without quotes, as the text it was."""
        return given.isoformat() if type(given) is date else given

    @model_validator(mode="after")
    def _bounds(self) -> DomainSpec:
        for name, key in (("first", self.first), ("last", self.last)):
            try:
                _ = key is None or self.partition(key).start
            except (SpecError, ValueError) as error:
                raise RuleError(
                    f"{name}: {error.what if isinstance(error, SpecError) else error}",
                    remedy=f'write {name}: "{_KEYS[self.grain]}" (grain {self.grain}), in quotes',
                ) from error
        if self.last is not None and self.last < self.first:
            raise RuleError(
                f"last ({self.last}) lies before first ({self.first})",
                remedy=f"set `last` to {self.first} or later, or leave it out where the data has no end",
            )
        return self

    @model_validator(mode="after")
    def _on_demand_reads_what_there_is(self) -> DomainSpec:
        for name, view in self.on_demand.items():
            others = {other: spec for other, spec in self.on_demand.items() if other != name}
            check_on_demand(name, view, self.feature_tables, others)
        return self

    @property
    def first_start(self) -> datetime:
        """First instant of the domain's first partition (UTC)."""
        return self.partition(self.first).start
