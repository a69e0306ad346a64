"""The training set: a Delta table a feature service, a partition at a time, built once for each state of its inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef, digest_of, iso
from millrace.errors import TrainingError
from millrace.lake import Table
from millrace.package import Column, FeatureSpec
from millrace.partition import Partition
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.training.data.lake_rows import LakeRows
from millrace.training.data.rows import INSTANT, PARTITION, WEIGHT

log = logging.getLogger(__name__)
_LAYOUT = 1
CLEAN = "clean"
"""Note on a partition: the version of the entity's clean table that its rows were made of."""


def assemble_training_set(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    holdout: str,
    *,
    lake: str,
    rows_of: Callable[[str], pa.Table],
    each: Callable[[Callable[[str], DatasetRef], Sequence[str]], Iterable[DatasetRef]] = map,
    functions: Mapping[str, str] | None = None,
) -> DatasetRef:
    """Bring the training set up to a holdout; a partition whose inputs did not change is not computed again.

    Args:
        use_case: whose training set.
        domain: its domain.
        holdout: last partition that belongs to it, kept back for evaluation.
        lake: where tables live.
        rows_of: partition → its labelled rows with features, as `assemble_partition` wants them.
        each: how partitions are worked on; it may do several at once, in other processes.
        functions: on-demand view → text of its function; a changed text makes new rows.

    Returns:
        The whole table at the version that holds all these partitions; `known_until` is the end of the holdout.

    Raises:
        TrainingError: the holdout lies before the first partition or leaves too few before it, or a partition was
            never validated.
    """
    last = domain.partition(holdout)
    window = domain.partition(domain.first).until(last)
    if not window:
        raise TrainingError(
            f"holdout {holdout} lies before the domain's first partition {domain.first}",
            where=f"use_cases/{use_case.name}.yaml",
            remedy="choose a later holdout",
        )
    _require_room(use_case, domain, window)
    features = FeatureSpec.of(use_case, domain)
    clean = Table(lake, domain.clean_table(use_case.entity.source)).newest()
    inputs = _input_digests(use_case, domain, window, clean, lake=lake, functions=functions or {})
    table = Table(lake, use_case.service_table("training_set"))
    # A service that nobody released may have changed under its name: rows of other columns are of no use then.
    table.restart(pa.schema(_types(use_case, features.hidden)), partitioned=True)

    def write(key: str) -> DatasetRef:
        return table.replace(
            assemble_partition(use_case, rows_of(key), hidden=features.hidden),
            partition=key,
            digest=inputs[key],
            note={CLEAN: str(clean[key].version)},
        )

    there = {key: ref for key, ref in table.newest().items() if ref.digest == inputs.get(key)}
    stale = [partition.key for partition in window if partition.key not in there]
    there |= zip(stale, each(write, stale), strict=True)
    written = [there[partition.key] for partition in window]
    return DatasetRef(
        table=table.name,
        version=max(ref.version for ref in written),
        rows=sum(ref.rows for ref in written),
        digest=digest_of({"partitions": {ref.partition: ref.digest for ref in written}, "known_until": iso(last.end)}),
        changed=any(ref.changed for ref in written),
        known_until=iso(last.end),
    )


def _require_room(use_case: UseCaseSpec, domain: DomainSpec, window: Sequence[Partition]) -> None:
    """Several partitions held out leave enough of them to train on, before anything is computed."""
    kept, needed = use_case.evaluation.holdout_partitions, use_case.min_training_partitions
    if kept > 1 and len(window) < kept + needed:
        enough = window[0].shift(kept + needed - 1).key
        raise TrainingError(
            f"{domain.first} to {window[-1].key} are {len(window)} partitions; {kept} are held out, and {needed} must "
            "stand before them",
            where=f"use_cases/{use_case.name}.yaml: evaluation.holdout_partitions, min_training_partitions",
            remedy=f"choose {enough} or a later holdout, or lower one of the two",
        )


def assemble_partition(use_case: UseCaseSpec, rows: pa.Table, *, hidden: Sequence[Column] = ()) -> pa.Table:
    """Labelled rows in the layout and order of the training set; rows without a label are left out.

    Args:
        use_case: names features and their kinds.
        rows: `key`, `event_timestamp`, `label`, `label_known_at`, `label_weight` where the use case weighs its rows,
            and every feature.
        hidden: columns that on-demand functions read and the model does not see; they are kept beside the features.
    """
    types = _types(use_case, hidden)
    if absent := [name for name in types if name not in rows.column_names]:
        raise TrainingError(
            f"features of the training set are missing: {', '.join(absent)}",
            where=f"use_cases/{use_case.name}.yaml: features",
            remedy="build features of the partition again, or correct the feature service",
        )
    rows = pa.table({name: pc.cast(rows.column(name), kind) for name, kind in types.items()})
    rows = rows.filter(pc.is_valid(rows.column("label")))
    return rows.sort_by([("event_timestamp", "ascending"), ("key", "ascending")])


