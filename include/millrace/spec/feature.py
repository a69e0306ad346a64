"""Feature tables, features computed at request time, and where the heavy work of a domain runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from millrace.spec.base import ColumnName, ColumnType, Name, Spec

FunctionName = Annotated[str, StringConstraints(pattern=r"^[\w./-]+\.py:[A-Za-z_]\w*$")]
"""`<file beside the domain's YAML>:<function>`, such as `flights/tail.py:tail_delays`."""
Tags = dict[Name, Annotated[str, Field(min_length=1)]]


class FeatureTableSpec(Spec):
    """A feature table and the Feast feature view on it: SQL, or a Python batch function.

    The SQL (DuckDB) sees one view a source of the domain, holding clean rows of the partition and of those before it
    as far as `look_back_days` reaches, and the parameters `$start` and `$end` (the partition's bounds, UTC
    timestamps without zone). It returns the entity columns, `event_timestamp`, `known_at` and the features, for
    `event_timestamp` in [start, end).

    A function is called as `function(sources, start, end)` with the same rows as Arrow tables by source, and the bounds
    as aware UTC datetimes; it returns an Arrow table of the same columns.

    Attributes:
        sql: file beside the domain's YAML; either this or `function`.
        function: file and function beside the domain's YAML.
        sources: what the function reads; for SQL this is found in its text.
        entities: join keys.
        features: feature → type.
        ttl_hours: how long a value stays usable after its event_timestamp; 0 for ever.
        look_back_days: how far into the past the transformation reads.
        freshness_hours: the objective: how far the online store may lie behind the end of the last partition that is
            over; 0 for none.
        static: computed once of static sources, not per partition.
        owners: who answers for it; by default the domain's owners.
        tags: what people look for it by.
        description: what the numbers mean.
    """

    sql: str | None = None
    function: FunctionName | None = None
    sources: list[Name] = []
    entities: list[ColumnName]
    features: dict[ColumnName, ColumnType]
    ttl_hours: Annotated[int, Field(ge=0)] = 0
    look_back_days: Annotated[int, Field(ge=0)] = 0
    freshness_hours: Annotated[int, Field(ge=0)] = 0
    static: bool = False
    owners: list[str] = []
    tags: Annotated[Tags, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]

    @property
    def origin(self) -> str:
        """What it is computed by, for errors and people: the SQL file, or file and function."""
        return self.sql or str(self.function)

    @model_validator(mode="after")
    def _one_transformation(self) -> FeatureTableSpec:
        if (self.sql is None) == (self.function is None):
            raise ValueError("give either sql or function")
        if self.function is not None and not self.sources:
            raise ValueError("function needs sources: the sources of the domain that it reads")
        if self.sql is not None and self.sources:
            raise ValueError("sources is for function: what SQL reads is found in its text")
        return self


class OnDemandSpec(Spec):
    """Features computed when they are asked for, by one function in training, batch scoring and the online service.

    It is called as `function(columns)` with one numpy array a column (`number`: float64 with NaN where missing;
    `category`: object, text or None) and returns one array of the same length a feature. The arrays are read-only. Each
    row is computed of that row alone, which `millrace check` tries; a number that is not finite counts as missing.

    Attributes:
        function: file and function beside the domain's YAML; it may import numpy and the standard library only.
        inputs: feature table → features that it reads.
        request: columns of the entity row that it reads, part of an online request.
        features: feature → `number` or `category`.
        tags: what people look for it by.
        description: what the numbers mean.
    """

    function: FunctionName
    inputs: dict[Name, Annotated[list[ColumnName], Field(min_length=1)]] = {}
    request: dict[ColumnName, Literal["number", "category"]] = {}
    features: Annotated[dict[ColumnName, Literal["number", "category"]], Field(min_length=1)]
    owners: list[str] = []
    tags: Annotated[Tags, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _reads_something(self) -> OnDemandSpec:
        if not self.inputs and not self.request:
            raise ValueError("give inputs, request or both: a function of nothing is a constant")
        return self


def check_on_demand(
    name: str, view: OnDemandSpec, tables: Mapping[str, FeatureTableSpec], others: Mapping[str, OnDemandSpec]
) -> None:
    """Whether an on-demand view fits the other features of its domain.

    Raises:
        ValueError: it reads what there is not, or a name stands for two things.
    """
    place = f"on_demand.{name}"
    if name in tables:
        raise ValueError(f"{place}: a feature table has that name already")
    for table, features in view.inputs.items():
        if table not in tables:
            raise ValueError(f"{place}.inputs: no feature table {table!r}{_hint(table, tables)}")
        kinds = tables[table].features
        for feature in features:
            if feature not in kinds:
                raise ValueError(f"{place}.inputs.{table}: no feature {feature!r}{_hint(feature, kinds)}")
            if kinds[feature] == "timestamp":
                raise ValueError(f"{place}.inputs.{table}: {feature!r} is a timestamp, functions read numbers and text")
    read = [*(feature for features in view.inputs.values() for feature in features), *view.request]
    if twice := sorted({item for item in read if read.count(item) > 1}):
        raise ValueError(f"{place}: reads two columns of the name {twice[0]!r}")
    taken = {feature: table for table, spec in tables.items() for feature in spec.features}
    taken |= {feature: other for other, spec in others.items() for feature in spec.features}
    taken |= dict.fromkeys(view.request, "its own request")
    for feature in view.features:
        if feature in taken:
            raise ValueError(f"{place}.features: {feature!r} is in {taken[feature]} already")


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class ComputeSpec(Spec):
    """Where the heavy work of a domain runs: its feature tables and the training sets of its use cases.

    Attributes:
        engine: `local` works partition after partition in the task; `ray` works on several partitions at once.
        memory_limit: what DuckDB may use of memory in one piece of work before it spills to disk.
        threads: threads of one piece of work.
        connection: Airflow connection with the address of the Ray cluster; "" starts Ray on this machine.
    """

    engine: Literal["local", "ray"] = "local"
    memory_limit: Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(MB|GB)$")] = "1GB"
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    connection: str = ""
