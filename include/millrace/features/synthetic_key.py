"""Keys of made-up rows: a different one for each row, so that every partition keeps its rows after the clean-up."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import count, islice, product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.cleanup import isolated
from millrace.cleanup.expression import parse_expression
from millrace.spec import SourceSpec
from millrace.spec.cleanup import DeriveStep, PythonStep, RenameStep

Fresh = Callable[[str, int, Collection[Any]], pa.Array | None]
"""Raw column, how many and values that are taken → other values; None where the column has a fixed set of them."""
_SEED = 7
_TRIED = 20  # texts looked at for each that is wanted


def made_of(source: SourceSpec, names: Iterable[str]) -> set[str]:
    """Raw columns that columns of the clean table follow from, by renames and derivations."""
    wanted = set(names)
    with isolated() as connection:
        for step in reversed(source.cleanup):
            if isinstance(step, RenameStep):
                old = {new: name for name, new in step.rename.items()}
                wanted = {old.get(name, name) for name in wanted}
            elif isinstance(step, DeriveStep):
                for name, expression in reversed(step.derive.items()):
                    if name in wanted:
                        wanted = (wanted - {name}) | parse_expression(connection, expression).names
            elif isinstance(step, PythonStep) and wanted & set(step.adds):
                wanted = (wanted - set(step.adds)) | set(source.raw_columns)
    return {name for name in source.raw_columns if name in wanted or name.lower() in wanted}


def spread_keys(
    source: SourceSpec, parts: Mapping[str, pa.Table], fresh: Fresh, grouped: Collection[str]
) -> dict[str, pa.Table]:
    """The same rows, those that repeat a key with another value in one column of it.

    Which row keeps a key is left to chance, so that first values meet those of other sources in every partition.

    Args:
        source: whose rows they are.
        parts: raw rows by partition.
        fresh: further values of a column.
        grouped: columns that feature tables group by; these are changed only where the key has no other.
    """
    together = pa.concat_tables(parts.values()).combine_chunks()
    columns = sorted(made_of(source, source.key)) if source.key else []
    if not columns or together.num_rows == 0:
        return dict(parts)
    repeated = _repeated(together, columns)
    for name in sorted(columns, key=lambda name: (name in grouped, name)):
        if len(repeated) == 0:
            break
        if (values := fresh(name, len(repeated), set(together[name].unique().to_pylist()))) is None:
            continue
        position = together.column_names.index(name)
        place = np.arange(together.num_rows)
        place[repeated[: len(values)]] = together.num_rows + np.arange(len(values))
        wide = pa.concat_arrays([together[name].combine_chunks(), values])
        together = together.set_column(position, together.schema.field(position), wide.take(pa.array(place)))
        repeated = _repeated(together, columns)
    first = np.cumsum([0, *(table.num_rows for table in parts.values())])
    return {
        key: together.slice(int(at), table.num_rows) for at, (key, table) in zip(first, parts.items(), strict=False)
    }


def scattered(column: str) -> str:
    """SQL that orders whole numbers of a column as if by chance, and always in the same way."""
    return f"({column} * 2654435761) % 4294967296"


def more_texts(base: list[str], pattern: str, taken: Collection[Any], wanted: int) -> list[str]:
    """Further texts of the kind of those there are, that match a pattern.

    Args:
        base: texts there are.
        pattern: regular expression; "" is any text.
        taken: texts that are not wanted.
        wanted: how many; there may be fewer that match.
    """
    looked_at = islice(_alike(base[-1]), _TRIED * (wanted + len(taken)))
    matching = (text for text in looked_at if re.search(pattern, text) and text not in taken)
    return list(islice(matching, wanted))


def _alike(text: str) -> Iterator[str]:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        start = date.fromisoformat(text)
        return ((start + timedelta(days=days)).isoformat() for days in range(1, 200_000))
    if text.isdigit():
        return (str(number) for number in count(int(text) + 1))
    if text.isalpha():
        letters = [chr(ord("A" if text.isupper() else "a") + place) for place in range(26)]
        return ("".join(item) for size in count(len(text)) for item in product(letters, repeat=size))
    return (f"{letter}{number}" for number in count(1001) for letter in "ABCD")


def _repeated(rows: pa.Table, columns: list[str]) -> np.ndarray[Any, Any]:
    """Places of rows whose values in some columns another row has, which chance put before it."""
    codes = [pc.dictionary_encode(rows[name].combine_chunks()).indices.fill_null(-1).to_numpy() for name in columns]
    order = np.random.default_rng(_SEED).permutation(rows.num_rows)
    _, first = np.unique(np.stack(codes, axis=1)[order], axis=0, return_index=True)
    again = np.ones(rows.num_rows, bool)
    again[order[first]] = False
    return np.flatnonzero(again)
