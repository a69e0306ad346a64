"""MLflow's scoring protocol: the four shapes of an `/invocations` body, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millrace.serving.base import Column, InferenceRequest, Kind, RequestError
from millrace.serving.protocol import parse_json
from millrace.serving.tensor import column_of_values

SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


def parse_invocation(body: bytes, kinds: Mapping[str, Kind]) -> InferenceRequest:
    """A scoring request as columns; columns that the model does not know are left out, as MLflow does.

    Raises:
        RequestError: anything about it is wrong; the message names the column.
    """
    message = parse_json(body)
    given = [shape for shape in SHAPES if shape in message]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise RequestError(400, f"the body must hold exactly one of {', '.join(SHAPES)}; it holds {found}")
    shape, value = given[0], message[given[0]]
    if shape == "dataframe_split":
        raw = _of_split(value)
    elif shape == "inputs":
        raw = _of_inputs(value)
    else:
        raw = _of_records(shape, value)
    columns: dict[str, Column] = {
        name: column_of_values(name, kinds[name], data) for name, data in raw.items() if name in kinds
    }
    lengths = {name: len(data) for name, data in raw.items()}
    if len(set(lengths.values())) > 1:
        (short, few), (long, many) = (pick(lengths.items(), key=lambda item: item[1]) for pick in (min, max))
        raise RequestError(400, f"column {long!r} has {many} rows, {short!r} has {few}")
    rows = next(iter(lengths.values()), 0)
    if rows == 0:
        raise RequestError(400, f"`{shape}` has no rows")
    return InferenceRequest(columns=columns, rows=rows)


def _of_split(value: Any) -> dict[str, list[Any]]:
    names = value.get("columns") if isinstance(value, dict) else None
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(400, "`dataframe_split` must hold `columns` (names) and `data` (a list of rows)")
    if len(set(names)) != len(names):
        raise RequestError(400, "`dataframe_split` names a column twice")
    for place, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            size = len(row) if isinstance(row, list) else "no"
            raise RequestError(400, f"row {place} of `dataframe_split` has {size} values for {len(names)} columns")
    return {name: [row[place] for row in data] for place, name in enumerate(names)}


def _of_records(shape: str, value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise RequestError(400, f"`{shape}` must be a list of objects, one a row")
    names = list(value[0]) if value else []
    for place, record in enumerate(value):
        if record.keys() != value[0].keys():
            odd = ", ".join(sorted(record.keys() ^ value[0].keys())[:5])
            raise RequestError(
                400, f"row {place} of `{shape}` differs from row 0 in {odd}", remedy="send null for a missing value"
            )
    return {name: [record[name] for record in value] for name in names}


def _of_inputs(value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, dict) or not all(isinstance(data, list) for data in value.values()):
        raise RequestError(400, "`inputs` must be an object: column → list of values")
    return {
        name: [item[0] for item in data] if data and all(isinstance(i, list) and len(i) == 1 for i in data) else data
        for name, data in value.items()
    }
