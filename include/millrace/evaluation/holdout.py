"""The rows candidates are measured on, and the training rows they are compared with, as the metrics want them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from millrace.artifact import iso
from millrace.errors import EvaluationError
from millrace.evaluation.block import DayBlocks, day_blocks
from millrace.evaluation.finding import TimeOrder, shortened
from millrace.spec.domain import DomainSpec
from millrace.spec.use_case import UseCaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Labelled rows of the holdout, in the order of their keys.

    Attributes:
        table: rows with key, times, label and features.
        label: (n,) labels.
        blocks: their days, and the draws of the bootstrap.
        attributes: columns of the same rows that no model sees, by which rows are told apart; None where there are
            none.
    """

    table: pa.Table
    label: NDArray[np.float64]
    blocks: DayBlocks
    attributes: pa.Table | None = None

    @property
    def content(self) -> pa.Table:
        """All columns of the rows, those that no model sees too."""
        found, others = self.table, self.attributes
        if others is not None:
            for name in others.column_names:
                found = found.append_column(name, others.column(name))
        return found

    def audited(self, names: list[str], categories: list[str]) -> dict[str, NDArray[Any]]:
        """Columns that rows are told apart by: numbers as float64, all else as text with None.

        Args:
            names: features, or attributes.
            categories: features that are categories.

        Raises:
            EvaluationError: a column is neither.
        """
        content = self.content
        if absent := sorted(set(names) - set(content.column_names)):
            raise EvaluationError(
                f"there is no column {', '.join(absent)} to tell rows apart by",
                where="evaluation.slices, evaluation.sensitive",
                remedy=f"name one of: {', '.join(content.column_names)}",
            )
        text = {name for name in names if name in categories or not _is_number(content.schema.field(name).type)}
        return plain_columns(content, names, sorted(text))

    def columns(self, names: list[str], rows: NDArray[np.int64] | None = None) -> dict[str, Any]:
        """Features as Arrow columns, of some rows where asked."""
        table = self.table.select(names)
        table = table if rows is None else table.take(pa.array(rows))
        return {name: table.column(name) for name in names}


def make_holdout(
    use_case: UseCaseSpec, domain: DomainSpec, table: pa.Table, partition: str, *, attributes: pa.Table | None = None
) -> Holdout:
    """Order the rows and draw the bootstrap's days.

    Args:
        use_case: whose rows.
        domain: its domain.
        table: the rows.
        partition: key, or the first and the last, for messages.
        attributes: columns that no model sees, of the same rows in the same order.

    Raises:
        EvaluationError: there are no labelled rows.
    """
    if table.num_rows == 0:
        raise EvaluationError(
            "no labelled row to evaluate on",
            where=f"{use_case.table('training_set')} {partition}",
            remedy="check that labels of that partition are known by its end",
        )
    order = pc.sort_indices(table, sort_keys=[("key", "ascending")])
    table = table.take(order)
    label = numbers(table.column("label"))
    events = instants(table.column("event_timestamp"))
    blocks = day_blocks(events, domain.timezone, rounds=use_case.evaluation.bootstrap, seed=use_case.seed)
    return Holdout(
        table=table, label=label, blocks=blocks, attributes=None if attributes is None else attributes.take(order)
    )


def numbers(column: Any) -> NDArray[np.float64]:
    """An Arrow column of numbers as float64, null as NaN."""
    found: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def instants(column: Any) -> NDArray[np.datetime64]:
    """An Arrow column of instants as numpy's, in UTC."""
    found: NDArray[np.datetime64] = column.cast(pa.timestamp("us", "UTC")).to_numpy(zero_copy_only=False)
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def plain_columns(table: pa.Table, names: list[str], categories: list[str]) -> dict[str, NDArray[Any]]:
    """Columns as numpy: float64 with NaN for numbers, objects with None for categories."""
    return {
        name: (
            table.column(name).cast(pa.string()).to_numpy(zero_copy_only=False).astype(object)
            if name in categories
            else numbers(table.column(name))
        )
        for name in names
    }


def missing_shares(table: pa.Table, names: list[str]) -> dict[str, float]:
    """Share of rows without a value, by column; those that have all their values are left out."""
    if table.num_rows == 0:
        return {}
    shares = {name: pc.sum(pc.is_null(table.column(name), nan_is_null=True)).as_py() / table.num_rows for name in names}
    return {name: shortened(share, 6) for name, share in shares.items() if share}


def time_order(
    domain: DomainSpec,
    holdout: str,
    *,
    training_partitions: list[str],
    training: pa.Table,
    rows: pa.Table,
    known_until: str,
    first: str = "",
) -> TimeOrder:
    """What shows whether training saw its future.

    Args:
        holdout: key of the holdout, the last where several partitions are held out.
        training_partitions: keys of the partitions the candidates say they were trained on.
        training: those rows.
        rows: the rows of the holdout.
        known_until: the cut, ISO.
        first: key of the first partition held out, where there are several.
    """
    several, start = bool(first) and first != holdout, domain.partition(first or holdout).start
    known = [pc.max(item.column("label_known_at")).as_py() for item in (training, rows) if item.num_rows]
    return TimeOrder(
        training_partitions=training_partitions,
        holdout=holdout,
        training_last_event=_instant(pc.max(training.column("event_timestamp")).as_py()),
        holdout_first_event=_instant(pc.min(rows.column("event_timestamp")).as_py()),
        holdout_last_event=_instant(pc.max(rows.column("event_timestamp")).as_py()),
        holdout_start=iso(start),
        cut=known_until or iso(domain.partition(holdout).end),
        last_label_known_at=_instant(max((item for item in known if item is not None), default=None)),
        rows_in_both=int(pc.sum(pc.is_in(rows.column("key"), training.column("key").combine_chunks())).as_py() or 0),
        holdout_first=first if several else "",
        training_label_known_at=_instant(pc.max(training.column("label_known_at")).as_py()) if several else "",
    )


def _instant(moment: Any) -> str:
    return "" if moment is None else iso(moment)
