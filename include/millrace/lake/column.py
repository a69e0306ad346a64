"""Columns of a table against those of what is to be written: added ones may be allowed, others never change."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import pyarrow as pa

from millrace.errors import LakeError

log = logging.getLogger(__name__)


def settle(
    table: Any, schema: pa.Schema, *, evolve: bool, name: str, uri: str, dropped: Collection[str] = ()
) -> list[str]:
    """Let a table have the columns of a schema, or say what is in the way.

    Delta itself would turn 4.5 into 4 for a table of whole numbers, and say nothing.

    Args:
        table: the `deltalake.DeltaTable`.
        schema: columns of the rows to be written.
        evolve: whether columns may be added; rows written before hold null there.
        name: of the table.
        uri: where it lies.
        dropped: columns that the table may have and the schema not; rows to come hold null there.

    Returns:
        The columns that were added.

    Raises:
        LakeError: a column is missing, has another type, or is new where none may be added.
    """
    from deltalake import Schema

    stored = {field.name: field for field in table.schema().fields}
    given = {field.name: field for field in Schema.from_arrow(schema).fields}
    added = [column for column in given if column not in stored]
    faults = [] if evolve else [f"{column!r} is new" for column in added]
    faults += [f"{column!r} is missing" for column in stored if column not in given and column not in dropped]
    faults += [
        f"{column!r} is {_type(stored[column])} there and {_type(field)} here"
        for column, field in given.items()
        if column in stored and stored[column].type != field.type
    ]
    if faults:
        raise LakeError(
            f"table {name!r} has other columns than what is to be written: {', '.join(faults)}",
            where=uri,
            remedy="take the change of columns back; name columns that are gone in `dropped` of the source; or remove "
            "the table's folder, and run the stage that writes it for every partition again",
        )
    if added:
        _add(table, [given[column] for column in added])
        log.info("%s: columns added: %s", name, ", ".join(added))
    return added


def are_those_of(table: Any, schema: pa.Schema) -> bool:
    """Whether a table has the columns of a schema, in any order, and no others."""
    from deltalake import Schema

    stored = {field.name: field.type for field in table.schema().fields}
    return stored == {field.name: field.type for field in Schema.from_arrow(schema).fields}


def _add(table: Any, fields: list[Any]) -> None:
    from deltalake.exceptions import DeltaError

    try:
        table.alter.add_columns(fields)
    except DeltaError:
        table.update_incremental()
        present = {field.name for field in table.schema().fields}
        if not {field.name for field in fields} <= present:  # else another writer added them in between
            raise


def _type(field: Any) -> str:
    return str(getattr(field.type, "type", field.type))
