"""Keyed tokens in place of personal values: equal values give equal tokens, and nothing leads back without the key."""

from __future__ import annotations

import hmac

import pyarrow as pa
import pyarrow.compute as pc

from millrace.spec.source import SourceSpec

_DIGITS = 40


def token_of(value: str, key: bytes) -> str:
    """The token of a value: HMAC-SHA-256 (RFC 2104) cut to 160 bits, in hexadecimal.

    It depends on value and key alone, so that tokens of one installation can be joined across sources.
    """
    return f"tok_{hmac.digest(key, value.encode(), 'sha256').hex()[:_DIGITS]}"


def protect(batch: pa.RecordBatch, spec: SourceSpec, key: bytes) -> pa.RecordBatch:
    """A batch of the declared columns as the raw table may hold it: tokens for `tokenise`, `drop` left out.

    Args:
        batch: rows in the declared types.
        spec: their source.
        key: the installation's key.
    """
    if not spec.pii:
        return batch
    names, columns = [], []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        treatment = spec.pii.get(name)
        if treatment == "drop":
            continue
        names.append(name)
        columns.append(_tokens(column, key) if treatment == "tokenise" else column)
    return pa.RecordBatch.from_arrays(columns, names=names)


def _tokens(column: pa.Array, key: bytes) -> pa.Array:
    """Tokens of a column; nulls stay null. Each distinct value is hashed once."""
    distinct = column.dictionary_encode()
    texts = pc.cast(distinct.dictionary, pa.string()).to_pylist()
    return pa.array([token_of(text, key) for text in texts], pa.string()).take(distinct.indices)
