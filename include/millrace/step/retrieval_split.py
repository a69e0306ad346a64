"""Historical features of many entity rows, split by time so that an engine can join the parts side by side."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from millrace.engine import Engine
from millrace.features.base import EVENT_TIMESTAMP
from millrace.package import FeatureSpec
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.step.retrieval import entity_rows, historical_features

SLICE_ROWS = 250_000
"""Entity rows of one slice: their join takes longer than to send them."""
_LABELS = ("label", "label_known_at", "label_weight")


def labelled_features(
    use_case: UseCaseSpec, domain: DomainSpec, partition: str, *, settings: Settings, engine: Engine
) -> pa.Table:
    """The entity rows of a partition with their features, as known at each row's instant, and their labels.

    Raises:
        FeatureError: no clean rows, or a feature table or column is missing.
    """
    rows = entity_rows(use_case, domain, partition, settings=settings)
    labels = [name for name in _LABELS if name in rows.column_names]
    joined = split_features(use_case, domain, rows.drop_columns(labels), settings=settings, engine=engine)
    for name in labels:
        joined = joined.append_column(name, rows.column(name))
    return joined


def split_features(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    entities: pa.Table,
    *,
    settings: Settings,
    engine: Engine,
    slice_rows: int = SLICE_ROWS,
) -> pa.Table:
    """What `historical_features` gives, in its order; a large frame goes to the engine in slices of time.

    What a row gets depends on that row and on the facts alone, so that slices change no value; and a slice reads only
    the facts of its own time.

    Args:
        use_case: names views and features.
        domain: its domain.
        entities: join keys and `event_timestamp`.
        settings: the installation.
        engine: where slices are joined.
        slice_rows: rows of a slice; a frame that is no larger, and any on an engine without width, stays whole.

    Raises:
        FeatureError: as `historical_features`.
    """
    small = entities.num_rows <= slice_rows or EVENT_TIMESTAMP not in entities.column_names
    if small or not FeatureSpec.of(use_case, domain).lookups or engine.width == 1:
        return historical_features(use_case, domain, entities, settings=settings)
    order = pc.sort_indices(entities.column(EVENT_TIMESTAMP))
    in_time = entities.take(order)
    slices = [in_time.slice(start, slice_rows) for start in range(0, entities.num_rows, slice_rows)]
    join = partial(_join_slice, use_case, domain, settings)
    return pa.concat_tables(list(engine.map(join, slices))).take(pc.sort_indices(order))


def _join_slice(use_case: UseCaseSpec, domain: DomainSpec, settings: Settings, entities: pa.Table) -> pa.Table:
    return historical_features(use_case, domain, entities, settings=settings)