def _types(use_case: UseCaseSpec, hidden: Sequence[Column]) -> dict[str, pa.DataType]:
    """Columns of the training set, in their order."""
    categories = {*use_case.features.categories, *(item.name for item in hidden if item.kind == "category")}
    types = {"key": pa.string(), "event_timestamp": INSTANT, "label": pa.float64(), "label_known_at": INSTANT}
    if use_case.label.weight:
        types[WEIGHT] = pa.float64()
    names = [*use_case.features.columns, *(item.name for item in hidden)]
    return types | {name: pa.string() if name in categories else pa.float64() for name in names}


def load_training_set(
    use_case: UseCaseSpec,
    ref: DatasetRef,
    *,
    lake: str,
    through: str | None = None,
    partitions: Sequence[str] | None = None,
    known_until: str | None = None,
    hidden: Sequence[Column] = (),
) -> pa.Table:
    """Rows of a training set as one table in memory: what `open_training_set` gives in batches."""
    rows = open_training_set(
        use_case, ref, lake=lake, through=through, partitions=partitions, known_until=known_until, hidden=hidden
    )
    return pa.Table.from_batches(rows.batches(), rows.schema)


def open_training_set(
    use_case: UseCaseSpec,
    ref: DatasetRef,
    *,
    lake: str,
    through: str | None = None,
    partitions: Sequence[str] | None = None,
    known_until: str | None = None,
    hidden: Sequence[Column] = (),
) -> LakeRows:
    """Rows of a training set whose label was known in time, in time order, with their `partition`.

    Args:
        use_case: whose training set.
        ref: snapshot to read.
        lake: where tables live.
        through: last partition to read (by default all up to the reference's holdout).
        partitions: the partitions to read; `through` is then ignored.
        known_until: ISO instant that labels must be known by; by default, and at the latest, that of the reference.
        hidden: columns to read beside the features, such as functions compute with.
    """
    table = Table(lake, ref.table)
    if partitions is None and through is not None:
        partitions = [key for key in table.partitions(ref.version) if key <= through]
    return LakeRows(
        table=table,
        version=ref.version,
        columns=(*_types(use_case, hidden), PARTITION),
        known_until=min(known_until or ref.known_until, ref.known_until, key=datetime.fromisoformat),
        chosen=None if partitions is None else tuple(partitions),
    )


def find_holdout(domain: DomainSpec, ref: DatasetRef) -> Partition:
    """The partition that a training set was built up to: the one that ends where its labels end."""
    last = datetime.fromisoformat(ref.known_until) - timedelta(microseconds=1)
    day = last.astimezone(ZoneInfo(domain.timezone))
    return domain.partition(day.strftime("%Y-%m" if domain.grain == "month" else "%Y-%m-%d"))


def _input_digests(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    window: Sequence[Partition],
    clean: Mapping[str, DatasetRef],
    *,
    lake: str,
    functions: Mapping[str, str],
) -> Mapping[str, str]:
    """Partition → digest of all that its training rows are made of: clean rows, feature tables, definitions."""
    source = domain.clean_table(use_case.entity.source)
    spec = FeatureSpec.of(use_case, domain)
    tables = {item.view: Table(lake, domain.feature_table(item.view)).newest() for item in spec.lookups}
    definition = {
        "layout": _LAYOUT,
        "features": spec.to_dict(),
        "functions": dict(functions),
        "label": _label_definition(use_case),
        "entity": use_case.entity.model_dump(),
    }
    digests = {}
    for partition in window:
        if partition.key not in clean:
            raise TrainingError(
                f"partition {partition.key} of {source!r} was never validated",
                where=source,
                remedy=f"run {domain.name}_data for {partition.key} first",
            )
        # A feature as known at t may stand in any earlier partition; static tables have the key "".
        features = {
            view: {key: ref.digest for key, ref in writes.items() if key <= partition.key}
            for view, writes in tables.items()
        }
        digests[partition.key] = digest_of(
            {"clean": clean[partition.key].digest, "features": features, "definition": definition}
        )
    return digests


def _label_definition(use_case: UseCaseSpec) -> dict[str, object]:
    """What labels and weights are made by; a use case without weights and classes has nothing of them in it."""
    plain: dict[str, object] = use_case.label.model_dump(exclude_defaults=True)
    return {**plain, "classes": use_case.classes} if use_case.classes else plain
