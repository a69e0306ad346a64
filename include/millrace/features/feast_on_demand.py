"""Features computed on demand as Feast's objects: its SDK calls the very function that training and serving call.

Feast keeps the text of a transformation in its registry and runs it wherever the view is read. The text written here
names the view, holds the file of the function line by line, and hands both to `call_function`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import orjson
import pandas as pd
from feast import FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.transformation.pandas_transformation import PandasTransformation
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source
from feast.types import Float64, String

from millrace.errors import FeatureError
from millrace.package import OnDemandView
from millrace.package.on_demand_function import OnDemandFunction
from millrace.spec import OnDemandSpec

_TYPES = {"number": Float64, "category": String}


class DeclaredOnDemandView(OnDemandFeatureView):
    """An on-demand view whose features are declared; Feast would find their types by calling it with samples."""

    def infer_features(self) -> None:
        """Nothing is left to infer."""


def define_on_demand(
    view: OnDemandView,
    spec: OnDemandSpec,
    source: str,
    views: Mapping[str, FeatureView],
    *,
    owner: str,
    tags: Mapping[str, str],
) -> OnDemandFeatureView:
    """The on-demand feature view of a function.

    Args:
        view: what the function reads and gives.
        spec: what its domain says of it.
        source: text of the function's file.
        views: Feast's feature views by name.
        owner: who answers for it.
        tags: what people look for it by.

    Raises:
        FeatureError: the function does not load.
    """
    OnDemandFunction(view, source)
    inputs: list[Any] = [views[item.view][item.features] for item in view.inputs]
    if view.request:
        schema = [Field(name=column.name, dtype=_TYPES[column.kind]) for column in view.request]
        inputs.append(RequestSource(name=f"{view.view}_request", schema=schema, owner=owner, tags=dict(tags)))
    text = _transformation_text(view, source)
    function = rehydrate_udf_from_source(text, preferred_name=view.view)
    if function is None:
        raise FeatureError(
            f"Feast cannot run on-demand view {view.view!r}",
            where=view.function,
            remedy="see that millrace is importable",
        )
    return DeclaredOnDemandView(
        name=view.view,
        sources=inputs,
        schema=[Field(name=column.name, dtype=_TYPES[column.kind]) for column in view.gives],
        feature_transformation=PandasTransformation(udf=function, udf_string=text),
        mode="pandas",
        description=spec.description,
        tags=dict(tags),
        owner=owner,
    )


def call_function(view: str, source: str, inputs: pd.DataFrame) -> pd.DataFrame:
    """What a function gives for columns as Feast has them.

    Args:
        view: the view as JSON.
        source: text of the function's file.
        inputs: at least what it reads, one row a row.

    Raises:
        FeatureError: a column is missing, or the function fails.
    """
    function = _loaded(view, source)
    given = {name: inputs[name].to_numpy() for name in (item.name for item in function.view.reads) if name in inputs}
    found = function.compute(given, len(inputs))
    kinds = {item.name: item.kind for item in function.view.gives}
    # Typed also where all is missing: Arrow would make a column of nulls of it.
    texts = {name: pd.array(found[name], dtype="string") for name, kind in kinds.items() if kind == "category"}
    return pd.DataFrame({**found, **texts}, index=inputs.index)


@functools.lru_cache(maxsize=64)
def _loaded(view: str, source: str) -> OnDemandFunction:
    return OnDemandFunction(OnDemandView.from_dict(orjson.loads(view)), source)


def _transformation_text(view: OnDemandView, source: str) -> str:
    lines = "\n".join(f"    {line!r}" for line in source.splitlines(keepends=True)) or "    ''"
    described = orjson.dumps(dataclasses.asdict(view)).decode()
    return (
        "from millrace.features.feast_on_demand import call_function\n\n"
        f"VIEW = {described!r}\n"
        f"# {view.function}\nSOURCE = (\n{lines}\n)\n\n\n"
        f"def {view.view}(inputs):\n    return call_function(VIEW, SOURCE, inputs)\n"
    )
