"""Columns of the holdout's rows that no model sees: what slices and groups of people are told apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from millrace.artifact import DatasetRef
from millrace.errors import EvaluationError, SpecError
from millrace.lake import Table, commits
from millrace.lake.duck import arrow, connect, quoted
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.audit import find_unknown_audited
from millrace.training.data.training_set import CLEAN

_PLACE, _FOUND = "row#", "found#"


def read_attributes(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    rows: pa.Table,
    partitions: Sequence[str],
    training_set: DatasetRef,
    *,
    settings: Settings,
) -> pa.Table | None:
    """The audited columns that are no features, for exactly these rows.

    They come from the clean rows that the training set was made of; of a training set that does not say which these
    were, from the newest ones, where these still are the same rows.

    Args:
        use_case: names the columns.
        domain: its domain.
        rows: of the holdout, with `key` and `event_timestamp`.
        partitions: keys of the partitions held out.
        training_set: what the rows were read from.
        settings: this installation.

    Returns:
        The columns, a row for each row and in their order; None where all audited columns are features.

    Raises:
        SpecError: a column is neither a feature nor one of the clean rows.
        EvaluationError: the clean table lacks a column, or a row is not there, or is there twice.
    """
    for fault in find_unknown_audited(use_case, domain):
        raise fault
    names = [name for name in use_case.evaluation.audited if name not in use_case.features.columns]
    if not names:
        return None
    source = Table(settings.lake, domain.clean_table(use_case.entity.source))
    clean = pa.concat_tables(
        [_read_clean(use_case, source, names, key, _clean_version(training_set, key, settings)) for key in partitions],
        promote_options="permissive",
    )
    found = _join(use_case, clean, rows, names)
    if faults := [told for told, count in _faults(found, rows) if count]:
        raise EvaluationError(
            f"columns {', '.join(names)} cannot be had for the holdout: {'; '.join(faults)}",
            where=f"{source.uri}, partition {', '.join(partitions)}",
            remedy="clean rows changed since the training set was built: run training again",
        )
    return found.select(names)


def _clean_version(training_set: DatasetRef, partition: str, settings: Settings) -> int | None:
    """Version of the clean table that a partition of a training set was made of; None where it does not say."""
    table = Table(settings.lake, training_set.table)
    commit = commits.newest(table.open(training_set.version), partition)
    note = {} if commit is None else commits.read(table.name, commit)[1]
    return int(note[CLEAN]) if CLEAN in note else None


def _read_clean(
    use_case: UseCaseSpec, source: Table, names: list[str], partition: str, version: int | None
) -> pa.Table:
    if not source.exists():
        raise EvaluationError(
            f"source {use_case.entity.source!r} has no clean rows",
            where=source.uri,
            remedy=f"ingest and validate {use_case.entity.source!r} for {partition} first",
        )
    there = {field.name for field in source.open(version).schema().fields}
    if absent := [name for name in names if name not in there]:
        raise SpecError(
            f"the clean rows have no column {', '.join(absent)} yet",
            where=f"use_cases/{use_case.name}.yaml: evaluation.slices, evaluation.sensitive",
            remedy=f"validate {use_case.entity.source!r} for {partition} again, then run training again",
        )
    entity = use_case.entity
    wanted = list(dict.fromkeys([entity.key, entity.timestamp, *names]))
    return source.read(version=version, partitions=[partition], columns=wanted)


def _join(use_case: UseCaseSpec, clean: pa.Table, rows: pa.Table, names: list[str]) -> pa.Table:
    """The columns beside the place of each row; a row that is missing has no `found`."""
    entity, columns = use_case.entity, ", ".join(f"c.{quoted(name)}" for name in names)
    connection = connect(external=False)
    try:
        placed = rows.select(["key", "event_timestamp"]).append_column(_PLACE, pa.array(range(rows.num_rows)))
        connection.register("wanted", placed)
        connection.register("clean", clean)
        query = (
            f"SELECT {columns}, w.{quoted(_PLACE)}, c.{quoted(entity.key)} IS NOT NULL AS {quoted(_FOUND)} "
            f"FROM wanted w LEFT JOIN clean c ON CAST(c.{quoted(entity.key)} AS VARCHAR) = w.key "
            f"AND epoch_us(c.{quoted(entity.timestamp)}) = epoch_us(w.event_timestamp) ORDER BY w.{quoted(_PLACE)}"
        )
        return arrow(connection.sql(query))
    finally:
        connection.close()


def _faults(found: pa.Table, rows: pa.Table) -> list[tuple[str, int]]:
    missing = _count(found.column(_FOUND), value=False)
    doubled = found.num_rows - rows.num_rows
    return [
        (f"{missing} of {rows.num_rows} rows are not among the clean rows", missing),
        (f"{doubled} rows stand there more than once", doubled),
    ]


def _count(column: Any, *, value: bool) -> int:
    return sum(item is value for item in column.to_pylist())
