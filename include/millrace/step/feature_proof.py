"""The proof that a changed feature table leaves every value a release rests on as it was: both are run and compared."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError, LakeError
from millrace.features.applied import Definition
from millrace.features.base import EVENT_TIMESTAMP, KNOWN_AT
from millrace.features.compute import compute_rows
from millrace.features.plan import Change
from millrace.features.transformation import Transformation, read_transformation
from millrace.lake import Table
from millrace.lake.digest import content_digest
from millrace.settings import Settings
from millrace.spec import DomainSpec, FeatureTableSpec

PARTITIONS = 2
"""How many of the newest built partitions are compared."""


def prove(change: Change, before: Definition, domain: DomainSpec, *, settings: Settings) -> Change:
    """Run a feature table's applied and declared transformations over the newest partitions that were built.

    Args:
        change: the change of the table.
        before: the definition that was applied.
        domain: the domain as it is declared.
        settings: this installation.

    Returns:
        The change, with a note of what was compared where all values that the applied definition gives are the same,
        else refused.
    """
    old = _transformation(before)
    partitions = _newest_built(domain, change.name, settings)
    if not partitions:
        return change.refused("no partition of it is built, so nothing proves that its values stay as they are")
    rows = 0
    for partition in partitions:
        try:
            earlier = compute_rows(domain, old, partition, lake=settings.lake)
        except (FeatureError, LakeError) as error:
            return change.refused(f"what was applied does not run any more on {partition} ({error.what})")
        new = read_transformation(domain, change.name, settings.sql_folder)
        later = compute_rows(domain, new, partition, lake=settings.lake)
        if wrong := _differing(earlier, later, old.table):
            return change.refused(
                f"{', '.join(change.releases)} stand{'' if len(change.releases) > 1 else 's'} on it, "
                f"and in {partition} {wrong}"
            )
        rows += earlier.num_rows
    note = f"all {len(old.table.features)} features it had are equal in {rows} rows of {', '.join(partitions)}"
    return replace(change, prove=False, note=note, remedy="")


def _differing(before: pa.Table, after: pa.Table, table: FeatureTableSpec) -> str:
    """What differs in the columns that the table had, as a clause; "" where nothing does."""
    if before.num_rows != after.num_rows:
        return f"there would be {after.num_rows} rows instead of {before.num_rows}"
    keys, features = [*table.entities, EVENT_TIMESTAMP, KNOWN_AT], list(table.features)
    order = [(name, "ascending") for name in (*keys, *features)]  # a new feature must not order rows that tie
    before, after = before.sort_by(order), after.sort_by(order)
    for columns in (keys, features):
        wrong = [name for name in columns if _digest(before, name) != _digest(after, name)]
        if wrong:
            counts = [f"{name} in {_different_rows(before.column(name), after.column(name))} rows" for name in wrong]
            return f"other values would stand in {', '.join(counts)} of {before.num_rows}"
    return ""


def _digest(rows: pa.Table, name: str) -> str:
    return content_digest(rows.select([name]).combine_chunks())


def _different_rows(before: pa.ChunkedArray, after: pa.ChunkedArray) -> int:
    same = pc.or_kleene(
        pc.fill_null(pc.equal(before, after), False),
        pc.and_(pc.is_null(before, nan_is_null=True), pc.is_null(after, nan_is_null=True)),
    )
    return len(before) - int(pc.sum(same).as_py() or 0)


def _transformation(definition: Definition) -> Transformation:
    meta, logic = definition["meta"], definition["logic"]
    made_by = {"function" if ".py:" in meta["origin"] else "sql": meta["origin"]}
    table = FeatureTableSpec.model_validate(
        {
            **made_by,
            **definition["shape"],
            "features": definition["features"],
            "sources": logic["sources"],
            "look_back_days": logic["look_back_days"],
            "tags": meta["tags"],
            "description": meta["description"],
        }
    )
    return Transformation(table=table, text=logic["text"])


def _newest_built(domain: DomainSpec, name: str, settings: Settings) -> list[str]:
    built = Table(settings.lake, domain.feature_table(name)).newest()
    if domain.feature_tables[name].static:
        return [domain.first] if built else []
    return sorted(key for key in built if key)[-PARTITIONS:]
